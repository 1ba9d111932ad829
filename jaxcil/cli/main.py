"""The command `jaxcil VERB --config=FILE [--config.field=value] --workdir=DIR`.

Exit status 0: done; 1: a training went astray, or a data set is damaged; 2: bad input, told in a
message; 75: interrupted.
"""

import importlib
import importlib.util
import json
import pathlib
import re
import signal
import sys
from typing import Any, NoReturn

import jaxcil
from jaxcil.errors import InputError, unknown_name

VERBS = {
    "run": "train and evaluate incremental learners, and write a report",
    "generate": "make a labelled image set from class names",
    "verify": "find what is damaged in such a set, and draw it again",
    "filter": "keep what a classifier recognises in such a set",
    "import-images": "make a labelled image set from images of another tool",
    "prepare-data": "make files of a TFDS data set that are read without TensorFlow",
    "train-generator": "train a small Stable Diffusion",
    "convert-pipeline": "make a folder of safetensors from a checkpoint, pickles or a LoRA",
    "calibrate-sampler": "fit the noise of a sampler to a model at few calls",
    "report": "put finished runs side by side on one page",
    "evaluate-synthetic": "measure what a synthetic image set is worth",
    "compare-samplers": "measure the quality of samplers against their number of calls",
    "plan-pod": "say what drawing such a set takes of a TPU pod",
    "benchmark": "time a part of jaxcil beside its peer",
}
RESUMED = ("run", "generate", "import-images", "train-generator", "compare-samplers", "evaluate-synthetic")
INTERRUPTED = 75
# Groups whose fields a config may leave out, but for these.
OPTIONAL, NEEDED = ("head_options.", "synthetic."), ("synthetic.path", "synthetic.model")
NONE = re.compile(r"--config\.[^=]+=(none|None)$")  # flags have no way to say it


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs one verb and exits."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _dispatch(sys.argv[1:] if arguments is None else arguments)
    except InputError as error:
        print(f"jaxcil: {error}", file=sys.stderr)
        sys.exit(2)
    except FloatingPointError as error:  # a training that went astray
        print(f"jaxcil: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"jaxcil: interrupted; {', '.join(RESUMED)} go on from here", file=sys.stderr)
        sys.exit(INTERRUPTED)
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
    module = importlib.import_module(f"jaxcil.cli.{verb.replace('-', '_')}")
    if {"--help", "-h"} & set(rest):
        print(module.__doc__)
        return
    module.main(rest)


def parse(arguments: list[str], base: Any = None, **others: Any) -> tuple[Any, dict[str, Any]]:
    """Reads `--config`, its overrides and the flags of a verb.

    Args:
      arguments: those behind the verb.
      base: a ConfigDict with every field of the verb's configs. With it, a config may also be the config.json that a
        workdir holds.
      **others: name and default of every other flag; a default of None makes it required. All are strings.

    Returns:
      The locked ConfigDict and the values of the other flags.

    Raises:
      InputError: for an unknown flag, field or file, a value of the wrong type, or a missing flag.
    """
    from absl import flags  # here, as below: a benchmark runs where they are absent
    from ml_collections import config_flags

    # of a flag given twice the last counts; absl would join lists
    arguments = [*{argument.partition("=")[0]: argument for argument in _joined(arguments)}.values()]
    cleared = [argument for argument in arguments if NONE.match(argument)]
    arguments = [argument for argument in arguments if argument not in cleared]
    config = _loaded([argument for argument in arguments if argument.startswith("--config=")], base)
    known = _fields(config)
    arguments = [_checked(argument, known) for argument in arguments if not argument.startswith("--config=")]
    values = flags.FlagValues()
    for name, default in others.items():
        flags.DEFINE_string(name, default, "", flag_values=values)
    line = ["jaxcil", *arguments]
    try:
        config_flags.DEFINE_config_dict("config", config, lock_config=True, flag_values=values, sys_argv=line)
        left = values(line)[1:]
    except (flags.Error, TypeError, ValueError) as error:
        raise InputError(str(error)) from None
    if left:
        raise InputError(f"unexpected {' '.join(left)!r}; every argument starts with --")
    for name, default in others.items():
        if values[name].value is None or (default is None and not values[name].value):
            raise InputError(f"--{name} is missing")
    for argument in cleared:
        _clear(config, argument.partition("=")[0].removeprefix("--config."), base)
    return config, {name: values[name].value for name in others}


def _clear(config: Any, field: str, base: Any) -> None:
    """Sets a field to None, where nothing or a number may stand."""
    known, usual = _fields(config), {} if base is None else _fields(base)
    if field not in known:
        raise unknown_name("config field", field, known)
    if isinstance(known[field], bool | tuple | str) and usual.get(field, known[field]) is not None:
        raise InputError(f"--config.{field} cannot be none; it is {known[field]!r}")
    with config.unlocked():
        config.update_from_flattened_dict({field: None})


def _joined(arguments: list[str]) -> list[str]:
    """`--flag value` as `--flag=value`."""
    joined: list[str] = []
    for argument in arguments:
        bare = joined and joined[-1].startswith("--") and "=" not in joined[-1]
        if bare and not argument.startswith("--"):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _shipped() -> dict[str, pathlib.Path]:
    """Config files by name: those in the package, or beside it in a checkout."""
    package = pathlib.Path(jaxcil.__file__).parent
    for folder in (package / "configs", package.parent / "configs"):
        found = {path.stem: path for path in folder.glob("*.py")}
        if found:
            return found
    return {}


def _loaded(given: list[str], base: Any) -> Any:
    """The config of a file, a shipped config's name or a run's config.json."""
    if not given:
        raise InputError(f"--config is missing; give a file, or one of: {', '.join(sorted(_shipped()))}")
    path = _found(given[-1].partition("=")[2])
    config = _from_json(path, base) if base is not None and path.suffix == ".json" else _from_python(path)
    if base is not None:
        fields = _fields(config)
        for field in _fields(base):
            if field not in fields and (field in NEEDED or not field.startswith(OPTIONAL)):
                raise InputError(
                    f"{path} has no field {field}, so it is the config of another verb, or not a whole one: begin with "
                    "defaults() of jaxcil.experiment.settings"
                )
    return config


def _found(name: str) -> pathlib.Path:
    path, shipped = pathlib.Path(name), _shipped()
    if path.is_file():
        return path
    stem = path.name.removesuffix(".py")
    if stem not in shipped:
        raise InputError(f"{unknown_name('config', name, sorted(shipped))} Or give the path of a file.")
    return shipped[stem]


def _from_python(path: pathlib.Path) -> Any:
    spec = importlib.util.spec_from_file_location("config", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's file may raise
        raise InputError(f"{path} cannot be read as Python: {error!r}") from None
    if not hasattr(module, "get_config"):
        raise InputError(f"{path} is not a config: it has no get_config()")
    return module.get_config()


def _from_json(path: pathlib.Path, base: Any) -> Any:
    """A copy of the base with the values of a file; JSON has lists for tuples."""
    from ml_collections import ConfigDict

    config = ConfigDict(base).unlock()
    try:
        config.update(_tuples(json.loads(path.read_text())))
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a config that a run has written: {error}") from None
    return config


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _tuples(item) for name, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _checked(argument: str, known: dict[str, Any]) -> str:
    """Refuses overrides of fields that the config does not have, and lets lists of words go without quotes.

    ml_collections takes `--config.seeds=0,1` but wants `--config.heads="('ncm','fecam')"`.
    """
    flag, _, text = argument.partition("=")
    if not flag.startswith("--config."):
        return argument
    field = flag.removeprefix("--config.")
    if field not in known:
        raise unknown_name("config field", field, known)
    items = known[field] if isinstance(known[field], tuple) else None
    letters = any(character.isalpha() for character in text)
    if items is not None and not text:
        return f"{flag}=()"
    words = items is not None and (any(isinstance(item, str) for item in items) or (not items and letters))
    if words and not text.startswith(("(", "[", "'", '"')):
        return f"{flag}={tuple(word.strip() for word in text.split(','))!r}"
    return argument


def _fields(config: Any, prefix: str = "") -> dict[str, Any]:
    from ml_collections import ConfigDict

    fields: dict[str, Any] = {}
    for name, value in config.items():
        fields |= (
            _fields(value, f"{prefix}{name}.")
            if isinstance(value, ConfigDict)
            else {f"{prefix}{name}": value}
        )
    return fields
