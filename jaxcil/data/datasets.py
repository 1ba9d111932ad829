"""Labelled image sets, read whole into host memory without TensorFlow."""

import contextlib
import io
import pathlib
import sys
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxcil.errors import InputError, unknown_name

EMBEDDED = ("digits",)
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


class ImageSet(NamedTuple):
    """Images of one split."""

    images: np.ndarray  # uint8 [N, H, W, 3]
    labels: np.ndarray  # int32 [N], positions in class_names
    class_names: tuple[str, ...]


def load(source: str, split: str, size: int | None = None, data_dir: str | None = None) -> ImageSet:
    """One split of an embedded data set or of a folder of images.

    Args:
      source: "digits", prepared at first use in the user's TFDS folder; or a folder that holds
        SPLIT/CLASS/*.png (or jpg, webp, bmp), a folder a class.
      split: for "digits" generator, train or test; else the name of a subfolder.
      size: side of the images; None keeps that of the files, which must then be one and the same.
      data_dir: TFDS folder; None takes the user's.

    Raises:
      InputError: for an unknown name, an empty class, or an image that cannot be read.
    """
    if source in EMBEDDED:
        loaded = _digits(split, data_dir)
    elif pathlib.Path(source).is_dir():
        loaded = _folder(pathlib.Path(source), split, size)
    else:
        error = unknown_name("data set", source, EMBEDDED)
        raise InputError(f"{error} Or give a folder that holds train/CLASS/*.png and test/CLASS/*.png.")
    if size is not None and loaded.images.shape[1:3] != (size, size):
        raise InputError(
            f"{source} has images of {loaded.images.shape[1]} x {loaded.images.shape[2]} pixels, "
            f"not {size} x {size}; leave the size out"
        )
    return loaded


def _digits(split: str, data_dir: str | None) -> ImageSet:
    import tensorflow_datasets as tfds

    from jaxcil.data.digits import builder as digits

    if split not in digits.PARTS:
        raise unknown_name("split of digits", split, digits.PARTS)
    tfds.disable_progress_bar()
    builder = digits.JaxcilDigits(data_dir=data_dir, file_format="array_record")
    try:
        with contextlib.redirect_stdout(sys.stderr):  # TFDS tells of its progress there
            builder.download_and_prepare()  # writes aside and renames; returns at once where the data stand
    except FileExistsError:  # another process was faster
        builder = digits.JaxcilDigits(data_dir=data_dir, file_format="array_record")
    except OSError as error:
        raise InputError(f"the digits cannot be prepared in {builder.data_dir}: {error}") from None
    # bytes, decoded here: TFDS would ask for OpenCV
    as_bytes = {"image": tfds.decode.SkipDecoding()}
    source: Any = builder.as_data_source  # typed as if it took no arguments
    records = source(split=split, decoders=as_bytes)
    rows = sorted((records[n] for n in range(len(records))), key=lambda row: int(row["index"]))
    return ImageSet(
        np.stack([np.asarray(Image.open(io.BytesIO(row["image"]))) for row in rows]),
        np.array([row["label"] for row in rows], np.int32),
        digits.CLASS_NAMES,
    )


def _folder(root: pathlib.Path, split: str, size: int | None) -> ImageSet:
    folder = root / split
    if not folder.is_dir():
        raise InputError(
            f"{root} holds no folder {split!r}; a data set is SPLIT/CLASS/*.png with train and test"
        )
    names = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir()))
    if not names:
        raise InputError(f"{folder} holds no folder; expected one for each class, with its images inside")
    images, labels = [], []
    for label, name in enumerate(names):
        files = sorted(path for path in (folder / name).iterdir() if path.suffix.lower() in SUFFIXES)
        if not files:
            raise InputError(f"class {name!r} has no images: {folder / name} holds no {', '.join(SUFFIXES)}")
        for file in files:
            try:
                with Image.open(file) as opened:
                    image = opened.convert("RGB")
            except (UnidentifiedImageError, OSError) as error:
                raise InputError(f"{file} cannot be read as an image: {error}") from None
            if size is not None and image.size != (size, size):
                image = image.resize((size, size), Image.Resampling.BICUBIC)
            if images and images[0].shape != (*image.size[::-1], 3):
                raise InputError(
                    f"{file} has {image.size[0]} x {image.size[1]} pixels, the others "
                    f"{images[0].shape[1]} x {images[0].shape[0]}; say to which size all are to be brought"
                )
            images.append(np.asarray(image))
            labels.append(label)
    return ImageSet(np.stack(images), np.array(labels, np.int32), names)


def hold_out(data: ImageSet, share: float, seed: int = 0) -> tuple[ImageSet, ImageSet]:
    """Splits off that share of every class, to choose settings on without reading the test images.

    Returns:
      The rest and the held-out images, of each class at least one.
    """
    held = np.zeros(len(data.labels), bool)
    generator = np.random.default_rng(seed)
    for label in range(len(data.class_names)):
        rows = generator.permutation(np.flatnonzero(data.labels == label))
        held[rows[: max(1, round(share * len(rows)))]] = True
    rest, out = (ImageSet(data.images[mask], data.labels[mask], data.class_names) for mask in (~held, held))
    return rest, out
