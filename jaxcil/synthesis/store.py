"""A synthetic data set on disk.

    manifest.json                                 what the set is to hold and how its images are made
    synthetic-train.array_record-00000, ...       a shard: a fixed range of requests, in their order
    synthetic-train.array_record-00000.json, ...  its sidecar: checksum, backend, versions
    dataset_info.json, features.json              for tfds.builder_from_directory, once all shards stand
    README.md, contact_sheet.png                  for people

Every file is written aside, synced and renamed. A shard stands once its sidecar does, and says what it was made
for: config and requests. No file has a time in it, so that equal sets are equal files. Records carry class,
index and request number; their place in a file says nothing.
"""

import hashlib
import io
import os
import pathlib
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from PIL import Image

from jaxcil import files
from jaxcil.data.datasets import ImageSet
from jaxcil.data.png import png
from jaxcil.errors import InputError
from jaxcil.synthesis import requests
from jaxcil.synthesis.manifest import Manifest, digest, package_versions, read_manifest

NAME, VERSION = "synthetic", "1.0.0"


def missing_shards(directory: str | os.PathLike, manifest: Manifest) -> list[int]:
    """Numbers of the shards that do not stand, or were made for something else."""
    return [n for n in range(len(manifest.requests.shards)) if not _stands(directory, manifest, n)]


def write_shard(
    directory: str | os.PathLike, manifest: Manifest, shard: int, images: Iterable[np.ndarray], backend: str
) -> None:
    """Writes one shard and its sidecar.

    Args:
      directory: of the data set.
      manifest: its manifest.
      shard: number of the shard.
      images: uint8 [H, W, 3] in the order of the shard's requests.
      backend: platform and device that drew them.
    """
    path = shard_path(directory, shard)
    features = _features(manifest)
    start, stop = manifest.requests.shards[shard]
    labels, indices = requests.located(manifest.requests, range(start, stop))
    with files.written_aside(path) as aside:
        # one record a group: any record is read without the others
        writer = ArrayRecordWriter(str(aside), "group_size:1")
        try:
            for number, label, index, image in zip(range(start, stop), labels, indices, images, strict=True):
                record = {
                    "image": png(image),
                    "label": int(label),
                    "index": int(index),
                    "request": number,
                    "id": f"{manifest.class_names[label]}/{index}",
                }
                writer.write(features.serialize_example(features.encode_example(record)))
        finally:
            writer.close()
        sidecar = {
            "shard": shard,
            "requests": [start, stop],
            "made_for": _made_for(manifest, shard),
            "sha256": _sha256(aside),
            "bytes": aside.stat().st_size,
            "backend": backend,
            "versions": package_versions(),
        }
        _sidecar_path(path).unlink(missing_ok=True)  # it may tell of other bytes
    files.write_json(_sidecar_path(path), sidecar)


def finish(directory: str | os.PathLike, manifest: Manifest) -> None:
    """Writes what TFDS reads a data set by; all shards must stand."""
    directory = pathlib.Path(directory)
    shards = manifest.requests.shards
    sizes = [shard_path(directory, n).stat().st_size for n in range(len(shards))]
    with tempfile.TemporaryDirectory() as scratch:
        _features(manifest).save_config(scratch)  # features.json and a file with the class names
        for file in sorted(pathlib.Path(scratch).iterdir()):
            files.write(directory / file.name, file.read_bytes())
    info = {
        "name": NAME,
        "version": VERSION,
        "description": f"{manifest.requests.total} synthetic images of {len(manifest.class_names)} classes.",
        "fileFormat": "array_record",
        "supervisedKeys": {"tuple": {"items": [{"featureKey": "image"}, {"featureKey": "label"}]}},
        "splits": [
            {
                "name": "train",
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}",
                "shardLengths": [str(stop - start) for start, stop in shards],
                "numBytes": str(sum(sizes)),
            }
        ],
    }
    files.write_json(directory / "dataset_info.json", info)


