"""jaxcil benchmark NAME [--json=FILE]: times a part of jaxcil and its peer in one run.

Names: convolution, generate, heads, learners, sample, train. Options of generate:
  --model=digits|sd15|FOLDER   sd15 is Stable Diffusion 1.5's shape with made-up parameters
  --size=PIXELS --nfe=N --dtype=float32|bfloat16
  --batch=8,16,32 --attention=xla,cudnn   all are tried, and the fastest is analysed
  --profile=DIR                a trace of one batch, and a summary of it
Options of train:
  --network=resnet32|resnet18 --batch=N
Options of learners:
  --only=icarl,lucir,podnet --batch=N
Options of heads:
  --only=fecam,fetril_svm,...  some of ncm, slda, fecam, fetril_svm, fetril_fc, acil, ranpac, herding
  --classes=N --dim=D --images=N --test=N --buffer=M --projection=M --epochs=N --exemplars=N
  --rounds=N                   the smallest time of N rounds
"""

import importlib
import json
from typing import Any

from jaxcil.cli.arguments import read_flags
from jaxcil.errors import unknown_name
from jaxcil.workdir import files

WORDS, NUMBERS = tuple[str, ...], tuple[int, ...]
SIZES = ("classes", "dim", "images", "test", "buffer", "projection", "epochs", "exemplars", "rounds")
# Name -> its options and their types.
OPTIONS: dict[str, dict[str, Any]] = {
    "convolution": {},
    "generate": {
        "model": str,
        "size": int,
        "batch": NUMBERS,
        "nfe": int,
        "dtype": str,
        "attention": WORDS,
        "profile": str,
    },
    "heads": {"only": WORDS, **dict.fromkeys(SIZES, int)},
    "learners": {"only": WORDS, "batch": int},
    "sample": {},
    "train": {"network": str, "batch": int},
}


def main(arguments: list[str]) -> None:
    """Runs one benchmark and prints its figures."""
    options = OPTIONS.get(next((name for name in arguments if not name.startswith("--")), ""), {})
    flags = read_flags(arguments, {"name": f"one name of {', '.join(OPTIONS)}"}, json=str, **options)
    name, path = flags.pop("name"), flags.pop("json")
    if name not in OPTIONS:
        raise unknown_name("benchmark", name, OPTIONS)
    given = {option: value for option, value in flags.items() if value is not None}
    figures = importlib.import_module(f"jaxcil.benchmarks.{name}").run(**given)
    print(json.dumps(figures, indent=2))
    if path is not None:
        files.write_json(path, figures)
