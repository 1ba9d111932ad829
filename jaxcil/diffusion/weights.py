"""Weights of a network: files of torch tensors to a tree of parameters, and back. Strict both ways.

Every tensor has one canonical name, that of today's diffusers and transformers. OLD_NAMES turns names of
older files into it; TREE_NAMES turns the path of a parameter into it. All else follows from the shapes of the
tree: a torch convolution is [O, I, h, w] and flax's [h, w, I, O]; a torch dense layer is [O, I] and flax's
[I, O]; the rest is equal. A tensor that is missing, left over, misshaped or not finite is an error which
names it: a network that is nearly right makes images that are nearly right.
"""

import json
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from flax import serialization, traverse_util
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from jaxcil import files
from jaxcil.errors import InputError

STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
FLAX_FILES = {
    "unet": "diffusion_flax_model.msgpack",
    "vae": "diffusion_flax_model.msgpack",
    "text_encoder": "flax_model.msgpack",
}

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
        (r"(?:text_model\.)?embeddings\.position_ids", ""),  # a constant that old files hold
        (
            r"(?!text_model\.)(.+)",
            r"text_model.\1",
        ),  # transformers 5 writes without the prefix, and reads both
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


def read(folder: str | os.PathLike, part: str, shapes: Mapping[str, Any], dtype: Any = np.float32) -> dict:
    """The parameters of one part of a pipeline.

    Args:
      folder: holds the weights: as safetensors, in one file or in shards with an index, or as their fp16
        variant, or as the msgpack of diffusers' Flax days. Each tensor may be float32, float16 or bfloat16.
      part: "unet", "vae" or "text_encoder".
      shapes: the tree that is expected, of anything with a shape: `jax.eval_shape(module.initial, key)`.
      dtype: of the parameters.

    Returns:
      A nested dict of numpy arrays like `shapes`.

    Raises:
      InputError: lists every tensor that is missing, left over, misshaped or not finite.
    """
    folder = pathlib.Path(folder)
    wanted: dict[tuple[str, ...], Any] = traverse_util.flatten_dict(dict(shapes))
    missing = set(wanted)
    parameters, problems = {}, []
    for name, path, array in _leaves(pathlib.Path(folder), part, wanted):
        if path not in wanted:
            problems.append(f"left over: {name} {list(array.shape)}")
            continue
        if path not in missing:
            problems.append(f"twice, under an old and a new name: {name}")
        missing.discard(path)
        if array.shape != tuple(wanted[path].shape):
            expected = list(wanted[path].shape)
            problems.append(
                f"misshaped: {name} is {list(array.shape)}, expected {expected} (in flax's order)"
            )
            continue
        parameters[path] = _cast(array, dtype)
        if not np.isfinite(parameters[path]).all():
            problems.append(f"not finite in {np.dtype(dtype).name}: {name}")
    problems += [f"missing: {_torch_name(part, path)}" for path in wanted if path in missing]
    if problems:
        raise InputError(
            f"the weights in {folder} do not fit its config.json:\n  "
            + "\n  ".join(problems)
            + "\nIs the file complete, and does config.json belong to it?"
        )
    return traverse_util.unflatten_dict(parameters)


def write(
    folder: str | os.PathLike, part: str, parameters: Mapping[str, Any], dtype: Any = np.float16
) -> pathlib.Path:
    """Writes the parameters of one part as one safetensors file with the names that torch libraries read.

    Args:
      folder: where to; it is made.
      part: "unet", "vae" or "text_encoder".
      parameters: nested dict of arrays.
      dtype: of the tensors in the file, float16 or float32.

    Raises:
      InputError: a parameter is not finite, or not in that dtype.
    """
    tensors, problems = {}, []
    for path, leaf in traverse_util.flatten_dict(dict(parameters)).items():
        name, array = _torch_name(part, path), np.asarray(leaf)
        tensors[name] = _cast(array.transpose(np.argsort(_axes(path, array.ndim))), dtype)
        if not np.isfinite(tensors[name]).all():
            problems.append(name)
    if problems:
        raise InputError(
            f"not finite in {np.dtype(dtype).name}, so nothing was written: {', '.join(problems)}. If they "
            "are finite in float32, save in float32."
        )
    target = pathlib.Path(folder) / f"{STEMS[part]}.safetensors"
    with files.written_aside(target) as aside:
        save_file(tensors, aside, metadata={"format": "pt"})
    return target


def _leaves(
    folder: pathlib.Path, part: str, wanted: Iterable[tuple[str, ...]]
) -> Iterator[tuple[str, tuple[str, ...], np.ndarray]]:
    """Name in the file, path in the tree, and value in the tree's order of axes, of every tensor."""
    paths = {_torch_name(part, path): path for path in wanted}
    for file in _files(folder, part):
        if file.suffix == ".msgpack":
            tree: Any = traverse_util.flatten_dict(serialization.msgpack_restore(file.read_bytes()))
            for path, array in tree.items():
                yield "/".join(path), path, array
            continue
        try:
            with safe_open(file, framework="numpy") as tensors:
                for name in tensors.keys():  # noqa: SIM118  not a mapping
                    canonical = _canonical_name(part, name)
                    if canonical:
                        path, tensor = paths.get(canonical, (canonical,)), tensors.get_tensor(name)
                        yield name, path, tensor.transpose(_axes(path, tensor.ndim))
        except (SafetensorError, FileNotFoundError) as error:
            raise InputError(f"{file} cannot be read as safetensors: {error}. Fetch it again.") from error


def _files(folder: pathlib.Path, part: str) -> list[pathlib.Path]:
    """The files that together hold the weights: the plain name, else the fp16 variant, else Flax's."""
    stem = STEMS[part]
    for single, index in (
        (f"{stem}.safetensors", f"{stem}.safetensors.index.json"),
        (f"{stem}.fp16.safetensors", f"{stem}.safetensors.index.fp16.json"),
        (FLAX_FILES[part], ""),
    ):
        if (folder / single).is_file():
            return [folder / single]
        if index and (folder / index).is_file():
            shards = json.loads((folder / index).read_text())["weight_map"].values()
            return [folder / shard for shard in sorted(set(shards))]
    pickles = sorted(
        item.name for item in folder.glob("*") if item.suffix in (".bin", ".ckpt", ".pt", ".pth")
    )
    if pickles:
        raise InputError(
            f"{folder} holds {', '.join(pickles)}: pickles can run code and are not read. Convert the "
            "pipeline to safetensors first: load it with diffusers and torch, then "
            "pipeline.save_pretrained(folder, safe_serialization=True)."
        )
    raise InputError(f"no weights in {folder}: expected {stem}.safetensors or its shards with an index.")


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
    """Contiguous and in a dtype; what does not fit it becomes infinite, which the caller looks for."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=dtype)


def _axes(path: tuple[str, ...], ndim: int) -> tuple[int, ...]:
    """The axes of a torch tensor in the order of the tree."""
    if path[-1] == "kernel" and ndim == 4:
        return (2, 3, 1, 0)
    return (1, 0) if path[-1] == "kernel" and ndim == 2 else tuple(range(ndim))
