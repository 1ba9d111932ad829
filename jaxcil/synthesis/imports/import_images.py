"""Images that any other tool made, as a synthetic data set of the kind that `generate` writes.

Every image is read and decoded once before anything is written, so a source with a damaged member leaves no trace.
The manifest has the checksums of the sources: what is written is not written again, and a directory begun with other
sources is refused.
"""

import io
import itertools
import os
import pathlib
import warnings
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from jaxcil.data import decoding
from jaxcil.errors import InputError, unknown_name
from jaxcil.synthesis.dataset import card, manifest, numbering, prompts, store
from jaxcil.synthesis.imports import sources
from jaxcil.workdir import files
from jaxcil.workdir.progress import Progress

# Decoders that may see the bytes; Pillow has others that start programs or read what no tool writes for images.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")


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
    """Writes a data set from images, or goes on where it stopped.

    Args:
      directory: made if absent.
      source: SOURCE/CLASS/*.png (or jpg, jpeg, webp, bmp), SOURCE/CLASS.zip (or tar, tar.gz, tgz), or an archive
        with CLASS/*.png inside.
      image_size: side of the stored images, cut to the central square and resized with antialiasing; None keeps
        the size of the images, which must then be one and the same.
      shard_size: images a file.
      class_names: the classes to take, in the order of their labels; None takes all, sorted.
      phrases: what a class is called where its name is no word, such as n01440764; for the card.
      licence: of the images, for the card.

    Returns:
      The manifest of the complete set.

    Raises:
      InputError: the source cannot be used as it is, and the file or member is named, or the directory holds
        another set.
    """
    for name, value in (("image_size", 1 if image_size is None else image_size), ("shard_size", shard_size)):
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}.")
    source = pathlib.Path(source)
    found = sources.classes(source)
    names = tuple(sorted(found) if class_names is None else class_names)
    prompts.check_class_names(names)
    prompts.check_phrases(phrases or {}, names)
    for name in names:
        if name not in found:
            raise unknown_name(f"class in {source}", name, sorted(found))
    images = [found[name] for name in names]
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
    begun = manifest.begin(
        directory,
        config,
        names,
        [*map(len, images)],
        shard_size=shard_size,
        notes={"source": str(source)} | ({"licence": licence} if licence else {}),
        phrases=phrases,
    )
    _fill(directory, begun, images, fit=bool(image_size))
    store.finish(directory, begun)
    card.write_card(directory)
    return begun


def decode(data: bytes, name: str) -> Image.Image:
    """An image file as RGB: grey in all three channels, transparent pixels over white, turned as its EXIF says.

    Args:
      data: the bytes of a file in one of FORMATS.
      name: of the file, for messages.

    Raises:
      InputError: it is no such image, is cut off, has more pixels than Pillow takes for safe, several frames, or
        values of another kind than 8-bit grey or RGB.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        frames, mode = getattr(image, "n_frames", 1), image.mode
        if frames == 1 and mode in MODES:
            return decoding.in_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise InputError(f"{name} is no image of a known kind ({', '.join(FORMATS)}). Take it out.") from None
    except MemoryError:
        raise
    except Exception as error:  # whatever a decoder raises on damaged bytes
        raise InputError(
            f"{name} cannot be read as an image: {error}. Make it again, or take it out."
        ) from None
    what = f"{frames} frames" if frames > 1 else f"pixels of mode {mode}"
    raise InputError(
        f"{name} has {what}; expected one image of 8-bit grey or RGB. Convert it, or take it out."
    )


def _fill(
    directory: pathlib.Path, begun: manifest.Manifest, images: Sequence[Sequence[sources.Source]], fit: bool
) -> None:
    """Writes the shards that are missing; one stream of images runs through all of them."""
    ranges = {n: range(*begun.requests.shards[n]) for n in store.missing_shards(directory, begun)}
    labels, indices = numbering.located(begun.requests, itertools.chain(*ranges.values()))
    wanted = [images[label][index] for label, index in zip(labels, indices)]
    stream = _decoded(wanted, begun.image_size, fit)
    total, done = begun.requests.total, begun.requests.total - len(wanted)
    with Progress("images", total, "image", done) as progress:
        for shard, numbers in ranges.items():
            store.write_shard(directory, begun, shard, itertools.islice(stream, len(numbers)), "imported")
            done += len(numbers)
            progress.reach(done)


def _decoded(wanted: Sequence[sources.Source], size: tuple[int, int], fit: bool) -> Iterator[np.ndarray]:
    """Images uint8 [H, W, 3] of one size, in the order asked for, resized to it or refused."""
    height, width = size
    for item, data in sources.read(wanted):
        image = decode(data, str(item))
        if image.size != (width, height):
            if not fit:
                raise InputError(
                    f"{item} has {image.height} x {image.width} pixels, the first image {height} x {width}. "
                    "Give the image size to which all are to be brought."
                )
            image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
        yield np.asarray(image)


def _first_size(first: sources.Source) -> tuple[int, int]:
    [(item, data)] = sources.read([first])
    image = decode(data, str(item))
    return image.height, image.width
