"""A synthetic data set on disk.

    manifest.json                                 what the set holds when complete, and how its images are made
    synthetic-train.array_record-00000, ...       a shard: a fixed range of requests, in their order
    synthetic-train.array_record-00000.json, ...  its sidecar: checksum, backend, versions
    dataset_info.json, features.json              for tfds.builder_from_directory, once all shards are complete
    README.md, contact_sheet.png                  for people

While processes write, there are hidden files as well: `.lock` and leases (`sharing`), and unfinished files (`files`).
Every file is written under another name, synced and renamed. A shard is complete once its sidecar exists; the sidecar
says what it was made for (`made_for`: a digest of config and requests). No file contains a time, so that equal sets
are equal files. Records carry class, index and request number; their position in a file means nothing. If a shard is
drawn again by another backend or other versions and gets other bytes, its sidecar has `replaces`: checksum, backend
and versions of the first drawing.
"""

import hashlib
import io
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from PIL import Image
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from jaxcil.data.datasets import ImageSet
from jaxcil.data.encoding import encoded
from jaxcil.errors import InputError
from jaxcil.synthesis.dataset import numbering
from jaxcil.synthesis.dataset.manifest import Manifest, digest, package_versions, read_manifest
from jaxcil.workdir import files, locks

NAME, VERSION = "synthetic", "1.0.0"
# What a sidecar keeps of the first drawing of its shard.
FIRST = ("made_for", "sha256", "backend", "versions")


def missing_shards(directory: str | os.PathLike, manifest: Manifest) -> list[int]:
    """Numbers of the shards that are not complete, or were made for something else."""
    return [n for n in range(len(manifest.requests.shards)) if not is_complete(directory, manifest, n)]


def is_complete(directory: str | os.PathLike, manifest: Manifest, shard: int) -> bool:
    """Whether a shard exists, was made for this manifest, and has the length that its sidecar records."""
    path = shard_path(directory, shard)
    entry = sidecar(directory, shard) if path.exists() else {}
    return (
        entry.get("made_for") == shard_digest(manifest, shard) and entry.get("bytes") == path.stat().st_size
    )


def write_shard(
    directory: str | os.PathLike, manifest: Manifest, shard: int, images: Iterable[np.ndarray], backend: str
) -> None:
    """Writes one shard and its sidecar; no other process may write this shard at the same time.

    Args:
      directory: of the data set.
      manifest: its manifest.
      shard: number of the shard.
      images: uint8 [H, W, 3] in the order of the shard's requests.
      backend: platform and device that drew them.
    """
    path, serialize = shard_path(directory, shard), serializer(manifest)
    start, stop = manifest.requests.shards[shard]
    labels, indices = numbering.located(manifest.requests, range(start, stop))
    with files.atomic_file(path) as aside:
        # one record per group: any record can be read without the others
        writer = ArrayRecordWriter(str(aside), "group_size:1")
        try:
            stored = encoded(images, manifest.encoding.encode)
            for number, label, index, data in zip(range(start, stop), labels, indices, stored, strict=True):
                record = {
                    "image": data,
                    "label": int(label),
                    "index": int(index),
                    "request": number,
                    "id": f"{manifest.class_names[label]}/{index}",
                }
                writer.write(serialize(record))
        finally:
            writer.close()
        entry = {
            "shard": shard,
            "requests": [start, stop],
            "made_for": shard_digest(manifest, shard),
            "sha256": sha256(aside),
            "bytes": aside.stat().st_size,
            "backend": backend,
            "versions": package_versions(),
        }
        invalidate(directory, shard)  # the sidecar must not describe the bytes that replace it
        first = sidecar(directory, shard).get("replaces", {})
        if _drawn_elsewhere(first, entry):
            entry["replaces"] = first
    files.write_json(sidecar_path(path), entry)


