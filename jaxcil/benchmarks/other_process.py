"""A peer in a process of its own: two thread pools in one process compete for the cores, and this process sleeps.

The first line describes the work, and its answer means that it is made and warm; every further line calls it once.
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
def calling(module: str, arguments: dict[str, Any]) -> Iterator[tuple[str, Callable[[], object]]]:
    """Runs a module whose main is `serve`, as long as the context lasts.

    Args:
      module: its name.
      arguments: of its `make`.

    Yields:
      Its answer when it was ready, and a function that does the work once.

    Raises:
      RuntimeError: the process ended; the reason is on standard error.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    requests, answers = process.stdin, process.stdout
    assert requests
    assert answers

    def answer_to(line: str) -> str:
        try:
            requests.write(f"{line}\n")
            requests.flush()
            answer = answers.readline().strip()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(f"the process of {module} ended early; its output is above")
        return answer

    with process:
        try:
            yield answer_to(json.dumps(arguments)), functools.partial(answer_to, "call")
        finally:
            process.kill()
            with contextlib.suppress(BrokenPipeError):  # a line that it did not read
                requests.close()


def serve(make: Callable[..., tuple[str, Callable[[], object]]]) -> None:
    """Makes the work that the first line describes and answers with its name; then does it once for each line.

    Args:
      make: gives a name and the work, by the arguments of `calling`.
    """
    arguments = json.loads(sys.stdin.readline())
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # so that what libraries print is not read as an answer
    name, call = make(**arguments)
    print(name, file=answers, flush=True)
    for _ in sys.stdin:
        call()
        print("done", file=answers, flush=True)
