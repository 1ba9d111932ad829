"""Configurations of the networks: diffusers' and transformers' config.json to fields of a module, and back.

A network module names its fields as config.json does, with the defaults of the original classes, so that a
key which an old file lacks has its meaning of then. What the module cannot do is a table of the values that
ask for nothing; any other value is an error, since images from a half-understood model look plausible.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jaxcil.errors import InputError

# How a network is run: fields of a module that are not part of its configuration. (Where config.json has a
# "dtype", it tells how the weights were stored.)
RUN_FIELDS = ("dtype", "convolution", "implementation", "mesh")


def module_fields(kind: str, module: type, config: Mapping[str, Any], inert: Mapping[str, Sequence]) -> dict:
    """The fields of a module that a configuration sets.

    Args:
      kind: what is configured, for messages ("UNet").
      module: a linen module class whose fields are named as in the configuration.
      config: config.json as a mapping. Unknown keys, and keys that start with "_", are ignored.
      inert: keys that the module does not implement, each with the values that make no difference; a list,
        which is one value a level, is inert if all its items are.

    Raises:
      InputError: names every key that asks for what is not implemented.
    """
    refused = [
        f"{name}: {config[name]!r}" for name, values in inert.items() if not _inert(config.get(name), values)
    ]
    if refused:
        raise InputError(
            f"this {kind} needs what is not supported: {', '.join(refused)}. Supported are the networks of "
            "Stable Diffusion 1.x and 2.x."
        )
    return {name: _frozen(config[name]) for name in _config_names(module) if name in config}


def config_of(module: Any) -> dict[str, Any]:
    """The config.json of a module: the inverse of `module_fields`."""
    values = {name: getattr(module, name) for name in _config_names(type(module))}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def per_level(name: str, value: Any, levels: int) -> tuple[int, ...]:
    """A setting that may be one value or one a level, as one a level: numbers, or booleans."""
    values = value if isinstance(value, tuple) else (value,) * levels
    if len(values) != levels or not all(isinstance(item, int) for item in values):
        raise InputError(
            f"{name} must be one whole number (or boolean) or {levels}, one a level, got {value!r}."
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


def _frozen(value: Any) -> Any:
    """Lists as tuples: fields of a module are hashed."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value
