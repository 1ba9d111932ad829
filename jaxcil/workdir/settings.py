"""Settings of a verb: frozen dataclasses whose fields have a comment, a type and a range, checked once at the edge.

A verb declares its settings as a frozen dataclass; a field that is itself such a dataclass is a group:

    @dataclasses.dataclass(frozen=True)
    class JudgeSettings:
        steps: int = field(1000, "optimiser steps", low=1, high=10**9)
        crop: int | None = field(None, "padding in pixels of a random crop; None: no crop", low=1, high=1024)

`config_dict` makes the ConfigDict that a file under configs/ changes; `resolve` makes checked settings from a changed
one or from a config.json. `jaxcil.cli.fields` reads fields from the command line and lists them for people.
"""

import copy
import dataclasses
import inspect
import json
import math
import re
import reprlib
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from jaxcil.errors import InputError, unknown_name

SIMPLE = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = 100
PLURAL = {int: "whole numbers", float: "numbers", str: "texts"}


class Field(NamedTuple):
    """A field of a settings dataclass or of a group in it."""

    name: str  # dotted
    kind: Any  # type hint
    default: Any
    metadata: Mapping[str, Any]


def field(
    default: Any,
    comment: str,
    *,
    low: float | None = None,
    high: float | None = None,
    below: float | None = None,
    choices: Iterable[str] | None = None,
    comments: Mapping[str, str] = types.MappingProxyType({}),
) -> Any:
    """A field of a settings dataclass.

    Args:
      default: its value unless a config says otherwise. A dict is copied for every instance; its fields are free.
      comment: what it is, for `--help-config`.
      low: smallest value, of a number or of each number in a tuple.
      high: largest value, included.
      below: upper bound, excluded.
      choices: the valid names, of a text or of each text in a tuple.
      comments: what the free fields of a dict are, by their dotted names in it.
    """
    names = None if choices is None else tuple(choices)
    metadata = {
        "comment": comment,
        "low": low,
        "high": high,
        "below": below,
        "choices": names,
        "comments": comments,
    }
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: copy.deepcopy(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def group(settings: Callable[[], Any], comment: str = "") -> Any:
    """A field that is a settings dataclass of its own, at `settings()`; without a comment its docstring is shown."""
    return dataclasses.field(default_factory=settings, metadata={"comment": comment})


def config_dict(settings: type) -> Any:
    """A ConfigDict with every field of a settings dataclass at its default; None becomes a typed placeholder."""
    config = _config_dict(settings())
    object.__setattr__(config, "made_from", settings)  # no field: ConfigDict keeps its fields elsewhere
    return config


def made_from(config: Any) -> type | None:
    """The settings dataclass that `config_dict` made a config from; None for other configs."""
    return getattr(config, "__dict__", {}).get("made_from")


def resolve(settings: type, config: Mapping[str, Any] | Any, prefix: str = "") -> Any:
    """The settings that a config describes.

    Args:
      settings: a settings dataclass.
      config: a ConfigDict or a nested dict with all of its fields and no others; lists are read as tuples.
      prefix: in front of the names of fields in messages.

    Raises:
      InputError: a field is missing or unknown, or a value has another type or is out of range.
    """
    if not _is_mapping(config):
        raise InputError(f"{prefix.rstrip('.') or 'a config'} must be a group of fields, got {shown(config)}")
    kinds = typing.get_type_hints(settings)
    for name in config:
        if name not in kinds:
            raise unknown_name("config field", f"{prefix}{name}", [f"{prefix}{known}" for known in kinds])
    values = {}
    for item in dataclasses.fields(settings):
        name = f"{prefix}{item.name}"
        if item.name not in config:
            raise InputError(f"the config has no field {name} ({item.metadata['comment']})")
        values[item.name] = _checked(name, config[item.name], kinds[item.name], item.metadata)
    return settings(**values)


def argument_comments(function: Callable[..., Any]) -> dict[str, str]:
    """What each argument of a function is: the first sentence that its docstring has about it."""
    text = " " + " ".join((inspect.getdoc(function) or "").partition("Args:")[2].split())
    comments = {}
    for name in inspect.signature(function).parameters:
        place = text.find(f" {name}: ")
        about = "" if place < 0 else text[place:].partition(": ")[2]
        comments[name] = re.split(r"(?<=[a-z0-9)\]])[.;] ", about)[0].rstrip(".")
    return comments


def as_dict(settings: Any) -> dict[str, Any]:
    """Settings as nested dicts of plain values, as config.json holds them: lists in place of tuples."""
    return json.loads(json.dumps(dataclasses.asdict(settings)))


def flat_fields(settings: Any, prefix: str = "") -> Iterator[Field]:
    """Every field of a settings dataclass, or of an instance of one: a group, then its fields under dotted names."""
    instance = settings() if isinstance(settings, type) else settings
    kinds = typing.get_type_hints(type(instance))
    for item in dataclasses.fields(instance):
        name, value = f"{prefix}{item.name}", getattr(instance, item.name)
        yield Field(name, kinds[item.name], value, item.metadata)
        if dataclasses.is_dataclass(value):
            yield from flat_fields(value, f"{name}.")


def flat_values(config: Any, prefix: str = "") -> dict[str, Any]:
    """The values of a ConfigDict or nested dict by dotted names."""
    values: dict[str, Any] = {}
    for name, value in config.items():
        values |= flat_values(value, f"{prefix}{name}.") if _is_mapping(value) else {f"{prefix}{name}": value}
    return values


def kind_options(kind: Any) -> tuple[Any, ...]:
    """The types that a type hint allows, None last."""
    union = typing.get_origin(kind) in (types.UnionType, typing.Union)
    return tuple(sorted(typing.get_args(kind) if union else (kind,), key=lambda item: item is type(None)))


def kind_name(kind: Any, limits: str = "") -> str:
    """A type in words, with the limits of its values."""
    names = []
    for item in kind_options(kind):
        if typing.get_origin(item) is tuple:
            name = f"a list of {PLURAL.get(typing.get_args(item)[0], 'values')}"
        else:
            name = "none" if item is type(None) else SIMPLE.get(item, "a value")
        names.append(f"{name} {limits}" if limits and item is not type(None) else name)
    return (", or " if limits else " or ").join(names)


def limits(metadata: Mapping[str, Any]) -> str:
    """The range of a field in words; empty where it has none."""
    low, high, below = (metadata[limit] for limit in ("low", "high", "below"))
    if high is not None:
        return f"at most {high:,}" if low is None else f"from {low:,} to {high:,}"
    if below is not None:
        return f"less than {below:,}" if low is None else f"at least {low:,} and less than {below:,}"
    return "" if low is None else f"at least {low:,}"


def shown(value: Any) -> str:
    """A value in a message, shortened if it is long."""
    try:
        return SHORT.repr(value)
    except ValueError:  # of Python, for a number of more than 4,300 digits
        return "a number of thousands of digits"


def _checked(name: str, value: Any, kind: Any, metadata: Mapping[str, Any]) -> Any:
    """A value of a field, if it has the field's type and lies in its range; ints are taken for floats."""
    if dataclasses.is_dataclass(kind):
        return resolve(typing.cast(type, kind), value, f"{name}.")
    kind, *others = kind_options(kind)
    if value is None and others:
        return None
    if kind is dict or typing.get_origin(kind) is dict:
        if not _is_mapping(value):
            raise InputError(f"{name} must be a group of fields, got {shown(value)}")
        return _free(name, value)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise InputError(f"{name} must be {kind_name(kind)}, got {shown(value)}")
        inner = typing.get_args(kind)[0]
        return tuple(_one(f"{name}[{n}]", item, inner, metadata) for n, item in enumerate(value))
    return _one(name, value, kind, metadata)


def _one(name: str, value: Any, kind: Any, metadata: Mapping[str, Any]) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 1e300 else math.inf
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise InputError(f"{name} must be {SIMPLE[kind]}, got {shown(value)}")
    if kind is float:
        _check_finite(name, value)
    low, high, below, choices = (metadata[limit] for limit in ("low", "high", "below", "choices"))
    if choices is not None and value not in choices:
        raise unknown_name(name, value, choices)
    if (
        (low is not None and value < low)
        or (high is not None and value > high)
        or (below is not None and value >= below)
    ):
        raise InputError(f"{name} must be {limits(metadata)}, got {shown(value)}")
    return value


def _free(name: str, value: Any) -> Any:
    """The value of a dict field: a copy with tuples for the lists of JSON, and no number that is not finite."""
    if _is_mapping(value):
        return {inner: _free(f"{name}.{inner}", item) for inner, item in value.items()}
    if isinstance(value, float):
        _check_finite(name, value)
    return tuple(value) if isinstance(value, list) else value


def _check_finite(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise InputError(f"{name} must be finite, got {value}")


def _config_dict(settings: Any) -> Any:
    from ml_collections import ConfigDict, config_dict  # here: settings are used without it as well

    kinds, config = typing.get_type_hints(type(settings)), ConfigDict()
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if dataclasses.is_dataclass(value):
            value = _config_dict(value)
        elif value is None:
            inner = kind_options(kinds[item.name])[0]
            value = config_dict.placeholder(typing.get_origin(inner) or inner)
        config[item.name] = value
    return config


def _is_mapping(value: Any) -> bool:
    return hasattr(value, "items")
