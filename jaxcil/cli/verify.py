"""jaxcil verify DIR [--repair] [--model=FOLDER]

Reads the whole synthetic data set in DIR and prints a line for everything that is missing, cut off, altered, misplaced,
undecodable or of one colour, with its file, class and index. Exit status 0: nothing is wrong; 1: something is.
--repair draws the damaged shards again, and no others, with the model that the manifest names or with the same model in
FOLDER, then verifies again.
"""

import contextlib
import sys

from jaxcil.cli.arguments import read_flags
from jaxcil.errors import InputError
from jaxcil.workdir.record import locked


def main(arguments: list[str]) -> None:
    """Verifies, prints the findings and repairs if asked to; exits with status 1 if something is wrong."""
    directory, repairs, model = _parsed(arguments)
    from jaxcil.synthesis.dataset.manifest import (
        read_manifest,  # here, so that a mistyped flag is reported at once
    )
    from jaxcil.synthesis.dataset.verify import verify

    held = read_manifest(directory)  # before taking the lock makes a directory
    with locked(directory, "verify --repair") if repairs else contextlib.nullcontext():
        findings = verify(directory)
        print(*(f"{finding.file}: {finding.what}\n" for finding in findings), sep="", end="")
        if findings and repairs:
            from jaxcil.synthesis.drawing.repair import repair

            drawn = repair(directory, findings, model)
            findings = verify(directory)
            print(f"drawn again: {len(drawn)} shard(s)" + (", but still:" if findings else ""))
            print(*(f"{finding.file}: {finding.what}\n" for finding in findings), sep="", end="")
    size = f"{held.requests.total} images of {len(held.class_names)} classes in {len(held.requests.shards)} shards"
    bad = len({finding.file for finding in findings})
    print(
        f"{directory}: {size}, "
        + (f"{len(findings)} finding(s) in {bad} file(s)" if bad else "nothing wrong")
    )
    if findings:
        sys.exit(1)


def _parsed(arguments: list[str]) -> tuple[str, bool, str | None]:
    """Directory, --repair and --model."""
    flags = read_flags(arguments, {"directory": "one directory"}, repair=False, model=str)
    if flags["model"] is not None and not flags["repair"]:
        raise InputError("--model is for --repair; give both")
    return flags["directory"], flags["repair"], flags["model"]
