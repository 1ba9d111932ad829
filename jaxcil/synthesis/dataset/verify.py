"""Finds and names what is wrong with a synthetic data set; writes nothing.

Everything is judged by the manifest: each shard by its sidecar and checksum, each record by its request, each image by
its pixels. A file cannot show that an image was not finite, since uint8 has no value for it: such an image is refused
when it is drawn (`generate`), before any file of its shard is complete. The trace that it could leave is an image of
one colour. README.md and contact_sheet.png are for people and are not checked.
"""

import functools
import io
import os
import pathlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader
from PIL import Image, UnidentifiedImageError

from jaxcil.synthesis.dataset import manifest as manifests
from jaxcil.synthesis.dataset import numbering, store
from jaxcil.synthesis.dataset.manifest import Manifest, read_manifest
from jaxcil.workdir.progress import Progress

# Maximum number of images named that a shard lacks.
NAMED = 10


class Finding(NamedTuple):
    """One thing that is wrong with a data set."""

    file: str  # its name in the directory of the set
    what: str
    shard: int | None = None  # the shard to draw again; None if the fault is in no shard


def verify(directory: str | os.PathLike) -> list[Finding]:
    """Everything that is wrong with a data set; reads every byte of it, in several threads.

    Args:
      directory: of the data set; need not be writable.

    Returns:
      Findings about a manifest that contradicts itself, and then no others, since everything else is judged by it; or
      findings about shards, in order, then about a manifest that its sidecars contradict, then about other files.

    Raises:
      InputError: the directory holds no data set, or its manifest cannot be read.
    """
    directory, manifest = pathlib.Path(directory), read_manifest(directory)
    report = [Finding(manifests.FILE, what) for what in manifests.contradictions(directory, manifest)]
    if report:
        return report
    shards = range(len(manifest.requests.shards))
    check = functools.partial(_shard_findings, directory, manifest, store.parser(manifest))
    with ThreadPoolExecutor() as pool, Progress("shards", len(shards), "shard") as progress:
        for shard, findings in enumerate(pool.map(check, shards)):
            report += findings
            progress.reach(shard + 1)
    if altered := _made_for_other(directory, manifest):
        first = store.sidecar_path(store.shard_path(directory, altered[0])).name
        what = f"or {len(altered)} of {len(shards)} sidecars, first {first}, was altered: config or classes differ"
        report.append(Finding(manifests.FILE, what))
    if not report:  # these files hold the sizes of the shards
        for name, data in store.tfds_files(directory, manifest).items():
            path = directory / name
            if not path.exists():
                report.append(Finding(name, "is missing"))
            elif path.read_bytes() != data:
                report.append(Finding(name, "does not match manifest and shards"))
    report += [Finding(path.name, "is left from an interrupted write") for path in store.leftovers(directory)]
    return report + [Finding(name, "is not in the manifest") for name in _strangers(directory, manifest)]


def _made_for_other(directory: pathlib.Path, manifest: Manifest) -> list[int]:
    """Shards whose sidecars match the manifest except for the digest; which of the two is at fault is unknown."""
    altered = []
    for shard, numbers in enumerate(manifest.requests.shards):
        entry = store.sidecar(directory, shard)
        same = entry.get("shard") == shard and entry.get("requests") == list(numbers)
        if same and entry.get("made_for") not in (None, store.shard_digest(manifest, shard)):
            altered.append(shard)
    return altered


def _shard_findings(
    directory: pathlib.Path, manifest: Manifest, parse: Callable[[bytes], dict[str, Any]], shard: int
) -> list[Finding]:
    path = store.shard_path(directory, shard)
    if not path.exists():
        start, stop = manifest.requests.shards[shard]
        span = f"{stop - start} image(s), {manifest.name_of(start)} to {manifest.name_of(stop - 1)}"
        return [Finding(path.name, f"is missing, with {span}", shard)]
    sidecar, entry = store.sidecar_path(path), store.sidecar(directory, shard)
    report = [Finding(sidecar.name, what, shard) for what in _sidecar_faults(sidecar, entry, manifest, shard)]
    if "bytes" in entry and entry["bytes"] != (size := path.stat().st_size):
        report.append(Finding(path.name, f"has {size} bytes, not {entry['bytes']}", shard))
    elif "sha256" in entry and entry["sha256"] != store.sha256(path):
        report.append(Finding(path.name, "was altered: its checksum is not that of its sidecar", shard))
    return report + [Finding(path.name, what, shard) for what in _record_faults(path, manifest, parse, shard)]


