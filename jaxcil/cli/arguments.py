"""The arguments of a verb: values in places, flags, and a config with its overrides."""

import pkgutil
import sys
import types
from typing import Any

from jaxcil.cli.configs import ConfigError, load
from jaxcil.cli.fields import from_text, help_config, kinds_of, unknown_field
from jaxcil.errors import InputError, unknown_name
from jaxcil.workdir.settings import made_from


def parse(
    arguments: list[str], base: Any = None, places: dict[str, str] | None = None, **flags: Any
) -> tuple[Any, dict[str, Any]]:
    """Reads `--config`, its overrides `--config.field=value`, and what `read_flags` reads.

    Args:
      arguments: those after the verb.
      base: a ConfigDict with every field of the verb's configs, or "MODULE:FUNCTION" that returns it, which is imported
        once the flags are known to exist. With it, a config may also be the config.json that a workdir holds.
      places: as in `read_flags`.
      **flags: as in `read_flags`.

    Returns:
      The locked ConfigDict, and the other values by name.

    Raises:
      InputError: an unknown flag, field or file, a value of the wrong type, or a missing flag.
    """
    names, given = _split(arguments, flags)
    overrides = {name: given.pop(name) for name in [*given] if name.startswith("config.")}
    _check_known(given, {"config": None, "help-config": None, **flags})
    if "help-config" in given:
        print(_help(_loaded(base)))
        sys.exit(0)
    if "config" not in given:
        raise ConfigError("--config is missing; give a file, or the name of one that is shipped")
    path = given.pop("config")
    values = _values(names, given, places or {}, flags)
    defaults = _loaded(base)
    config = load(path or "", defaults)
    _override(config, defaults, {name.removeprefix("config."): text for name, text in overrides.items()})
    return config.lock(), values


def read_flags(
    arguments: list[str], places: dict[str, str] | None = None, repeated: bool = False, **flags: Any
) -> dict[str, Any]:
    """Reads what comes without a config: values in places, such as a folder, and flags.

    Args:
      arguments: those after the verb.
      places: name and description of each value that has no flag.
      repeated: the last place takes one or more values, as a list.
      **flags: name and default of each flag, whose type is that of the default; a type in its place makes the default
        None; None makes it text that is required.

    Raises:
      InputError: an unknown or missing flag, or a value of the wrong type.
    """
    names, given = _split(arguments, flags)
    _check_known(given, flags)
    return _values(names, given, places or {}, flags, repeated)


def _loaded(base: Any) -> Any:
    return pkgutil.resolve_name(base)() if isinstance(base, str) else base


def _split(arguments: list[str], flags: dict[str, Any]) -> tuple[list[str], dict[str, str | None]]:
    """Values without a flag, and the text of every flag; of a flag that is given twice the last text counts."""
    names: list[str] = []
    given: dict[str, str | None] = {}
    for argument in arguments:
        last = next(reversed(given), None)
        if argument.startswith("--"):
            name, equals, text = argument[2:].partition("=")
            given.pop(name, None)
            given[name] = text if equals else None
        elif last is not None and given[last] is None and not isinstance(flags.get(last), bool):
            given[last] = argument
        else:
            names.append(argument)
    return names, given


def _check_known(given: dict[str, Any], known: dict[str, Any]) -> None:
    for name in given:
        if name not in known:
            raise unknown_name("flag", f"--{name}", [f"--{flag}" for flag in known])


def _values(
    names: list[str],
    given: dict[str, str | None],
    places: dict[str, str],
    flags: dict[str, Any],
    repeated: bool = False,
) -> dict[str, Any]:
    if names and not places:
        raise InputError(f"unexpected {' '.join(names)!r}; every argument starts with --")
    if len(names) != len(places) and not (repeated and len(names) > len(places)):
        raise InputError(f"expected {' and '.join(places.values())}, got {' '.join(names) or 'none'}")
    values: dict[str, Any] = dict(zip(places, names))
    if repeated:
        values[[*places][-1]] = names[len(places) - 1 :]
    for name, default in flags.items():
        is_type = isinstance(default, type | types.GenericAlias)
        kind = default if is_type else str if default is None else type(default)
        text = given.get(name)
        if name not in given:
            values[name] = None if is_type else default
        elif text is None and kind is not bool:
            raise InputError(f"--{name} has no value; write --{name}=VALUE")
        else:
            text = "true" if text is None else text
            values[name] = text if kind is str else from_text(f"--{name}", text, kind)
        if default is None and not values[name]:
            raise InputError(f"--{name} is missing")
    return values


def _help(base: Any) -> str:
    settings = made_from(base)
    if settings is None:
        raise InputError("the fields of this verb's config are listed in its shipped configs alone")
    return f"Fields of the config, as --config.FIELD=VALUE; a list is a,b,c.\n\n{help_config(settings)}"


def _override(config: Any, base: Any, given: dict[str, str | None]) -> None:
    kinds = kinds_of(config, base)
    for name, text in given.items():
        if name not in kinds:
            raise unknown_field(name, kinds)
        if text is None and kinds[name] is not bool:
            raise InputError(f"--config.{name} has no value; write --config.{name}=VALUE")
        value = from_text(f"--config.{name}", "true" if text is None else text, kinds[name])
        try:
            with config.unlocked():
                config.update_from_flattened_dict({name: value})
        except (TypeError, ValueError) as error:
            raise InputError(f"--config.{name}: {error}") from None
