"""jaxcil benchmark NAME [--json=FILE]: times a part of jaxcil beside its peer.

Names: convolution, generate, heads, sample, train. Options of generate:
  --model=digits|sd15|FOLDER   sd15 is Stable Diffusion 1.5's shape with made-up parameters
  --size=PIXELS --calls=N --dtype=float32|bfloat16
  --batch=8,16,32 --attention=xla,cudnn   all are tried, and the fastest is taken apart
  --profile=DIR                a trace of one batch, and a summary of it
Options of train:
  --network=resnet32|resnet18 --batch=N
Options of heads:
  --only=fecam,fetril_svm,...  some of ncm, slda, fecam, fetril_svm, fetril_fc, acil, ranpac, herding
  --classes=N --dim=D --images=N --test=N --buffer=M --projection=M --epochs=N --exemplars=N
  --rounds=N                   the smallest time of so many
"""

import importlib
import json
from collections.abc import Callable
from typing import Any

from jaxcil.errors import InputError, unknown_name
from jaxcil.workdir import files


def _words(text: str) -> list[str]:
    return text.split(",")


def _numbers(text: str) -> list[int]:
    return [int(word) for word in _words(text)]


# Name -> its options, and what reads their values.
OPTIONS: dict[str, dict[str, Callable[[str], Any]]] = {
    "convolution": {},
    "generate": {
        "model": str,
        "size": int,
        "batch": _numbers,
        "calls": int,
        "dtype": str,
        "attention": _words,
        "profile": str,
    },
    "heads": {
        "only": _words,
        **dict.fromkeys(
            ("classes", "dim", "images", "test", "buffer", "projection", "epochs", "exemplars", "rounds"), int
        ),
    },
    "sample": {},
    "train": {"network": str, "batch": int},
}


def main(arguments: list[str]) -> None:
    """Runs one benchmark and prints its figures."""
    names = [argument for argument in arguments if not argument.startswith("--")]
    given = dict(argument[2:].split("=", 1) for argument in arguments if "=" in argument)
    bare = [argument for argument in arguments if argument.startswith("--") and "=" not in argument]
    if len(names) != 1 or bare:
        raise InputError(
            f"expected one name of: {', '.join(OPTIONS)}, and options as --NAME=VALUE; got "
            f"{' '.join(arguments) or 'none'}"
        )
    if names[0] not in OPTIONS:
        raise unknown_name("benchmark", names[0], OPTIONS)
    path, known = given.pop("json", None), OPTIONS[names[0]]
    options = {}
    for name, text in given.items():
        if name not in known:
            raise unknown_name("option", name, [*known, "json"])
        try:
            options[name] = known[name](text)
        except ValueError:
            raise InputError(f"--{name} takes whole numbers, got {text!r}") from None
    figures = importlib.import_module(f"jaxcil.benchmarks.{names[0]}").run(**options)
    print(json.dumps(figures, indent=2))
    if path is not None:
        files.write_json(path, figures)
