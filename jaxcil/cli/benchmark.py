"""jaxcil benchmark NAME [--json=FILE]: times a part of jaxcil beside its peer, in one process.

Names: convolution, sample.
"""

import importlib
import json

from jaxcil import files
from jaxcil.errors import InputError, unknown_name

NAMES = ("convolution", "sample")


def main(arguments: list[str]) -> None:
    """Runs one benchmark and prints its figures."""
    names = [argument for argument in arguments if not argument.startswith("--")]
    options = [argument for argument in arguments if argument.startswith("--")]
    unknown = [option for option in options if not option.startswith("--json=")]
    if len(names) != 1 or unknown:
        raise InputError(f"expected one name of: {', '.join(NAMES)}; got {' '.join(arguments) or 'none'}")
    if names[0] not in NAMES:
        raise unknown_name("benchmark", names[0], NAMES)
    figures = importlib.import_module(f"jaxcil.benchmarks.{names[0]}").run()
    print(json.dumps(figures, indent=2))
    for option in options:
        files.write_json(option.removeprefix("--json="), figures)
