"""Images of any other tool, as a synthetic data set of the kind that `generate` writes.

Every image is read and decoded once before anything is written, so a source with a damaged member leaves no trace.
The manifest has the checksums of the sources: finished shards are not written again, and a directory begun with other
sources is refused.
"""

import itertools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from PIL import Image, ImageOps

from jaxcil.data import decoding
from jaxcil.errors import InputError, unknown_name
from jaxcil.synthesis.dataset import card, manifest, numbering, prompts, store
from jaxcil.synthesis.imports import sources
from jaxcil.workdir import files
from jaxcil.workdir.progress import Progress


def import_images(
    directory: str | os.PathLike,
    source: str | os.PathLike,
    *,
    image_size: int | None = None,
    shard_size: int = 1000,
    class_names: Sequence[str] | None = None,
    phrases: Mapping[str, Sequence[str]] | None = None,
    licence: str | None = None,
) -> manifest.Manifest:
    """Writes a data set from images, or resumes it.

    Args:
      directory: made if absent.
      source: SOURCE/CLASS/*.png (or jpg, jpeg, webp, bmp), SOURCE/CLASS.zip (or tar, tar.gz, tgz), or an archive
        with CLASS/*.png inside.
      image_size: side of the stored images, cut to the central square and resized with antialiasing; None keeps
        the size of the images, which must then all be equal.
      shard_size: images per file.
      class_names: the classes to take, in the order of their labels; None takes all, sorted.
      phrases: names of classes whose name is not a word, such as n01440764; for the card.
      licence: of the images, for the card.

    Returns:
      The manifest of the complete set.

    Raises:
      InputError: the source cannot be used, naming the file or member; or the directory holds another set.
    """
    for name, value in (("image_size", 1 if image_size is None else image_size), ("shard_size", shard_size)):
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}.")
    source = pathlib.Path(source)
    classes = sources.classes(source)
    names = tuple(sorted(classes) if class_names is None else class_names)
    prompts.check_class_names(names)
    prompts.check_phrases(phrases or {}, names)
    for name in names:
        if name not in classes:
            raise unknown_name(f"class in {source}", name, sorted(classes))
    images = [classes[name] for name in names]
    size = (image_size, image_size) if image_size else _first_size(images[0][0])
    config = {
        "sources": sources.checksums(list(itertools.chain(*images))),
        "pixels": {
            "resize": "central square, lanczos" if image_size else None,
            "behind_alpha": decoding.GROUND,
        },
        "image_size": list(size),
        "shard_size": shard_size,
    }
    directory = files.writable_directory(directory)
    if not (directory / manifest.FILE).exists():
        every = list(itertools.chain(*images))
        with Progress("checked", len(every), "image") as progress:
            for done, _ in enumerate(_decoded(every, size, fit=bool(image_size)), 1):
                progress.reach(done)
    asked = manifest.Asked(config, names, [*map(len, images)], phrases or {})
    notes = {"source": str(source)} | ({"licence": licence} if licence else {})
    begun = manifest.begin(directory, asked, notes)
    _fill(directory, begun, images, fit=bool(image_size))
    store.finish(directory, begun)
    card.write_card(directory)
    return begun


def _fill(
    directory: pathlib.Path, begun: manifest.Manifest, images: Sequence[Sequence[sources.Source]], fit: bool
) -> None:
    """Writes the missing shards from one stream of images."""
    ranges = {n: range(*begun.requests.shards[n]) for n in store.missing_shards(directory, begun)}
    labels, indices = numbering.located(begun.requests, itertools.chain(*ranges.values()))
    missing = [images[label][index] for label, index in zip(labels, indices)]
    stream = _decoded(missing, begun.image_size, fit)
    total, done = begun.requests.total, begun.requests.total - len(missing)
    with Progress("images", total, "image", done) as progress:
        for shard, numbers in ranges.items():
            store.write_shard(directory, begun, shard, itertools.islice(stream, len(numbers)), "imported")
            done += len(numbers)
            progress.reach(done)


def _decoded(images: Sequence[sources.Source], size: tuple[int, int], fit: bool) -> Iterator[np.ndarray]:
    """Images uint8 [H, W, 3] of one size, in the given order, resized to it or refused."""
    height, width = size
    for item, data in sources.read(images):
        image = decoding.decoded(data, str(item), imported=True)
        if image.size != (width, height):
            if not fit:
                raise InputError(
                    f"{item} has {image.height} x {image.width} pixels, the first image {height} x {width}. "
                    "Give the image size to which all are resized."
                )
            image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
        yield np.asarray(image)


def _first_size(first: sources.Source) -> tuple[int, int]:
    [(item, data)] = sources.read([first])
    image = decoding.decoded(data, str(item), imported=True)
    return image.height, image.width
