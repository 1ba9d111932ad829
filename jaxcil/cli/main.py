"""The command `jaxcil VERB --config=FILE [--config.field=value] --workdir=DIR`.

Exit status 0: done; 1: a training diverged, or a data set is damaged; 2: bad input, with a message;
75: interrupted, run again to resume.
"""

import importlib
import pathlib
import sys
import textwrap
from typing import NoReturn

import jaxcil
from jaxcil.cli.compiled import keep_compiled_programs
from jaxcil.cli.configs import TAKES_CONFIGS_OF, ConfigError, configs_of, docstring, verb_of
from jaxcil.errors import InputError, unknown_name
from jaxcil.workdir import interruption

VERBS = {
    "run": "train and evaluate incremental learners, and write a report",
    "generate": "make a labelled image set from class names",
    "verify": "find what is damaged in such a set, and draw it again",
    "filter": "choose the images of such a set that a classifier recognises",
    "import-images": "make a labelled image set from images of another tool",
    "prepare-data": "prepare a TFDS data set, to be read without TensorFlow",
    "train-generator": "train a small Stable Diffusion",
    "convert-pipeline": "make a folder of safetensors from a checkpoint, pickles or a LoRA",
    "calibrate-sampler": "fit the noise of a sampler to a model at few denoiser calls",
    "report": "compare finished runs on one page",
    "evaluate-synthetic": "measure what a synthetic image set is worth for training",
    "compare-samplers": "measure the quality of samplers against their denoiser calls",
    "plan-pod": "compute what drawing such a set needs of a TPU pod",
    "benchmark": "time a part of jaxcil next to its peer",
}
RESUMED = ("run", "generate", "import-images", "train-generator", "compare-samplers", "evaluate-synthetic")


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs one verb and exits."""
    try:
        interruption.install()
        _dispatch(sys.argv[1:] if arguments is None else arguments)
    except InputError as error:
        print(f"jaxcil: {error}", file=sys.stderr)
        sys.exit(2)
    except FloatingPointError as error:  # a training that went astray
        print(f"jaxcil: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"jaxcil: interrupted; {', '.join(RESUMED)} resume from here", file=sys.stderr)
        interruption.leave()
    finally:
        if arguments is None:  # the process ends now
            interruption.ignore()
    sys.exit(0)


def _dispatch(arguments: list[str]) -> None:
    verb, *rest = arguments or ["--help"]
    if verb in ("--help", "-h", "help"):
        print(f"{__doc__}\nVerbs:\n" + "\n".join(f"  {name:20}{what}" for name, what in VERBS.items()))
        return
    if verb == "--version":
        print(jaxcil.__version__)
        return
    if verb not in VERBS:
        raise unknown_name("verb", verb, VERBS)
    if {"--help", "-h"} & set(rest):
        print(_help(verb))
        return
    keep_compiled_programs()
    try:
        importlib.import_module(f"jaxcil.cli.{_module(verb)}").main(rest)
    except ConfigError as error:
        raise InputError(_explained(error, verb)) from None


def _module(verb: str) -> str:
    return verb.replace("-", "_")


def _help(verb: str) -> str:
    """The docstring of a verb and its shipped configs; neither is run, so that help comes at once."""
    lines = [docstring(pathlib.Path(__file__).with_name(f"{_module(verb)}.py"))]
    if configs := configs_of(verb):
        lines += ["\nConfigs:"]
        for name, path in configs.items():
            summary = docstring(path).partition("\n")[0]
            lines += textwrap.wrap(f"  {name:28}{summary}", 100, subsequent_indent=" " * 30)
        lines += [f"\njaxcil {verb} --help-config lists every field of a config."]
    return "\n".join(lines)


def _explained(error: ConfigError, verb: str) -> str:
    """The message of an error in a config, with the verb whose config it is and the configs of this one."""
    owner = None if error.path is None else verb_of(error.path)
    if owner == TAKES_CONFIGS_OF.get(verb, verb):
        return str(error)
    reason = f"{error.path} is a config of `jaxcil {owner}`" if owner else str(error)
    return f"{reason}. Configs of `jaxcil {verb}`: {', '.join(configs_of(verb))}"
