"""Labelled image sets: opened where they are stored, or read whole into host memory; without TensorFlow."""

import contextlib
import io
import os
import pathlib
from typing import Any, NamedTuple, cast

import numpy as np

from jaxcil.data import records, tfds_sets
from jaxcil.data.decoding import decoded, whole
from jaxcil.data.folders import folder_records
from jaxcil.data.records import Records
from jaxcil.errors import InputError, unknown_name

EMBEDDED = ("digits",)
KNOWN = (*EMBEDDED, *tfds_sets.KNOWN, "tfds:NAME")


class ImageSet(NamedTuple):
    """Images of one split."""

    images: np.ndarray  # uint8 [N, H, W, 3]
    labels: np.ndarray  # int32 [N], positions in class_names
    class_names: tuple[str, ...]


def load(
    source: str, split: str, size: int | None = None, data_dir: str | None = None, classes: str | None = None
) -> ImageSet:
    """One split of a data set, whole.

    Args:
      source: as `open_records` takes it.
      split: likewise.
      size: side that images are resized to; None keeps theirs, which must then be the same for all. Sets whose
        images have a fixed size keep it.
      data_dir: TFDS folder; None takes the user's.
      classes: as `open_records` takes it.

    Raises:
      InputError: also for images that cannot be read, or not at this size, or are more than memory holds.
    """
    source_records = open_records(source, split, data_dir, classes)
    if size is not None:
        records.check_size(source_records, size)
    side = _image(source_records, 0, None).shape[:2] if size is None else (size, size)
    images = _room(source, len(source_records), (*side, 3))
    for row in range(len(source_records)):
        image = _image(source_records, row, size)
        if image.shape != images.shape[1:]:
            raise InputError(
                f"{source_records.where(row)} has {image.shape[1]} x {image.shape[0]} pixels, the others "
                f"{images.shape[2]} x {images.shape[1]}; give the size that all are to be resized to"
            )
        images[row] = image
    return ImageSet(images, source_records.labels, source_records.class_names)


def open_records(source: str, split: str, data_dir: str | None = None, classes: str | None = None) -> Records:
    """The encoded images of one split, with their labels.

    Args:
      source: "digits", prepared at first use; a TFDS set that `jaxcil prepare-data` has prepared: "cifar10",
        "cifar100", "imagenet2012", "imagenet_resized/32x32" (8, 16, 64), or any other as "tfds:NAME"; or a folder in
        a layout of `folders`.
      split: for "digits" generator, train or test; else the name of a split or subfolder. "test" is what ImageNet and
        others call validation, where that alone has labels.
      data_dir: TFDS folder; None takes the user's.
      classes: those to take, which gives labels in this order: names divided by commas, or a class list
        ("imagenet100_lucir", "imagenet100_podnet", a file); None takes all as the set numbers them.

    Raises:
      InputError: for an unknown or unprepared set, an unknown split, or a class that is absent or without images.
    """
    if source in EMBEDDED:
        opened = _digits(split, data_dir)
    elif tfds_sets.is_tfds(source):
        opened = tfds_sets.tfds_records(source, split, data_dir)
    elif pathlib.Path(source).is_dir():
        opened = folder_records(pathlib.Path(source), split)
    else:
        error = unknown_name("data set", source, KNOWN)
        raise InputError(
            f"{error} Or give a folder that holds train/CLASS/*.png and test/CLASS/*.png, or those of ImageNet or "
            "Tiny-ImageNet."
        )
    records.check_labels(opened)
    if classes is not None:
        opened = records.of_classes(opened, classes)
    records.check_classes(opened)
    return opened


def _digits(split: str, data_dir: str | None) -> Records:
    import tensorflow_datasets as tfds

    from jaxcil.data.digits import builder as digits

    if split not in digits.PARTS:
        raise unknown_name("split of digits", split, digits.PARTS)
    tfds.disable_progress_bar()
    builder = digits.JaxcilDigits(data_dir=data_dir, file_format="array_record")
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS would announce a download of unknown size
            builder.download_and_prepare()  # writes aside and renames; returns at once where the data exist
    except FileExistsError:  # another process was faster
        builder = digits.JaxcilDigits(data_dir=data_dir, file_format="array_record")
    except OSError as error:
        raise InputError(f"the digits cannot be prepared in {builder.data_dir}: {error}") from None
    as_bytes = {"image": tfds.decode.SkipDecoding()}
    stored: Any = cast(Any, builder).as_data_source(
        split=split, decoders=as_bytes
    )  # typed as if without arguments
    rows = sorted((stored[n] for n in range(len(stored))), key=lambda row: int(row["index"]))
    return Records(
        title=f"digits ({split})",
        labels=np.array([row["label"] for row in rows], np.int32),
        class_names=digits.CLASS_NAMES,
        read=lambda row: rows[row]["image"],
        where=lambda row: f"image {row} of digits ({split})",
        shape=(digits.SIDE, digits.SIDE),
        files=lambda own: [(f"image {row}", len(rows[row]["image"])) for row in own],
    )


def _image(source_records: Records, row: int, size: int | None) -> np.ndarray:
    image = decoded(source_records.read(row), source_records.where(row))
    return np.asarray(image) if size is None else whole(image, size)


def _room(source: str, count: int, shape: tuple[int, ...]) -> np.ndarray:
    """Allocates the array up front, so that a set too large for memory is refused rather than killed by the system."""
    size = count * int(np.prod(shape))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise InputError(
            f"{source} takes {size / 2**30:.0f} GiB of memory and there are {memory / 2**30:.0f}; take a smaller size "
            "or fewer classes, or stream it"
        )
    return np.empty((count, *shape), np.uint8)


def hold_out(data: ImageSet, share: float, seed: int = 0) -> tuple[ImageSet, ImageSet]:
    """Splits off a fraction of every class, to choose settings without the test images.

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
