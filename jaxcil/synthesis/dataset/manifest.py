"""The manifest of a synthetic data set: what it is to hold, and all that decides its pixels.

A data set may grow: new classes go behind those it has, and a class may get more images. Nothing else of it
may change, so a run that comes back with another config is refused, and told what differs.
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
from jaxcil.synthesis.dataset import numbering
from jaxcil.synthesis.dataset.numbering import Requests
from jaxcil.workdir import files

FILE = "manifest.json"
PACKAGES = ("jax", "jaxlib", "flax", "numpy", "pillow", "array-record", "tensorflow-datasets")
# Of numbers in two configs: a plan computed on another platform differs in its last digits.
TOLERANCE = 1e-5


class Manifest(NamedTuple):
    """What a data set is to hold."""

    config: dict[str, Any]  # all that decides the pixels of an image but its class; JSON values
    class_names: tuple[str, ...]  # only ever grows at its end: a label is a position in it
    requests: Requests
    notes: dict[str, Any]  # where the config came from; not compared
    versions: dict[str, str]  # when the data set was begun
    # what prompts call a class, by its name; a class that is called by its name alone is not there
    phrases: Mapping[str, tuple[str, ...]] = MappingProxyType({})

    @property
    def config_hash(self) -> str:
        """SHA-256 of the config."""
        return digest(self.config)

    @property
    def content_hash(self) -> str:
        """SHA-256 of all that decides what the set holds: config, classes, phrases and requests."""
        return digest([self.config_hash, self.class_names, self.phrases, numbering.to_json(self.requests)])

    @property
    def encoding(self) -> Encoding:
        """How the images are stored; PNG where the config does not say."""
        return Encoding(**self.config.get("encoding", {}))

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images."""
        height, width = self.config["image_size"]
        return height, width

    def name_of(self, number: int) -> str:
        """Class name / index, the name of the image of a request."""
        (label,), (index,) = numbering.located(self.requests, [number])
        return f"{self.class_names[label]}/{index}"


def begin(
    directory: str | os.PathLike,
    config: dict[str, Any],
    class_names: Sequence[str],
    images_per_class: int | Sequence[int],
    *,
    shard_size: int,
    notes: dict[str, Any] | None = None,
    phrases: Mapping[str, Sequence[str]] | None = None,
) -> Manifest:
    """Writes the manifest of a new data set, goes on with one, or extends it.

    Args:
      directory: exists and can be written.
      config: JSON values, with image_size = [height, width].
      class_names: all that the set is to have; those it has come first.
      images_per_class: not fewer than it has; or a number for each class, which then follows from the config.
      shard_size: requests in a shard.
      notes: JSON values that tell people where the config came from.
      phrases: what prompts call the classes that they do not call by their name alone.

    Raises:
      InputError: names every field in which the data set that stands there differs.
    """
    old = _begun(directory)
    said = _tuples(phrases)
    if old is None:
        old_requests, versions = Requests(), package_versions()
    else:
        _check_same(directory, old, config, class_names, images_per_class, said)
        old_requests, config, versions = old.requests, old.config, old.versions
    asked = numbering.extended(old_requests, len(class_names), images_per_class, shard_size)
    manifest = Manifest(config, tuple(class_names), asked, notes or {}, versions, said)
    if manifest != old:
        files.write_json(
            pathlib.Path(directory) / FILE,
            {
                "schema": 1,
                "class_names": list(manifest.class_names),
                **({"phrases": said} if said else {}),
                "images_per_class": images_per_class,
                "config_hash": manifest.config_hash,
                "config": config,
                "notes": manifest.notes,
                "requests": numbering.to_json(asked),
                "versions": versions,
            },
        )
    return read_manifest(directory)


def join(
    directory: str | os.PathLike,
    config: dict[str, Any],
    class_names: Sequence[str],
    images_per_class: int,
    *,
    shard_size: int,
    phrases: Mapping[str, Sequence[str]] | None = None,
) -> Manifest | None:
    """The manifest that another process began, where it is what `begin` would write but for notes and versions.

    Args:
      directory: as in `begin`, as are the others.
      config: as above.
      class_names: as above.
      images_per_class: as above.
      shard_size: as above.
      phrases: as above.

    Returns:
      None where none stands there yet, it would have to grow, or it is another one without a shard.

    Raises:
      InputError: as in `begin`.
    """
    if not (pathlib.Path(directory) / FILE).exists():
        return None
    there, said = read_manifest(directory), _tuples(phrases)
    if _differing(there, config, class_names, images_per_class, said):
        if _begun(directory) is not None:
            _check_same(directory, there, config, class_names, images_per_class, said)
        return None
    asked = numbering.extended(there.requests, len(class_names), images_per_class, shard_size)
    return there if asked == there.requests and len(class_names) == len(there.class_names) else None


