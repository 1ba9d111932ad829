"""Networks of a run on disk: the states of its seeds in a safetensors file, and an extractor for use outside it."""

import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import safetensors
import safetensors.flax
from jax import Array

from jaxcil.data.augmentation import augmentation
from jaxcil.errors import InputError
from jaxcil.extractors.by_name import make_network
from jaxcil.workdir import record

REMEDY = "Delete it, and start the run again to train it anew."


def save_states(path: pathlib.Path, states: Any) -> None:
    """Writes a pytree of arrays [runs, ...] and its checksum; the name of a tensor is its path in the tree."""
    record.write_checked(path, safetensors.flax.save(_by_path(states)))


def load_states(path: pathlib.Path, like: Any) -> Any:
    """What `save_states` wrote.

    Args:
      path: of the file.
      like: a tree of the structure, with arrays or their shapes.

    Returns:
      None if there is no such file, or if it is damaged, which is said on standard error: it is to be made again.

    Raises:
      InputError: it has no checksum; training again without being asked could take hours.
    """
    if path.exists() and not record.has_checksum(path):
        record.read_kept(path, REMEDY)
    content = record.read_checked(path)
    return None if content is None else _in_place(path, content, like)


def load_features(folder: str | os.PathLike, seed: int | None = None) -> Callable[[Array], Array]:
    """A function of uint8 images [N, H, W, 3] that gives features [N, D] of a run's frozen extractor.

    Args:
      folder: RUN/extractors/VARIANT, in the workdir of a `jaxcil run` that is done.
      seed: of the run; None: its first one.

    Raises:
      InputError: there is no such extractor, it is damaged, or the run has no such seed.
    """
    folder = pathlib.Path(folder)
    run = folder.parent.parent
    path = folder.with_name(f"{folder.name}.safetensors")
    if folder.parent.name != "extractors" or not (run / "results.json").exists() or not path.exists():
        raise InputError(
            f"{folder} is no extractor of a finished run; expected RUN/extractors/VARIANT, with RUN/results.json"
        )
    config = record.read_result(run / "results.json")["config"]
    position = 0
    if seed is not None:
        groups = record.read_kept_json(run / "seeds.json", "Bring back the file that was written.")
        path, position = _file_of(path, groups, seed)
    content = record.read_kept(path, REMEDY)
    tensors = safetensors.flax.load(content)  # pyright: ignore[reportArgumentType]
    training = config["training"]
    network = make_network(training["network"], training["dtype"], jax.lax.conv_general_dilated)
    prefix = "network/variables/"
    variables: dict[str, Any] = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            *parents, leaf = name.removeprefix(prefix).split("/")
            place = variables
            for parent in parents:
                place = place.setdefault(parent, {})
            place[leaf] = tensor[position]

    @jax.jit
    def features(images: Array) -> Array:
        computed: Any = network.apply(variables, augmentation.to_float(images))
        return computed.astype(jnp.float32)

    return features


def suffix(groups: list[list[int]], number: int) -> str:
    """What the files of a group of seeds have behind their names: nothing for the first, their seeds for later ones."""
    return "" if number == 0 else f".seeds-{'-'.join(map(str, groups[number]))}"


def _file_of(path: pathlib.Path, groups: list[list[int]], seed: int) -> tuple[pathlib.Path, int]:
    for number, group in enumerate(groups):
        if seed in group:
            return path.with_name(f"{path.stem}{suffix(groups, number)}{path.suffix}"), group.index(seed)
    known = ", ".join(str(one) for group in groups for one in group)
    raise InputError(f"{path.parent.parent} has no seed {seed}; its seeds are {known}")


def _by_path(tree: Any) -> dict[str, Array]:
    return {_name(path): jnp.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _in_place(path: pathlib.Path, content: bytes, like: Any) -> Any:
    try:
        tensors = safetensors.flax.load(content)
    except safetensors.SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file: {error}. {REMEDY}") from None

    def tensor(place: Any, leaf: Any) -> Array:
        name = _name(place)
        if name not in tensors or tensors[name].shape != leaf.shape:
            came = tensors[name].shape if name in tensors else "nothing"
            raise InputError(f"{path}: expected {name} of shape {list(leaf.shape)}, got {came}. {REMEDY}")
        return tensors[name]

    return jax.tree_util.tree_map_with_path(tensor, like)


def _name(path: Any) -> str:
    return "/".join(
        str(getattr(entry, "key", getattr(entry, "name", getattr(entry, "idx", "")))) for entry in path
    )
