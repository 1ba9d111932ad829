"""Configurations of the networks: diffusers' and transformers' config.json to fields of a module, and back.

A network module names its fields as config.json does, with the defaults of the original classes, so that a key which
an old file lacks keeps its original meaning. For keys that the module does not implement there is a table of the values
without effect; any other value is an error, since images from a half-understood model look plausible.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from jaxcil.errors import InputError

# How a network is run: fields of a module that are not part of its configuration. (A "dtype" in config.json says how
# the weights were stored.)
RUN_FIELDS = ("dtype", "convolution", "implementation", "mesh")

KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    types.NoneType: "null",
}


def module_fields(kind: str, module: type, config: Mapping[str, Any], inert: Mapping[str, Sequence]) -> dict:
    """The fields of a module that a configuration sets.

    Args:
      kind: what is configured, for messages ("UNet").
      module: a linen module class whose fields are named as in the configuration.
      config: config.json as a mapping. Unknown keys, and keys that start with "_", are ignored.
      inert: keys that the module does not implement, each with the values that have no effect; a list, one value
        per level, is inert if all its items are.

    Raises:
      InputError: names every key whose value is not implemented, or not of the kind that its field is annotated with.
    """
    refused = [
        f"{name}: {config[name]!r}" for name, values in inert.items() if not _inert(config.get(name), values)
    ]
    if refused:
        raise InputError(
            f"this {kind} needs features that are not supported: {', '.join(refused)}. Supported are the networks of "
            "Stable Diffusion 1.x and 2.x."
        )
    fields = {field.name: field for field in dataclasses.fields(module)}
    given = {name: _frozen(config[name]) for name in _config_names(module) if name in config}
    wrong = [
        f"{name} must be {_described(fields[name])}, got {value!r}"
        for name, value in given.items()
        if not _fits(value, fields[name].type, _positive(fields[name]))
    ]
    if wrong:
        raise InputError(f"this {kind} cannot be built from its config.json: {'; '.join(wrong)}.")
    return {name: _whole(value, fields[name].type) for name, value in given.items()}


def config_of(module: Any) -> dict[str, Any]:
    """The config.json of a module: the inverse of `module_fields`."""
    values = {name: getattr(module, name) for name in _config_names(type(module))}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def per_level(name: str, value: Any, levels: int) -> tuple[int, ...]:
    """A setting of one value or one per level, as one per level: numbers, or booleans."""
    values = value if isinstance(value, tuple) else (value,) * levels
    if len(values) != levels or not all(isinstance(item, int) for item in values):
        raise InputError(
            f"{name} must be one whole number (or boolean) or {levels}, one per level, got {value!r}."
        )
    return values


def require(condition: bool, message: str) -> None:
    """Raises an InputError with this message unless the condition holds."""
    if not condition:
        raise InputError(message)


def _config_names(module: type) -> list[str]:
    names = [field.name for field in dataclasses.fields(module)]
    return [name for name in names if name not in (*RUN_FIELDS, "name", "parent")]


def _inert(value: Any, values: Sequence) -> bool:
    if isinstance(value, list | tuple):
        return all(_inert(item, values) for item in value)
    return value is None or value in values


def _fits(value: Any, kind: Any, positive: bool) -> bool:
    """Whether a value, its lists as tuples, is of an annotated kind; with `positive`, numbers must be above 0."""
    if isinstance(kind, types.UnionType):
        return any(_fits(value, one, positive) for one in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        item, rest = typing.get_args(kind)
        length = isinstance(value, tuple) and (len(value) > 0 if rest is ... else len(value) == 2)
        return length and all(_fits(one, item, positive) for one in value)
    if kind in (int, float):
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return number and (kind is float or value == int(value)) and (value > 0 or not positive)
    return isinstance(value, kind)


def _positive(field: dataclasses.Field) -> bool:
    """Whether a field must be above 0: sizes, counts and divisors; but no shift that is 0 by default, nor token ids."""
    return field.default != 0 and not field.name.endswith("_token_id")


def _described(field: dataclasses.Field) -> str:
    kinds = typing.get_args(field.type) if isinstance(field.type, types.UnionType) else (field.type,)
    words = []
    for kind in kinds:
        several = typing.get_origin(kind) is tuple
        item = typing.get_args(kind)[0] if several else kind
        above = " above 0" if item in (int, float) and _positive(field) else ""
        words.append(f"a list, each {KINDS[item]}{above}" if several else KINDS[item] + above)
    return " or ".join(words)


def _whole(value: Any, kind: Any) -> Any:
    """2 for 2.0 where whole numbers are expected: some tools write them so."""
    if isinstance(value, tuple):
        return tuple(_whole(item, kind) for item in value)
    return int(value) if isinstance(value, float) and kind is not float else value


def _frozen(value: Any) -> Any:
    """Lists as tuples: fields of a module are hashed."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value