def invalidate(directory: str | os.PathLike, shard: int) -> None:
    """Marks a shard as missing in its sidecar, which keeps the record of the first drawing."""
    entry = sidecar(directory, shard)
    path = sidecar_path(shard_path(directory, shard))
    first = entry.get("replaces") or {name: entry[name] for name in FIRST if name in entry}
    if first:
        files.write_json(path, {"replaces": first})
    else:
        with files.storage_errors(path):
            path.unlink(missing_ok=True)


def finish(directory: str | os.PathLike, manifest: Manifest) -> None:
    """Writes the files by which TFDS reads a data set; all shards must be complete, and no other process may write.

    Files that killed processes left behind are deleted.
    """
    with files.storage_errors(directory):
        for path in leftovers(directory):
            path.unlink(missing_ok=True)
        contents = tfds_files(directory, manifest)
    for name, data in contents.items():
        files.write(pathlib.Path(directory) / name, data)


def leftovers(directory: str | os.PathLike) -> list[pathlib.Path]:
    """Unfinished files and leases, of killed processes as well as of running ones."""
    directory = pathlib.Path(directory)
    return sorted([*directory.glob(".*.aside"), *directory.glob(f".{NAME}-train.*{locks.LEASE}")])


def tfds_files(directory: str | os.PathLike, manifest: Manifest) -> dict[str, bytes]:
    """Contents of the files by which TFDS reads a data set, by name; all shards must be complete."""
    shards = manifest.requests.shards
    sizes = [shard_path(directory, n).stat().st_size for n in range(len(shards))]
    with tempfile.TemporaryDirectory() as scratch:
        _features(manifest).save_config(scratch)  # features.json and a file with the class names
        contents = {file.name: file.read_bytes() for file in sorted(pathlib.Path(scratch).iterdir())}
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
    return contents | {"dataset_info.json": f"{json.dumps(info, indent=2)}\n".encode()}


def read(directory: str | os.PathLike, numbers: Sequence[int] | None = None) -> ImageSet:
    """Images of a data set, in the order of their requests.

    Args:
      directory: of the data set.
      numbers: only these requests, in this order; None reads all, and compares checksums.

    Returns:
      images uint8 [N, H, W, 3], labels int32 [N] and the class names, whose positions are the labels.

    Raises:
      InputError: there is no data set, or a shard is missing or damaged.
    """
    manifest = read_manifest(directory)
    missing = missing_shards(directory, manifest)
    if missing:
        maker = "import-images" if "sources" in manifest.config else "generate"
        raise InputError(
            f"{directory} is not complete: {len(missing)} of {len(manifest.requests.shards)} shards are missing, "
            f"the first is {shard_path(directory, missing[0]).name}. Run the same `jaxcil {maker}` command again."
        )
    chosen = range(manifest.requests.total) if numbers is None else numbers
    rows = {number: row for row, number in enumerate(chosen)}
    images = np.zeros((len(rows), *manifest.image_size, 3), np.uint8)
    labels = np.full(len(rows), -1, np.int32)
    for shard, (start, stop) in enumerate(manifest.requests.shards):
        places = None if numbers is None else [n - start for n in chosen if start <= n < stop]
        if places == []:
            continue
        for record in _records(directory, manifest, shard, places):
            row = rows.get(record["request"])
            if row is not None:
                images[row] = np.asarray(Image.open(io.BytesIO(record["image"])))
                labels[row] = record["label"]
    if (labels < 0).any():
        raise InputError(
            f"{directory} lacks request {list(rows)[int(np.argmin(labels))]}, although its shard is complete. "
            "Run `jaxcil verify` to see what is wrong."
        )
    return ImageSet(images, labels, manifest.class_names)


