"""The manifest of a synthetic data set: what it is to hold, and all that decides its pixels.

A data set may grow: new classes are appended, and a class may get more images. Nothing else may change, so a command
with another config is refused with a list of the differences.
"""

import hashlib
import importlib.metadata
import json
import math
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jaxcil
from jaxcil.data.encoding import Encoding
from jaxcil.errors import InputError
from jaxcil.synthesis.dataset import numbering, old_names
from jaxcil.synthesis.dataset.numbering import Requests
from jaxcil.workdir import files

FILE = "manifest.json"
PACKAGES = ("jax", "jaxlib", "flax", "numpy", "pillow", "array-record", "tensorflow-datasets")
# Relative, between numbers of two configs: a plan computed on another platform differs in its last digits.
TOLERANCE = 1e-5


class Manifest(NamedTuple):
    """What a data set holds when it is complete."""

    config: dict[str, Any]  # everything that decides the pixels of an image except its class; JSON values
    class_names: tuple[str, ...]  # only ever appended to: a label is a position in it
    requests: Requests
    notes: dict[str, Any]  # where the config came from; not compared
    versions: dict[str, str]  # when the data set was begun
    # what prompts call a class, by its name; classes without an entry are called by their name
    phrases: Mapping[str, tuple[str, ...]] = MappingProxyType({})

    @property
    def config_hash(self) -> str:
        """SHA-256 of the config."""
        return digest(self.config)

    @property
    def content_hash(self) -> str:
        """SHA-256 of everything that decides what the set holds: config, classes, phrases and requests."""
        return digest([self.config_hash, self.class_names, self.phrases, numbering.to_json(self.requests)])

    @property
    def encoding(self) -> Encoding:
        """How the images are stored; PNG if the config does not say."""
        return Encoding(**self.config.get("encoding", {}))

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images."""
        height, width = self.config["image_size"]
        return height, width

    def name_of(self, number: int) -> str:
        """Class name / index of the image with a request number."""
        (label,), (index,) = numbering.located(self.requests, [number])
        return f"{self.class_names[label]}/{index}"


class Asked(NamedTuple):
    """A data set that is asked for: what `begin` writes into the manifest, and what it compares."""

    config: dict[
        str, Any
    ]  # JSON values, with image_size = [height, width] and shard_size, requests per shard
    class_names: Sequence[str]  # of the whole set; those that it has come first
    # at least the number that each class has; or a number for each class, which the config must then imply
    images_per_class: int | Sequence[int]
    phrases: Mapping[str, Sequence[str]] = MappingProxyType({})  # see `Manifest`

    def requests(self, old: Requests) -> Requests:
        """Those of a set, extended by what is asked for."""
        return numbering.extended(
            old, len(self.class_names), self.images_per_class, self.config["shard_size"]
        )


def begin(directory: str | os.PathLike, asked: Asked, notes: dict[str, Any] | None = None) -> Manifest:
    """Begins, resumes or extends a data set: writes its manifest if it changes.

    Args:
      directory: exists and can be written.
      asked: the set.
      notes: JSON values that say where the config came from.

    Raises:
      InputError: names every field in which the existing data set differs.
    """
    old, asked = _begun(directory), _normal(asked)
    if old is None:
        config, versions = asked.config, package_versions()
    else:
        _check_same(directory, old, asked)
        config, versions = old.config, old.versions
    requests = asked.requests(old.requests if old else Requests())
    manifest = Manifest(config, tuple(asked.class_names), requests, notes or {}, versions, asked.phrases)  # type: ignore
    if manifest != old:
        files.write_json(
            pathlib.Path(directory) / FILE,
            {
                "schema": 1,
                "class_names": list(manifest.class_names),
                **({"phrases": dict(manifest.phrases)} if manifest.phrases else {}),
                "images_per_class": asked.images_per_class,
                "config_hash": manifest.config_hash,
                "config": config,
                "notes": manifest.notes,
                "requests": numbering.to_json(requests),
                "versions": versions,
            },
        )
    return read_manifest(directory)


def join(directory: str | os.PathLike, asked: Asked) -> Manifest | None:
    """The manifest that another process wrote, if it is what `begin` would write except for notes and versions.

    Args:
      directory: of the data set.
      asked: the set.

    Returns:
      None if there is no manifest yet, it would have to grow, or it is another one without a shard.

    Raises:
      InputError: as in `begin`.
    """
    if not (pathlib.Path(directory) / FILE).exists():
        return None
    manifest, asked = read_manifest(directory), _normal(asked)
    if _differing(manifest, asked):
        if _begun(directory) is not None:
            _check_same(directory, manifest, asked)
        return None
    complete = asked.requests(manifest.requests) == manifest.requests
    return manifest if complete and len(asked.class_names) == len(manifest.class_names) else None


def read_manifest(directory: str | os.PathLike) -> Manifest:
    """The manifest of a data set.

    Raises:
      InputError: it does not exist, or is not a manifest.
    """
    path = pathlib.Path(directory) / FILE
    if not path.exists():
        raise InputError(f"{directory} holds no synthetic data set: there is no {FILE}.")
    value = files.read_json(path)
    try:
        value = old_names.translated(value, old_names.MANIFEST)
        return Manifest(
            value["config"],
            tuple(value["class_names"]),
            numbering.from_json(value["requests"]),
            old_names.translated(value["notes"], old_names.NOTES),
            value["versions"],
            {name: tuple(texts) for name, texts in value.get("phrases", {}).items()},
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not the manifest of a synthetic data set: {error!r}.") from None


def contradictions(directory: str | os.PathLike, manifest: Manifest) -> Iterator[str]:
    """The ways in which a manifest contradicts itself."""
    if files.read_json(pathlib.Path(directory) / FILE).get("config_hash") != manifest.config_hash:
        yield "was altered: its config_hash is not that of its config"
    blocks, shards = manifest.requests
    counts: dict[int, int] = {}
    for block in blocks:
        if not 0 <= block.label < len(manifest.class_names) or block.count < 1:
            yield f"asks for {block.count} images of label {block.label}; it has {len(manifest.class_names)} classes"
        if block.first != counts.get(block.label, 0):
            yield f"asks for images from {block.first} of label {block.label}, after {counts.get(block.label, 0)}"
        counts[block.label] = block.first + block.count
    stops = [0, *(stop for _, stop in shards)]
    if any(start != before or stop <= start for before, (start, stop) in zip(stops, shards)):
        yield "has shards with gaps between them, or without a request"
    if stops[-1] != sum(block.count for block in blocks):
        yield f"has {stops[-1]} requests in its shards and {sum(block.count for block in blocks)} in its classes"


def digest(value: Any) -> str:
    """SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def package_versions() -> dict[str, str]:
    """Versions of the packages that make a data set."""
    return {"jaxcil": jaxcil.__version__} | {name: importlib.metadata.version(name) for name in PACKAGES}


