"""Weights of a network: files of torch tensors to a tree of parameters, and back. Strict both ways.

Every tensor has one canonical name, that of today's diffusers and transformers. OLD_NAMES turns names of older files
into it; TREE_NAMES turns the path of a parameter into it. The rest follows from the shapes of the tree: a torch
convolution is [O, I, h, w] and flax's [h, w, I, O]; a torch dense layer is [O, I] and flax's [I, O]; others are equal.
A tensor that is missing, left over, misshaped or not finite is an error which names it: a network that is nearly right
makes images that are nearly right.
"""

import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from jax.sharding import Sharding
from safetensors.numpy import save_file

from jaxcil.diffusion.tensor_files import (
    FLAX_FILES,
    PICKLES,
    STEMS,
    chosen_files,
    flax_tensors,
    torch_tensors,
)
from jaxcil.errors import InputError
from jaxcil.workdir import files

STORED = ("float16", "bfloat16", "float32", "float64")  # quantised tensors need a scale
SHOWN = 20  # maximum number of tensors listed per kind of problem

# (pattern, replacement), applied in order to the whole name; an empty name is dropped.
OLD_NAMES = {
    "unet": (),
    "vae": (
        (r"(.*\.mid_block\.attentions\.\d+)\.query\.(.*)", r"\1.to_q.\2"),
        (r"(.*\.mid_block\.attentions\.\d+)\.key\.(.*)", r"\1.to_k.\2"),
        (r"(.*\.mid_block\.attentions\.\d+)\.value\.(.*)", r"\1.to_v.\2"),
        (r"(.*\.mid_block\.attentions\.\d+)\.proj_attn\.(.*)", r"\1.to_out.0.\2"),
    ),
    "text_encoder": (
        (r"(?:text_model\.)?embeddings\.position_ids", ""),  # a constant in old files
        # transformers 5 writes without the prefix, and reads both
        (r"(?!text_model\.|text_projection\.)(.+)", r"text_model.\1"),
    ),
}
_LEAF = (r"/(kernel|scale|embedding)$", "/weight")
_NUMBER = (r"(?<!linear)_(\d+)/", r".\1/")  # down_blocks_0 is down_blocks.0, but linear_1 is itself
TREE_NAMES = {
    "unet": (_LEAF, _NUMBER, ("/", ".")),
    "vae": (
        (r"/query/", "/to_q/"),
        (r"/key/", "/to_k/"),
        (r"/value/", "/to_v/"),
        (r"/proj_attn/", "/to_out_0/"),
        _LEAF,
        _NUMBER,
        ("/", "."),
    ),
    "text_encoder": (_LEAF, ("/", ".")),
}


def read(
    folder: str | os.PathLike,
    part: str,
    shapes: Mapping[str, Any],
    dtype: Any = np.float32,
    *,
    variant: str | None = None,
    sharding: Sharding | None = None,
) -> dict:
    """The parameters of one part of a pipeline, each placed before the next is read.

    Args:
      folder: holds the weights as safetensors, in one file or in shards with an index, or as the msgpack of diffusers'
        Flax classes. Each tensor may be float32, float16 or bfloat16.
      part: "unet", "vae" or "text_encoder".
      shapes: the expected tree, of anything with a shape: `jax.eval_shape(module.initial, key)`.
      dtype: of the parameters.
      variant: the tag in the names of the files, such as "fp16"; None: see `tensor_files.chosen_files`.
      sharding: of every parameter; None: on the default device.

    Returns:
      A nested dict of arrays like `shapes`.

    Raises:
      InputError: names every tensor that is missing, left over, misshaped or not finite (the first 20 of each kind);
        or the file that is missing or unreadable.
    """
    folder = pathlib.Path(folder)
    leaves: dict[tuple[str, ...], Any] = traverse_util.flatten_dict(dict(shapes))
    missing = set(leaves)
    parameters, problems = {}, []
    for name, path, stored in _leaves(folder, part, variant, leaves, problems):
        if path not in leaves:
            problems.append(f"left over: {name} {list(stored.shape)}")
            continue
        if path not in missing:
            problems.append(f"twice, under an old and a new name: {name}")
        missing.discard(path)
        expected = tuple(leaves[path].shape)
        array = _as_dense_or_convolution(path, stored, expected)
        if array.shape != expected:
            problems.append(
                f"misshaped: {name} is {list(array.shape)}, expected {list(expected)} (in flax's order)"
            )
        elif array.dtype.name not in STORED:
            problems.append(f"not of a floating type: {name} is {array.dtype.name}")
        elif not np.isfinite(array := _cast(array, dtype)).all():
            problems.append(f"not finite in {np.dtype(dtype).name}: {name}")
        else:
            parameters[path] = jax.device_put(array, sharding)
    problems += [f"missing: {_torch_name(part, path)}" for path in leaves if path in missing]
    if problems:
        raise InputError(
            f"the weights in {folder} do not fit its config.json:\n  "
            + "\n  ".join(_shortened(problems))
            + "\nIs the file complete, and does config.json belong to it?"
        )
    return traverse_util.unflatten_dict(parameters)