def _sidecar_faults(
    path: pathlib.Path, entry: dict[str, Any], manifest: Manifest, shard: int
) -> Iterator[str]:
    expected = {
        "shard": shard,
        "requests": list(manifest.requests.shards[shard]),
        "made_for": store.shard_digest(manifest, shard),
    }
    if not path.exists():
        yield "is missing"
    elif "made_for" not in entry and "replaces" in entry:
        yield "says that drawing its shard again was interrupted"
    elif missing := [name for name in (*expected, "sha256", "bytes") if name not in entry]:
        yield f"cannot be read, or is cut off: it lacks {', '.join(missing)}"
    for name, value in expected.items():
        if name in entry and entry[name] != value:
            yield f"disagrees with the manifest: {name} is {entry[name]!r:.40}, not {value!r:.40}"


def _record_faults(
    path: pathlib.Path, manifest: Manifest, parse: Callable[[bytes], dict[str, Any]], shard: int
) -> Iterator[str]:
    """What is wrong with the records of a shard; their positions in the file do not matter."""
    start, stop = manifest.requests.shards[shard]
    labels, indices = numbering.located(manifest.requests, range(start, stop))
    left = dict.fromkeys(range(start, stop))
    reader = ArrayRecordReader(str(path))  # opens anything; errors come when reading
    for place in range(reader.num_records()):
        try:
            record = parse(reader.read([place])[0])
            number = int(record["request"])
        except Exception as error:  # two libraries may raise anything on garbage
            yield f"record {place} cannot be read{_message(error)}"
            continue
        if number not in left:
            why = "occurs twice" if start <= number < stop else f"is not in {start} .. {stop - 1}"
            yield f"record {place} is of request {number}, which {why}"
            continue
        del left[number]
        name = manifest.name_of(number)
        expected = {"label": labels[number - start], "index": indices[number - start], "id": name.encode()}
        for field, value in expected.items():
            if record[field] != value:
                yield f"{name} (request {number}) has {field} {record[field]}, not {value}"
        if what := _image_fault(record["image"], manifest):
            yield f"{name} (request {number}) {what}"
    try:
        reader.close()
    except RuntimeError as error:
        yield f"is not a complete ArrayRecord file{_message(error)}"
    if left:
        names = [manifest.name_of(number) for number in list(left)[:NAMED]]
        more = f" and {len(left) - NAMED} more" if len(left) > NAMED else ""
        yield f"lacks {', '.join(names)}{more}"


def _image_fault(data: bytes, manifest: Manifest) -> str | None:
    """What is wrong with an encoded image."""
    size = manifest.image_size
    try:
        with Image.open(io.BytesIO(data)) as image:
            if (image.height, image.width) != size or image.mode != "RGB":
                return f"has {image.height} x {image.width} pixels ({image.mode}), not {size[0]} x {size[1]} (RGB)"
            if image.format != manifest.encoding.format.upper():
                return f"is {image.format}, not {manifest.encoding.name}"
            image.load()
            pixels = np.asarray(image)
    except UnidentifiedImageError:  # its message is an address in memory
        return "does not decode: it is not an image"
    except Exception as error:  # a decoder may raise anything on garbage
        return f"does not decode{_message(error)}"
    return "is of one colour" if (pixels == pixels[0, 0]).all() else None


def _strangers(directory: pathlib.Path, manifest: Manifest) -> list[str]:
    """Shards and sidecars that the manifest does not have."""
    paths = [store.shard_path(directory, shard) for shard in range(len(manifest.requests.shards))]
    known = {name for path in paths for name in (path.name, store.sidecar_path(path).name)}
    return sorted({path.name for path in directory.glob(f"{store.NAME}-train.array_record-*")} - known)


def _message(error: Exception) -> str:
    """The first line of an error's message, after a colon."""
    return f": {str(error).splitlines()[0][:120]}" if str(error) else ""