def _begun(directory: str | os.PathLike) -> Manifest | None:
    """The manifest of a set that has a shard; a set without one may be begun again with another config."""
    if not any(pathlib.Path(directory).glob("[!.]*.array_record-*")):
        return None
    if not (pathlib.Path(directory) / FILE).exists():
        raise InputError(
            f"{directory} holds shards but no {FILE}, which says what they are. Restore it, or choose another "
            "directory."
        )
    manifest = read_manifest(directory)
    for what in contradictions(directory, manifest):
        raise InputError(f"{pathlib.Path(directory) / FILE} {what}. Restore the one that was written.")
    return manifest


def _normal(asked: Asked) -> Asked:
    return asked._replace(phrases={name: tuple(texts) for name, texts in asked.phrases.items()})


def _check_same(directory: str | os.PathLike, old: Manifest, asked: Asked) -> None:
    if differing := _differing(old, asked):
        lines = "\n".join(
            f"  {name}: there {_short(there)}, now {_short(now)}" for name, there, now in differing
        )
        raise InputError(
            f"{directory} holds a synthetic data set of another config:\n{lines}\n"
            f"Choose another directory, or use the config in its {FILE}."
        )


def _differing(old: Manifest, asked: Asked) -> list[tuple[str, Any, Any]]:
    """The fields that may not change and would, with both values."""
    differing = _differences(old.config, asked.config)
    class_names = tuple(asked.class_names)
    if old.class_names != class_names[: len(old.class_names)]:
        differing.append(("class_names (new ones are appended)", old.class_names, class_names))
    differing += [
        (f"phrases.{name}", old.phrases.get(name), asked.phrases.get(name))
        for name in old.class_names
        if name in class_names and old.phrases.get(name) != asked.phrases.get(name)
    ]
    most = max(old.requests.images_per_class().values(), default=0)
    if isinstance(asked.images_per_class, int) and asked.images_per_class < most:
        differing.append(("images_per_class (may only grow)", most, asked.images_per_class))
    return differing


def _differences(there: Any, now: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    """Fields that differ, by their dotted names, with both values."""
    if isinstance(there, dict) and isinstance(now, dict):
        pairs = [(f"{name}.{key}".strip("."), key) for key in sorted({*there, *now})]
        return [item for path, key in pairs for item in _differences(there.get(key), now.get(key), path)]
    return [] if _close(there, now) else [(name, there, now)]


def _close(a: Any, b: Any) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_close(x, y) for x, y in zip(a, b))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE**2)
    return a == b


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