def write(
    folder: str | os.PathLike, part: str, parameters: Mapping[str, Any], dtype: Any = np.float16
) -> pathlib.Path:
    """Writes the parameters of one part as one safetensors file with the names that torch libraries read.

    Weights of the part in other forms, which readers might prefer, are removed afterwards.

    Args:
      folder: the target; made if absent.
      part: "unet", "vae" or "text_encoder".
      parameters: nested dict of arrays.
      dtype: of the tensors in the file: float16, bfloat16 or float32.

    Raises:
      InputError: a parameter is not finite, or not in that dtype.
    """
    check_finite(part, parameters, dtype)
    tensors = {}
    for path, leaf in traverse_util.flatten_dict(dict(parameters)).items():
        array = np.asarray(leaf)
        tensors[_torch_name(part, path)] = _cast(array.transpose(np.argsort(_axes(path, array.ndim))), dtype)
    target = pathlib.Path(folder) / f"{STEMS[part]}.safetensors"
    with files.atomic_file(target) as aside:
        save_file(tensors, aside, metadata={"format": "pt"})
    for other in target.parent.iterdir():
        form_of_it = other.name.startswith((f"{STEMS[part]}.", f"{STEMS[part]}-")) or other.suffix in PICKLES
        if other != target and (form_of_it or other.name == FLAX_FILES[part]):
            other.unlink()
    return target


def check_finite(part: str, parameters: Mapping[str, Any], dtype: Any) -> None:
    """Refuses parameters of a part that are not finite, or not in a dtype.

    Raises:
      InputError: names them.
    """
    problems = [
        _torch_name(part, path)
        for path, leaf in traverse_util.flatten_dict(dict(parameters)).items()
        if not np.isfinite(_cast(np.asarray(leaf), dtype)).all()
    ]
    if problems:
        raise InputError(
            f"not finite in {np.dtype(dtype).name}, so nothing was written: {', '.join(_shortened(problems))}. If they "
            "are finite in float32, save in float32."
        )


def _leaves(
    folder: pathlib.Path,
    part: str,
    variant: str | None,
    expected: Iterable[tuple[str, ...]],
    problems: list[str],
) -> Iterator[tuple[str, tuple[str, ...], np.ndarray]]:
    """Name in the file, path in the tree, and value in the tree's order of axes, of every tensor."""
    present = [item.name for item in folder.iterdir()] if folder.is_dir() else []
    names = chosen_files(present, part, variant, str(folder))
    if names[0].endswith(".msgpack"):
        for path, array in flax_tensors(folder / names[0]):
            yield "/".join(path), path, array
        return
    paths = {_torch_name(part, path): path for path in expected}
    for name, tensor in torch_tensors(folder, names, problems):
        canonical = _canonical_name(part, name)
        if canonical:
            path = paths.get(canonical, (canonical,))
            yield name, path, tensor.transpose(_axes(path, tensor.ndim))


def _as_dense_or_convolution(path: tuple[str, ...], array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A dense kernel [I, O] as a convolution [1, 1, I, O] or back: some files hold one where today's have the other."""
    one = (1, 1)
    same = path[-1] == "kernel" and (array.shape == (*one, *shape) or shape == (*one, *array.shape))
    return array.reshape(shape) if same else array


def _shortened(problems: list[str]) -> list[str]:
    """At most SHOWN lines of each kind, which is the text before the colon, and the number of others."""
    kinds: dict[str, list[str]] = {}
    for problem in problems:
        kinds.setdefault(problem.partition(":")[0], []).append(problem)
    lines = []
    for kind, same in kinds.items():
        lines += same[:SHOWN]
        if len(same) > SHOWN:
            lines.append(f"... and {len(same) - SHOWN} more {kind}")
    return lines


def _torch_name(part: str, path: tuple[str, ...]) -> str:
    name = "/".join(path)
    for pattern, replacement in TREE_NAMES[part]:
        name = re.sub(pattern, replacement, name)
    return name


def _canonical_name(part: str, name: str) -> str:
    for pattern, replacement in OLD_NAMES[part]:
        name = re.sub(f"^(?:{pattern})$", replacement, name)
    return name


def _cast(array: np.ndarray, dtype: Any) -> np.ndarray:
    """Contiguous and in a dtype; what overflows becomes infinite, which the caller checks."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=dtype)


def _axes(path: tuple[str, ...], ndim: int) -> tuple[int, ...]:
    """The axes of a torch tensor in the order of the tree."""
    if path[-1] == "kernel" and ndim == 4:
        return (2, 3, 1, 0)
    return (1, 0) if path[-1] == "kernel" and ndim == 2 else tuple(range(ndim))
