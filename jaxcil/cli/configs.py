"""Config files: those that are shipped, the verb that each is of, and reading one."""

import ast
import dataclasses
import difflib
import functools
import importlib.util
import json
import pathlib
import re
from typing import Any

import jaxcil
from jaxcil.cli.fields import unknown_field
from jaxcil.errors import InputError
from jaxcil.workdir.settings import flat_fields, flat_values, made_from, shown

# How ml_collections says that a field, the first or second group, does not exist, before it prints the whole config.
ABSENT = re.compile(r"""\W*(?:Key "(\w+)" does|(\w+)\W*(?:$|\\n))""")
TAKES_CONFIGS_OF = {"plan-pod": "generate"}


class ConfigError(InputError):
    """A config is missing, or is not one of this verb; the command adds which there are.

    Attributes:
      path: the file; None where none was given.
    """

    def __init__(self, message: str, path: pathlib.Path | None = None):
        super().__init__(message)
        self.path = path


@functools.cache
def shipped() -> dict[str, pathlib.Path]:
    """Config files by name: those in the package, or next to it in a checkout."""
    package = pathlib.Path(jaxcil.__file__).parent
    for folder in (package / "configs", package.parent / "configs"):
        if paths := {path.stem: path for path in sorted(folder.glob("*.py"))}:
            return paths
    return {}


def docstring(path: pathlib.Path) -> str:
    """The docstring of a Python file, which is read and not run; empty where there is none."""
    try:
        return ast.get_docstring(ast.parse(path.read_bytes())) or ""
    except (OSError, ValueError, SyntaxError, MemoryError, RecursionError):
        return ""


def verb_of(path: pathlib.Path) -> str | None:
    """The verb whose config a file is: that of the command in its docstring that has this very file as --config."""
    pattern = rf"\bjaxcil ([\w-]+)[^\n]* --config=(?:\S*/)?{re.escape(path.stem)}(?:\.py)?\s"
    command = re.search(pattern, docstring(path) + "\n")
    return command[1] if command else None


def configs_of(verb: str) -> dict[str, pathlib.Path]:
    """The shipped configs that a verb takes."""
    owner = TAKES_CONFIGS_OF.get(verb, verb)
    return {name: path for name, path in shipped().items() if verb_of(path) == owner}


def load(name: str, base: Any = None) -> Any:
    """The config of a file, a shipped config's name, or a run's config.json.

    Args:
      name: a path, or the name of a shipped config.
      base: a ConfigDict with every field of the verb's configs; only with it a config may be a config.json.

    Raises:
      ConfigError: its fields are not those of `base`.
      InputError: there is no such file, or it cannot be read as a config.
    """
    path = _located(name)
    settings = made_from(base)
    if base is not None and path.suffix == ".json":
        config = _from_json(path, base)
    else:
        config = _from_python(path, [] if settings is None else [item.name for item in flat_fields(settings)])
    if settings is not None:
        try:
            _check_fields(config, settings)
        except InputError as error:
            raise ConfigError(f"{path}: {error}", path) from None
    return config


def _check_fields(config: Any, settings: type) -> None:
    """Refuses fields that are missing or unknown; values are checked when the settings are resolved."""
    declared = [item for item in flat_fields(settings) if not dataclasses.is_dataclass(item.kind)]
    free = tuple(f"{item.name}." for item in declared if isinstance(item.default, dict))
    names = [item.name for item in declared if f"{item.name}." not in free]
    values = flat_values(config)
    for name in values:
        if name not in names and not name.startswith(free):
            raise unknown_field(name, names)
    for name in names:
        if name not in values:
            raise InputError(
                f"it has no field {name}, so it is not a whole config; begin with the verb's defaults()"
            )


def _located(name: str) -> pathlib.Path:
    path = pathlib.Path(name)
    try:
        if path.is_file():
            return path
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise InputError(f"{shown(name)} cannot be read as a config: {error.strerror}") from None
    stem = path.name.removesuffix(".py")
    if stem in shipped():
        return shipped()[stem]
    near = difflib.get_close_matches(stem, shipped(), n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"there is no config {shown(name)}.{hint} Give the path of a file, or a name")


def _from_python(path: pathlib.Path, fields: list[str]) -> Any:
    from ml_collections import ConfigDict, FrozenConfigDict  # here: a benchmark runs where they are absent

    spec = importlib.util.spec_from_file_location("config", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise InputError("it has no get_config()")
        config = module.get_config()
    except (Exception, SystemExit) as error:  # whatever a user's file may raise
        reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"[:200]
        if isinstance(error, AttributeError | KeyError) and fields and (absent := ABSENT.match(str(error))):
            reason = f"{type(error).__name__}, {unknown_field(absent[1] or absent[2], fields)}"
        raise InputError(f"{path} cannot be used as a config: {reason}") from None
    if not isinstance(config, ConfigDict):
        raise InputError(
            f"{path} is not a config: get_config() must return a ConfigDict, got {shown(config)}"
        )
    return config.as_configdict() if isinstance(config, FrozenConfigDict) else config


def _from_json(path: pathlib.Path, base: Any) -> Any:
    """The values of a file, and those of the base where it has none; JSON has lists for tuples."""
    from ml_collections import ConfigDict

    try:
        values = json.loads(path.read_text())
        if not isinstance(values, dict):
            raise TypeError("it holds no fields")
        return ConfigDict(_merged(base.to_dict(), values))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is not a config that a run has written: {error}") from None


def _merged(base: Any, value: Any) -> Any:
    if isinstance(base, dict) and isinstance(value, dict):
        return base | {name: _merged(base.get(name), item) for name, item in value.items()}
    return tuple(value) if isinstance(value, list) else value
