"""The files that hold the weights of one part of a pipeline: choosing them in a folder, and reading them.

A folder may hold the same weights several times: as safetensors in one file or in shards that an index lists, as
variants of these with a tag in their names (fp16, non_ema), as msgpack of diffusers' Flax classes, as pickles.
"""

import mmap
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from flax import serialization, traverse_util
from safetensors import SafetensorError, safe_open

from jaxcil.errors import InputError
from jaxcil.workdir import files

STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
FLAX_FILES = {
    "unet": "diffusion_flax_model.msgpack",
    "vae": "diffusion_flax_model.msgpack",
    "text_encoder": "flax_model.msgpack",
}
PICKLES = (".bin", ".ckpt", ".pt", ".pth")
QUANTISED = re.compile("F4|F6|F8|E8")  # prefixes of types that numpy does not have


def chosen_files(names: Iterable[str], part: str, variant: str | None, where: str) -> list[str]:
    """The files to read, of all in the folder of a part.

    Safetensors without a tag are preferred, then those of the only tag, then msgpack.

    Args:
      names: of the files in the folder.
      part: "unet", "vae" or "text_encoder".
      variant: a tag, such as "fp16"; None: as above.
      where: what to call the folder in messages.

    Returns:
      One file; or an index, followed by all files named like its shards.

    Raises:
      InputError: there is none; the message lists the variants, or says how to convert pickles.
    """
    names, stem = sorted(names), STEMS[part]
    tagged = {tag: _safetensors(names, stem, tag) for tag in _tags(names, stem)}
    if variant is not None:
        if variant not in tagged:
            raise InputError(
                f"no weights of the variant {variant!r} in {where}; its variants: {', '.join(tagged) or 'none'}."
            )
        return tagged[variant]
    plain = _safetensors(names, stem, "")
    if plain or len(tagged) == 1:
        return plain or tagged.popitem()[1]
    if tagged:
        raise InputError(f"{where} holds the variants {', '.join(tagged)}: choose one with variant=.")
    if FLAX_FILES[part] in names:
        return [FLAX_FILES[part]]
    pickles = [name for name in names if name.endswith(PICKLES)]
    if pickles:
        raise InputError(
            f"{where} holds {', '.join(pickles)}: pickles can run code and are not read. Convert the pipeline to "
            "safetensors first: jaxcil convert-pipeline SOURCE TARGET."
        )
    raise InputError(f"no weights in {where}: expected {stem}.safetensors or its shards with an index.")


def torch_tensors(
    folder: pathlib.Path, names: list[str], problems: list[str]
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and value of every tensor in safetensors, one at a time, out of a memory map.

    Args:
      folder: of the files.
      names: one file, or an index and its shards, as from `chosen_files`.
      problems: gets a line for every tensor that the index lists in a file which lacks it.

    Raises:
      InputError: a file is missing or cannot be read.
    """
    listed: dict[str, set[str]] = {names[0]: set()}
    if names[0].endswith(".json"):
        listed = _read_index(folder, names[0])
    for file, promised in listed.items():
        try:
            with safe_open(folder / file, framework="numpy") as tensors:
                held = list(tensors.keys())
                _refuse_quantised(folder / file, {name: tensors.get_slice(name).get_dtype() for name in held})
                problems += [
                    f"missing in {file}, where the index lists it: {name}"
                    for name in sorted(promised - set(held))
                ]
                for name in held:
                    yield name, tensors.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"{folder / file} cannot be read as safetensors: {error}. Fetch it again."
            ) from error


def flax_tensors(file: pathlib.Path) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """Path in the tree and value of every array in a msgpack file; each is released here once it is yielded.

    Raises:
      InputError: the file cannot be read, or is not a tree of named arrays.
    """
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            tree: dict[tuple[str, ...], Any] = traverse_util.flatten_dict(
                serialization.msgpack_restore(data)  # pyright: ignore[reportArgumentType]  any buffer will do
            )
    except (OSError, ValueError, TypeError, KeyError, AssertionError) as error:
        raise InputError(f"{file} cannot be read as msgpack of flax: {error}. Fetch it again.") from error
    for path, leaf in tree.items():
        if not all(isinstance(name, str) for name in path) or not isinstance(leaf, np.ndarray):
            raise InputError(
                f"{file} is not a tree of parameters: {'/'.join(map(str, path))} must be an array under names that are "
                f"texts, got a {type(leaf).__name__}. Is it the file of a network?"
            )
    while tree:
        yield tree.popitem()


def _refuse_quantised(file: pathlib.Path, kinds: dict[str, str]) -> None:
    quantised = {name: kind for name, kind in kinds.items() if QUANTISED.match(kind)}
    if quantised:
        name, kind = next(iter(quantised.items()))
        raise InputError(
            f"{len(quantised)} tensor(s) in {file} are quantised, the first is {name} in {kind}: give the pipeline in "
            "float16, bfloat16 or float32."
        )


def _tags(names: list[str], stem: str) -> list[str]:
    """The tags of variants with a single file or an index."""
    stem = re.escape(stem)
    spellings = (
        rf"{stem}\.([^.]+)\.safetensors",
        rf"{stem}\.safetensors\.index\.([^.]+)\.json",
        rf"{stem}\.safetensors\.([^.]+)\.index\.json",  # of older diffusers
    )
    tags = {match[1] for name in names for spelling in spellings if (match := re.fullmatch(spelling, name))}
    return sorted(tag for tag in tags if not re.search(r"-\d+-of-\d+$", tag))  # a shard is not a variant


def _safetensors(names: list[str], stem: str, tag: str) -> list[str]:
    """The single file of a tag, or its index and shards; empty if there is neither."""
    dotted = f".{tag}" if tag else ""
    single = f"{stem}{dotted}.safetensors"
    if single in names:
        return [single]
    number = r"-\d+-of-\d+"
    shard = "|".join(
        rf"{re.escape(stem + before)}{number}{re.escape(after)}\.safetensors"
        for before, after in ((dotted, ""), ("", dotted))
    )
    for index in (f"{stem}.safetensors.index{dotted}.json", f"{stem}.safetensors{dotted}.index.json"):
        if index in names:
            return [index, *(name for name in names if re.fullmatch(shard, name))]
    return []


def _read_index(folder: pathlib.Path, name: str) -> dict[str, set[str]]:
    """Shard -> the tensors that an index lists in it."""
    index = files.read_json(folder / name)
    try:
        places = {str(tensor): str(shard) for tensor, shard in index["weight_map"].items()}
    except (TypeError, KeyError, AttributeError):
        raise InputError(f"{folder / name} is not an index of shards: it has no weight_map.") from None
    shards: dict[str, set[str]] = {shard: set() for shard in sorted(set(places.values()))}
    for tensor, shard in places.items():
        shards[shard].add(tensor)
    outside = [shard for shard in shards if pathlib.PurePath(shard).name != shard]
    absent = [shard for shard in shards if shard not in outside and not (folder / shard).is_file()]
    if outside:
        raise InputError(f"{folder / name} names shards in other folders: {', '.join(outside)}.")
    if absent:
        raise InputError(f"{folder} lacks shards that {name} names: {', '.join(absent)}. Fetch them again.")
    return shards
