"""The extractor of a run, for use outside it: weights in safetensors, with an axis of seeds."""

import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import safetensors.flax
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

from jaxcil.data.augmentation import augmentation
from jaxcil.errors import InputError
from jaxcil.extractors.by_name import make_network
from jaxcil.workdir import files


class Frozen(NamedTuple):
    """What the first training leaves behind."""

    network: Any  # variables
    classifier: (
        Any  # parameters of the layer that it was trained under, over the first classes and the others
    )


def save(folder: pathlib.Path, frozen: Frozen) -> None:
    """Writes the extractors of all seeds, stacked, into FOLDER.safetensors."""
    tensors: Any = flatten_dict(frozen._asdict(), sep="/")
    files.write(_file(folder), safetensors.flax.save(tensors))


def load(folder: pathlib.Path) -> Frozen | None:
    """What `save` wrote, or None."""
    path = _file(folder)
    return (
        Frozen(**unflatten_dict(safetensors.flax.load(path.read_bytes()), sep="/")) if path.exists() else None
    )


def load_features(folder: str | os.PathLike) -> Callable[[Array], Array]:
    """A function of uint8 images [N, H, W, 3] that gives features [N, D] of an extractor, that of the first seed.

    Args:
      folder: RUN/extractors/NAME, in the workdir of a `jaxcil run` that came to its end.

    Raises:
      InputError: there is no such extractor.
    """
    folder = pathlib.Path(folder)
    results = folder.parent.parent / "results.json"
    stacked = load(folder) if folder.parent.name == "extractors" and results.exists() else None
    if stacked is None:
        raise InputError(
            f"{folder} is no extractor of a finished run; expected RUN/extractors/NAME, with RUN/results.json"
        )
    settings = files.read_json(results)["config"]["extractor"]
    network = make_network(settings["network"], settings["dtype"], jax.lax.conv_general_dilated)
    variables = jax.tree.map(lambda leaf: leaf[0], stacked.network)

    @jax.jit
    def features(images: Array) -> Array:
        found: Any = network.apply(variables, augmentation.to_float(images))
        return found.astype(jnp.float32)

    return features


def _file(folder: pathlib.Path) -> pathlib.Path:
    return folder.with_name(f"{folder.name}.safetensors")
