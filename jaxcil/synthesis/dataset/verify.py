"""Looks for what is wrong with a synthetic data set, and names it; writes nothing.

All is judged by the manifest: each shard by its sidecar and checksum, each record by the request that its number
stands for, each image by its pixels. That an image is not finite cannot be seen in a file, since uint8 has no
word for it: such an image is refused when it is drawn (`generate`), before anything of its shard stands. What a
file can show of it is an image of one colour. README.md and contact_sheet.png are for people, and not looked at.
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

# Of the images that a shard lacks, this many are named.
NAMED = 10


class Finding(NamedTuple):
    """One thing that is wrong with a data set."""

    file: str  # its name in the directory of the set
    what: str
    shard: int | None = None  # the shard that is to be drawn again; None where the fault is in no shard


def verify(directory: str | os.PathLike) -> list[Finding]:
    """All that is wrong with a data set; reads every byte of it, in several threads.

    Args:
      directory: of the data set; need not be writable.

    Returns:
      Findings about a manifest that contradicts itself, and then none else, since all else is judged by it; or
      those about shards, in their order, then about the manifest beside its sidecars, then about other files.

    Raises:
      InputError: the directory holds no data set, or a manifest that cannot be read.
    """
    directory, manifest = pathlib.Path(directory), read_manifest(directory)
    found = [Finding(manifests.FILE, what) for what in manifests.contradictions(directory, manifest)]
    if found:
        return found
    shards = range(len(manifest.requests.shards))
    check = functools.partial(_shard_findings, directory, manifest, store.parser(manifest))
    with ThreadPoolExecutor() as pool, Progress("shards", len(shards), "shard") as progress:
        for shard, findings in enumerate(pool.map(check, shards)):
            found += findings
            progress.reach(shard + 1)
    if altered := _made_for_other(directory, manifest):
        first = store.sidecar_path(store.shard_path(directory, altered[0])).name
        what = f"or {len(altered)} of {len(shards)} sidecars, first {first}, was altered: config or classes differ"
        found.append(Finding(manifests.FILE, what))
    if not found:  # these tell the sizes of the shards
        for name, data in store.described(directory, manifest).items():
            path = directory / name
            if not path.exists():
                found.append(Finding(name, "is missing"))
            elif path.read_bytes() != data:
                found.append(Finding(name, "is not what manifest and shards make it"))
    found += [
        Finding(path.name, "is left of a write that was interrupted") for path in store.leftovers(directory)
    ]
    return found + [Finding(name, "is not in the manifest") for name in _strangers(directory, manifest)]


def _made_for_other(directory: pathlib.Path, manifest: Manifest) -> list[int]:
    """Shards whose sidecars fit the manifest, but for what they were made for: which is at fault, none can say."""
    found = []
    for shard, numbers in enumerate(manifest.requests.shards):
        told = store.sidecar(directory, shard)
        here = told.get("shard") == shard and told.get("requests") == list(numbers)
        if here and told.get("made_for") not in (None, store.made_for(manifest, shard)):
            found.append(shard)
    return found


def _shard_findings(
    directory: pathlib.Path, manifest: Manifest, parse: Callable[[bytes], dict[str, Any]], shard: int
) -> list[Finding]:
    path = store.shard_path(directory, shard)
    if not path.exists():
        start, stop = manifest.requests.shards[shard]
        span = f"{stop - start} image(s), {manifest.name_of(start)} to {manifest.name_of(stop - 1)}"
        return [Finding(path.name, f"is missing, with {span}", shard)]
    sidecar, told = store.sidecar_path(path), store.sidecar(directory, shard)
    found = [Finding(sidecar.name, what, shard) for what in _sidecar_faults(sidecar, told, manifest, shard)]
    if "bytes" in told and told["bytes"] != (size := path.stat().st_size):
        found.append(Finding(path.name, f"has {size} bytes, not {told['bytes']}", shard))
    elif "sha256" in told and told["sha256"] != store.sha256(path):
        found.append(Finding(path.name, "was altered: its checksum is not that of its sidecar", shard))
    return found + [Finding(path.name, what, shard) for what in _record_faults(path, manifest, parse, shard)]


def _sidecar_faults(
    path: pathlib.Path, told: dict[str, Any], manifest: Manifest, shard: int
) -> Iterator[str]:
    expected = {
        "shard": shard,
        "requests": list(manifest.requests.shards[shard]),
        "made_for": store.made_for(manifest, shard),
    }
    if not path.exists():
        yield "is missing"
    elif "made_for" not in told and "replaces" in told:
        yield "says that its shard was to be drawn again, which was interrupted"
    elif missing := [name for name in (*expected, "sha256", "bytes") if name not in told]:
        yield f"cannot be read, or is cut off: it lacks {', '.join(missing)}"
    for name, value in expected.items():
        if name in told and told[name] != value:
            yield f"disagrees with the manifest: {name} is {told[name]!r:.40}, not {value!r:.40}"


def _record_faults(
    path: pathlib.Path, manifest: Manifest, parse: Callable[[bytes], dict[str, Any]], shard: int
) -> Iterator[str]:
    """What is wrong with the records of a shard; where they stand in the file does not matter."""
    start, stop = manifest.requests.shards[shard]
    labels, indices = numbering.located(manifest.requests, range(start, stop))
    left = dict.fromkeys(range(start, stop))
    reader = ArrayRecordReader(str(path))  # opens anything: what is wrong is told later
    for place in range(reader.num_records()):
        try:
            record = parse(reader.read([place])[0])
            number = int(record["request"])
        except Exception as error:  # whatever two libraries may raise on rubbish
            yield f"record {place} cannot be read{_said(error)}"
            continue
        if number not in left:
            why = "came before" if start <= number < stop else f"is not in {start} .. {stop - 1}"
            yield f"record {place} is of request {number}, which {why}"
            continue
        del left[number]
        name = manifest.name_of(number)
        expected = {"label": labels[number - start], "index": indices[number - start], "id": name.encode()}
        for field, value in expected.items():
            if record[field] != value:
                yield f"{name} (request {number}) says {field} {record[field]}, not {value}"
        if what := _image_fault(record["image"], manifest):
            yield f"{name} (request {number}) {what}"
    try:
        reader.close()
    except RuntimeError as error:
        yield f"is no whole ArrayRecord file{_said(error)}"
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
        return "does not decode: it is no image"
    except Exception as error:  # whatever a decoder may raise on rubbish
        return f"does not decode{_said(error)}"
    return "is of one colour" if (pixels == pixels[0, 0]).all() else None


def _strangers(directory: pathlib.Path, manifest: Manifest) -> list[str]:
    """Shards and sidecars beyond those of the manifest."""
    paths = [store.shard_path(directory, shard) for shard in range(len(manifest.requests.shards))]
    known = {name for path in paths for name in (path.name, store.sidecar_path(path).name)}
    return sorted({path.name for path in directory.glob(f"{store.NAME}-train.array_record-*")} - known)


def _said(error: Exception) -> str:
    """What an error says, in one line, behind a colon."""
    return f": {str(error).splitlines()[0][:120]}" if str(error) else ""