def read_shard(directory: str | os.PathLike, manifest: Manifest, shard: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [n, H, W, 3] and labels int32 [n] of one shard, in the order of its requests.

    Raises:
      InputError: the shard is missing or damaged.
    """
    if not is_complete(directory, manifest, shard):
        raise InputError(
            f"{shard_path(directory, shard)} is missing: {directory} is not complete. Run its command again."
        )
    records = sorted(_records(directory, manifest, shard, None), key=lambda record: record["request"])
    images = np.stack([np.asarray(Image.open(io.BytesIO(record["image"]))) for record in records])
    return images, np.array([record["label"] for record in records], np.int32)


def shard_path(directory: str | os.PathLike, shard: int) -> pathlib.Path:
    """The file of a shard."""
    return pathlib.Path(directory) / f"{NAME}-train.array_record-{shard:05d}"


def sidecar_path(path: pathlib.Path) -> pathlib.Path:
    """The sidecar of a shard's file."""
    return path.with_name(f"{path.name}.json")


def lease_path(directory: str | os.PathLike, shard: int) -> pathlib.Path:
    """The file whose lock is the lease of a shard."""
    path = shard_path(directory, shard)
    return path.with_name(f".{path.name}{locks.LEASE}")


def sidecar(directory: str | os.PathLike, shard: int) -> dict[str, Any]:
    """The content of a shard's sidecar; empty if there is none or it is not a JSON object."""
    try:
        entry = files.read_json(sidecar_path(shard_path(directory, shard)))
    except InputError:
        return {}
    return entry if isinstance(entry, dict) else {}


def shard_digest(manifest: Manifest, shard: int) -> str:
    """A hash of everything that decides what a shard holds: `made_for` in its sidecar."""
    labels, indices = numbering.located(manifest.requests, range(*manifest.requests.shards[shard]))
    held = [[manifest.class_names[label], int(label), int(index)] for label, index in zip(labels, indices)]
    phrases = {name: manifest.phrases[name] for name, *_ in held if name in manifest.phrases}
    return digest([manifest.config_hash, held, *([phrases] if phrases else [])])


def sha256(path: pathlib.Path) -> str:
    """The checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def serializer(manifest: Manifest) -> Callable[[dict[str, Any]], bytes]:
    """A function from the fields of a record to its bytes, which are the same in every process."""
    features = _features(manifest)
    specs: Any = features.get_serialized_info()  # its declared type is too wide
    serializer = ExampleSerializer(specs)

    def serialize(record: dict[str, Any]) -> bytes:
        example = serializer.get_tf_example(features.encode_example(record))
        # the fields are a protobuf map, which TFDS's own serialize_example writes in arbitrary order
        return example.SerializeToString(deterministic=True)

    return serialize


def parser(manifest: Manifest) -> Callable[[bytes], dict[str, Any]]:
    """A function from the bytes of a record to its fields, the image still encoded."""
    features: Any = _features(manifest)  # its declared type hides its fields
    decoders = {"image": tfds.decode.SkipDecoding()}
    return lambda item: features.deserialize_example_np(item, decoders=decoders)


def _features(manifest: Manifest) -> tfds.features.FeaturesDict:
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(
                shape=(*manifest.image_size, 3), dtype=np.uint8, encoding_format=manifest.encoding.in_tfds
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
    """Records of a shard, images still encoded: those at given positions, or all after comparing the checksum."""
    path = shard_path(directory, shard)
    if places is None and sha256(path) != sidecar(directory, shard).get("sha256"):
        raise InputError(
            f"{path} is damaged: its checksum is wrong. Run `jaxcil verify {directory} --repair`."
        )
    reader = ArrayRecordReader(str(path))  # opens anything; errors come when reading
    try:
        serialized = reader.read_all() if places is None else reader.read(places)
        reader.close()
    except (RuntimeError, IndexError) as error:
        raise InputError(
            f"{path} is damaged: {str(error) or 'it is cut off'}. Run `jaxcil verify {directory} --repair`."
        ) from None
    return [*map(parser(manifest), serialized)]


def _drawn_elsewhere(first: dict[str, Any], entry: dict[str, Any]) -> bool:
    """Whether the same requests got other bytes from another backend or other versions."""
    same_request = first.get("made_for") == entry["made_for"]
    same_maker = all(first.get(name) == entry[name] for name in ("backend", "versions"))
    return same_request and not same_maker and first.get("sha256") != entry["sha256"]
