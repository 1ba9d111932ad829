"""jaxcil verify DIR [--repair] [--model=FOLDER]

Reads the whole synthetic data set in DIR and prints a line for everything that is missing, cut off, altered, misplaced,
undecodable or of one colour, with its file, class and index. Exit status 0: nothing is wrong; 1: something is.
--repair draws the bad shards again, and no other, with the model that the manifest names or with that same model in
FOLDER, then verifies again.
"""

import contextlib
import sys

from absl import flags

from jaxcil.errors import InputError
from jaxcil.workdir.record import locked


def main(arguments: list[str]) -> None:
    """Verifies, prints the findings and, if asked to, repairs; exits with status 1 if something is wrong."""
    directory, wanted, model = _parsed(arguments)
    from jaxcil.synthesis.dataset.manifest import (
        read_manifest,  # here, so that a mistyped flag is told at once
    )
    from jaxcil.synthesis.dataset.verify import verify

    held = read_manifest(directory)  # before the lock makes a directory
    with locked(directory, "verify --repair") if wanted else contextlib.nullcontext():
        findings = verify(directory)
        print(*(f"{found.file}: {found.what}\n" for found in findings), sep="", end="")
        if findings and wanted:
            from jaxcil.synthesis.drawing.repair import repair

            drawn = repair(directory, findings, model)
            findings = verify(directory)
            print(f"drawn again: {len(drawn)} shard(s)" + (", but still:" if findings else ""))
            print(*(f"{found.file}: {found.what}\n" for found in findings), sep="", end="")
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
    values = flags.FlagValues()
    values.set_gnu_getopt(True)
    flags.DEFINE_bool("repair", False, "", flag_values=values)
    flags.DEFINE_string("model", None, "", flag_values=values)
    try:
        left = values(["jaxcil verify", *arguments])[1:]
    except flags.Error as error:
        raise InputError(str(error)) from None
    if len(left) != 1:
        raise InputError(f"expected one directory, got {' '.join(left) or 'none'}; write jaxcil verify DIR")
    repairs, model = bool(values["repair"].value), values["model"].value
    if model is not None and not repairs:
        raise InputError("--model is for drawing again; give it with --repair")
    return left[0], repairs, model