def read(directory: str | os.PathLike, numbers: Sequence[int] | None = None) -> ImageSet:
    """Images of a data set, in the order of their requests.

    Args:
      directory: of the data set.
      numbers: those requests only, in their order; None reads all, and compares checksums.

    Returns:
      images uint8 [N, H, W, 3], labels int32 [N] and the class names, whose positions are the labels.

    Raises:
      InputError: there is no data set, or a shard is missing or damaged.
    """
    manifest = read_manifest(directory)
    missing = missing_shards(directory, manifest)
    if missing:
        raise InputError(
            f"{directory} is not complete: {len(missing)} of {len(manifest.requests.shards)} shards are missing, "
            f"the first is {shard_path(directory, missing[0]).name}. Run `jaxcil generate` again."
        )
    wanted = range(manifest.requests.total) if numbers is None else numbers
    rows = {number: row for row, number in enumerate(wanted)}
    images = np.zeros((len(rows), *manifest.image_size, 3), np.uint8)
    labels = np.full(len(rows), -1, np.int32)
    for shard, (start, stop) in enumerate(manifest.requests.shards):
        places = None if numbers is None else [n - start for n in wanted if start <= n < stop]
        if places == []:
            continue
        for record in _records(directory, manifest, shard, places):
            row = rows.get(record["request"])
            if row is not None:
                images[row] = np.asarray(Image.open(io.BytesIO(record["image"])))
                labels[row] = record["label"]
    if (labels < 0).any():
        raise InputError(
            f"{directory} lacks request {list(rows)[int(np.argmin(labels))]}, although its shard stands. "
            "Delete that shard and run `jaxcil generate` again."
        )
    return ImageSet(images, labels, manifest.class_names)


def shard_path(directory: str | os.PathLike, shard: int) -> pathlib.Path:
    """The file of a shard."""
    return pathlib.Path(directory) / f"{NAME}-train.array_record-{shard:05d}"


def _features(manifest: Manifest) -> tfds.features.FeaturesDict:
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(
                shape=(*manifest.image_size, 3), dtype=np.uint8, encoding_format="png"
            ),
            "label": tfds.features.ClassLabel(names=manifest.class_names),
            "index": np.int64,  # of the image within its class
            "request": np.int64,
            "id": tfds.features.Text(),  # class name / index
        }
    )


def _records(
    directory: str | os.PathLike, manifest: Manifest, shard: int, places: Sequence[int] | None
) -> list[Any]:
    """Records of a shard with their images still as PNG: those at some places, or all after a checksum."""
    path = shard_path(directory, shard)
    if places is None and _sha256(path) != files.read_json(_sidecar_path(path))["sha256"]:
        raise InputError(
            f"{path} is damaged: its checksum is wrong. Delete it and run `jaxcil generate` again."
        )
    reader = ArrayRecordReader(str(path))
    try:
        serialized = reader.read_all() if places is None else reader.read(places)
    finally:
        reader.close()
    features, decoders = _features(manifest), {"image": tfds.decode.SkipDecoding()}
    return [features.deserialize_example_np(item, decoders=decoders) for item in serialized]


def _stands(directory: str | os.PathLike, manifest: Manifest, shard: int) -> bool:
    path = shard_path(directory, shard)
    if not (path.exists() and _sidecar_path(path).exists()):
        return False
    sidecar = files.read_json(_sidecar_path(path))
    same = sidecar.get("made_for") == _made_for(manifest, shard)
    return same and sidecar.get("bytes") == path.stat().st_size


def _made_for(manifest: Manifest, shard: int) -> str:
    """A hash of all that decides what a shard holds."""
    labels, indices = requests.located(manifest.requests, range(*manifest.requests.shards[shard]))
    held = [[manifest.class_names[label], int(label), int(index)] for label, index in zip(labels, indices)]
    said = {name: manifest.phrases[name] for name, *_ in held if name in manifest.phrases}
    return digest([manifest.config_hash, held, *([said] if said else [])])


def _sidecar_path(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(f"{path.name}.json")


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