def read_manifest(directory: str | os.PathLike) -> Manifest:
    """The manifest of a data set.

    Raises:
      InputError: there is none, or it is not one.
    """
    path = pathlib.Path(directory) / FILE
    if not path.exists():
        raise InputError(f"{directory} holds no synthetic data set: there is no {FILE}.")
    value = files.read_json(path)
    try:
        return Manifest(
            value["config"],
            tuple(value["class_names"]),
            numbering.from_json(value["requests"]),
            value["notes"],
            value["versions"],
            {name: tuple(texts) for name, texts in value.get("phrases", {}).items()},
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not the manifest of a synthetic data set: {error!r}.") from None


def contradictions(directory: str | os.PathLike, manifest: Manifest) -> Iterator[str]:
    """How a manifest contradicts itself."""
    if files.read_json(pathlib.Path(directory) / FILE).get("config_hash") != manifest.config_hash:
        yield "was altered: its config_hash is not that of its config"
    blocks, shards = manifest.requests
    counts: dict[int, int] = {}
    for block in blocks:
        if not 0 <= block.label < len(manifest.class_names) or block.count < 1:
            yield f"asks for {block.count} images of label {block.label}; it has {len(manifest.class_names)} classes"
        if block.first != counts.get(block.label, 0):
            yield f"asks for images from {block.first} of label {block.label}, behind {counts.get(block.label, 0)}"
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
    """Versions of the packages that have a hand in a data set."""
    return {"jaxcil": jaxcil.__version__} | {name: importlib.metadata.version(name) for name in PACKAGES}


def _begun(directory: str | os.PathLike) -> Manifest | None:
    """The manifest of a set that has a shard; without one, a set may be begun again with its config put right."""
    if not any(pathlib.Path(directory).glob("[!.]*.array_record-*")):
        return None
    if not (pathlib.Path(directory) / FILE).exists():
        raise InputError(
            f"{directory} holds shards but no {FILE}, so nobody can say what they are. Bring it back, or take another "
            "directory."
        )
    manifest = read_manifest(directory)
    for what in contradictions(directory, manifest):
        raise InputError(f"{pathlib.Path(directory) / FILE} {what}. Bring back the one that was written.")
    return manifest


def _tuples(phrases: Mapping[str, Sequence[str]] | None) -> dict[str, tuple[str, ...]]:
    return {name: tuple(texts) for name, texts in (phrases or {}).items()}


def _check_same(
    directory: str | os.PathLike,
    old: Manifest,
    config: dict[str, Any],
    class_names: Sequence[str],
    images_per_class: int | Sequence[int],
    phrases: Mapping[str, tuple[str, ...]],
) -> None:
    if differing := _differing(old, config, class_names, images_per_class, phrases):
        lines = "\n".join(
            f"  {name}: there {_short(there)}, now {_short(now)}" for name, there, now in differing
        )
        raise InputError(
            f"{directory} holds a synthetic data set of another config:\n{lines}\n"
            "Take another directory, or the config that stands in its manifest.json."
        )


def _differing(
    old: Manifest,
    config: dict[str, Any],
    class_names: Sequence[str],
    images_per_class: int | Sequence[int],
    phrases: Mapping[str, tuple[str, ...]],
) -> list[tuple[str, Any, Any]]:
    """What may not change and is asked for otherwise, with both values."""
    differing = _differences(old.config, config)
    if old.class_names != tuple(class_names[: len(old.class_names)]):
        differing.append(("class_names (new ones go behind)", old.class_names, tuple(class_names)))
    differing += [
        (f"phrases.{name}", old.phrases.get(name), phrases.get(name))
        for name in old.class_names
        if name in class_names and old.phrases.get(name) != phrases.get(name)
    ]
    most = max(old.requests.images_per_class().values(), default=0)
    if isinstance(images_per_class, int) and images_per_class < most:
        differing.append(("images_per_class (may only grow)", most, images_per_class))
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
