"""A peer in a process of its own: two thread pools in one process take each other's cores, and this one sleeps.

A line asks for the work, whose answer tells that it is made and warm; every further line calls it once.
"""

import contextlib
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def calling(module: str, asked: dict[str, Any]) -> Iterator[tuple[str, Callable[[], object]]]:
    """Work of a module whose main is `serve`, as long as the context lasts.

    Args:
      module: its name.
      asked: arguments of what it makes.

    Yields:
      What it said when it was ready, and a function that returns when the work is done once.

    Raises:
      RuntimeError: the process ended; it says why on the standard error.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    asking, answers = process.stdin, process.stdout
    assert asking
    assert answers

    def tell(line: str) -> str:
        try:
            asking.write(f"{line}\n")
            asking.flush()
            answer = answers.readline().strip()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(f"the process of {module} ended early; what it said stands above")
        return answer

    with process:
        try:
            yield tell(json.dumps(asked)), functools.partial(tell, "call")
        finally:
            process.kill()
            with contextlib.suppress(BrokenPipeError):  # of a line that it did not take
                asking.close()


def serve(make: Callable[..., tuple[str, Callable[[], object]]]) -> None:
    """Makes what the first line asks for and answers with its name; then calls it, once for each line.

    Args:
      make: of the arguments that are asked for; gives a name and the work.
    """
    asked = json.loads(sys.stdin.readline())
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    name, call = make(**asked)
    print(name, file=answers, flush=True)
    for _ in sys.stdin:
        call()
        print("done", file=answers, flush=True)
