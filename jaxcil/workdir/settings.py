"""Settings of a verb: frozen dataclasses whose fields have a comment, a type and a range, checked once at the edge.

A verb declares its settings as a frozen dataclass; a field that is itself such a dataclass is a group:

    @dataclasses.dataclass(frozen=True)
    class JudgeSettings:
        steps: int = field(1000, "optimiser steps", low=1, high=10**9)
        crop: int | None = field(None, "padding in pixels of a random crop; None: no crop", low=1, high=1024)

`config_dict` makes of it the ConfigDict that a file under configs/ changes, `resolve` makes of a changed ConfigDict (or
of a config.json) the settings, with every value checked, and `described` lists all fields for people.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from jaxcil.errors import InputError, unknown_name

SIMPLE = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def field(
    default: Any,
    comment: str,
    *,
    low: float | None = None,
    high: float | None = None,
    below: float | None = None,
    choices: typing.Iterable[str] | None = None,
) -> Any:
    """A field of a settings dataclass.

    Args:
      default: its value unless a config says otherwise. A dict or a mutable value is copied for every instance.
      comment: what it is, for `--help-config`.
      low: smallest value, of a number or of each number of a tuple.
      high: largest value, included.
      below: upper bound, excluded.
      choices: the valid names, of a text or of each text of a tuple.
    """
    names = None if choices is None else tuple(choices)
    metadata = {"comment": comment, "low": low, "high": high, "below": below, "choices": names}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: _copied(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def group(settings: type, comment: str = "") -> Any:
    """A field that is a settings dataclass of its own, at its defaults."""
    return dataclasses.field(default_factory=settings, metadata={"comment": comment})


def config_dict(settings: type) -> Any:
    """A ConfigDict with every field of a settings dataclass at its default; None becomes a typed placeholder."""
    return _config_dict(settings())


def resolve(settings: type, config: Mapping[str, Any] | Any, prefix: str = "") -> Any:
    """The settings that a config describes.

    Args:
      settings: a settings dataclass.
      config: a ConfigDict or a nested dict with all of its fields and no others.
      prefix: in front of the names of fields in messages.

    Raises:
      InputError: a field that is missing or unknown, or a value of another type or out of its range.
    """
    known = {item.name: item for item in dataclasses.fields(settings)}
    kinds = typing.get_type_hints(settings)
    values = {}
    for name in config:
        if name not in known:
            raise unknown_name(
                "config field", f"{prefix}{name}", [f"{prefix}{known_name}" for known_name in known]
            )
    for name, item in known.items():
        if name not in config:
            raise InputError(f"the config has no field {prefix}{name}; {item.metadata['comment']}")
        value, kind = config[name], kinds[name]
        if dataclasses.is_dataclass(kind):
            if not _is_mapping(value):
                raise InputError(f"{prefix}{name} is a group of fields, got {value!r}")
            values[name] = resolve(typing.cast(type, kind), value, f"{prefix}{name}.")
        else:
            values[name] = _checked(f"{prefix}{name}", value, kind, item.metadata)
    return settings(**values)


def as_dict(settings: Any) -> dict[str, Any]:
    """Settings as nested dicts of plain values, as config.json holds them: lists in place of tuples."""
    return _plain(dataclasses.asdict(settings))


def described(settings: type, prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Name, type, default and comment of every field, those of groups under dotted names."""
    kinds, defaults = typing.get_type_hints(settings), settings()
    for item in dataclasses.fields(settings):
        name, kind, value = f"{prefix}{item.name}", kinds[item.name], getattr(defaults, item.name)
        if dataclasses.is_dataclass(kind):
            yield from described(typing.cast(type, kind), f"{name}.")
        elif isinstance(value, dict):
            for key, inner in _flat(value, f"{name}."):
                yield key, type(inner).__name__, str(inner), item.metadata["comment"]
        else:
            yield name, _kind_name(kind), str(value), item.metadata["comment"] + _range(item.metadata)


def _checked(name: str, value: Any, kind: Any, metadata: Mapping[str, Any]) -> Any:
    """A value of a field, if it has the field's type and lies in its range; ints are taken for floats."""
    if kind is dict or typing.get_origin(kind) is dict:
        return _to_dict(value)
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if value is None and type(None) in kinds:
        return None
    (kind,) = (item for item in kinds if item is not type(None))
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        if isinstance(value, str) or not isinstance(value, list | tuple):
            raise InputError(f"{name} must be a list of values, got {value!r}")
        return tuple(_one(name, item, inner, metadata) for item in value)
    return _one(name, value, kind, metadata)


def _one(name: str, value: Any, kind: Any, metadata: Mapping[str, Any]) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 2**53 else math.inf
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise InputError(f"{name} must be {SIMPLE[kind]}, got {value!r}")
    if kind is float and not math.isfinite(value):
        raise InputError(f"{name} must be finite, got {value}")
    if metadata["choices"] is not None and value not in metadata["choices"]:
        raise unknown_name(name, value, metadata["choices"])
    low, high, below = metadata["low"], metadata["high"], metadata["below"]
    if (
        (low is not None and value < low)
        or (high is not None and value > high)
        or (below is not None and value >= below)
    ):
        raise InputError(f"{name} must be {_interval(metadata)}, got {value}")
    return value


def _interval(metadata: Mapping[str, Any]) -> str:
    low, high, below = metadata["low"], metadata["high"], metadata["below"]
    if high is None and below is None:
        return f"at least {low}"
    if low is None:
        return f"at most {high}" if below is None else f"less than {below}"
    return f"from {low} to {high}" if below is None else f"in [{low}, {below})"


def _range(metadata: Mapping[str, Any]) -> str:
    if metadata["choices"] is not None:
        return f" [{', '.join(metadata['choices'])}]"
    if metadata["low"] is None and metadata["high"] is None and metadata["below"] is None:
        return ""
    return f" [{_interval(metadata)}]"


def _kind_name(kind: Any) -> str:
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    names = [
        f"tuple of {typing.get_args(item)[0].__name__}"
        if typing.get_origin(item) is tuple
        else "none"
        if item is type(None)
        else item.__name__
        for item in kinds
    ]
    return " or ".join(names)


def _config_dict(settings: Any) -> Any:
    from ml_collections import ConfigDict, config_dict  # here: settings are used without it as well

    kinds, config = typing.get_type_hints(type(settings)), ConfigDict()
    for item in dataclasses.fields(settings):
        value, kind = getattr(settings, item.name), kinds[item.name]
        if dataclasses.is_dataclass(value):
            config[item.name] = _config_dict(value)
        elif value is None:
            (inner,) = (one for one in typing.get_args(kind) if one is not type(None))
            config[item.name] = config_dict.placeholder(typing.get_origin(inner) or inner)
        else:
            config[item.name] = value
    return config


def _is_mapping(value: Any) -> bool:
    return hasattr(value, "items")


def _to_dict(value: Any) -> Any:
    return {name: _to_dict(item) for name, item in value.items()} if _is_mapping(value) else value


def _copied(value: Any) -> Any:
    return {name: _copied(item) for name, item in value.items()} if isinstance(value, dict) else value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _flat(value: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, item in value.items():
        if isinstance(item, dict):
            yield from _flat(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", item
