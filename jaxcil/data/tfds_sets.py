"""Data sets that TFDS has prepared as ArrayRecord, read without TensorFlow."""

import contextlib
import functools
import io
import pathlib
import sys
from typing import Any

import numpy as np

from jaxcil.data.class_names.class_list import TFDS, WORDNET_ID
from jaxcil.data.records import Records
from jaxcil.errors import InputError, unknown_name
from jaxcil.workdir import files

SIZES = (8, 16, 32, 64)
KNOWN = ("cifar10", "cifar100", "imagenet2012", *(f"imagenet_resized/{n}x{n}" for n in SIZES))
BLOCK = 1000  # labels per read; they are stored among the images, so reading them reads all of ImageNet, once


def is_tfds(source: str) -> bool:
    """Whether a data set goes by the name of a TFDS builder: one of KNOWN, or "tfds:NAME"."""
    return source in KNOWN or source.startswith(TFDS)


def open_builder(name: str, data_dir: str | None) -> Any:
    """The TFDS builder of a data set, prepared or not.

    Args:
      name: one of KNOWN, "tfds:NAME" or "tfds:NAME/CONFIG".
      data_dir: TFDS folder; None takes the user's.

    Raises:
      InputError: TFDS has no such builder, or it is none of images with one label each.
    """
    import tensorflow_datasets as tfds  # here, since it takes seconds and folders do without

    try:
        with contextlib.redirect_stdout(sys.stderr):
            builder: Any = tfds.builder(
                name.removeprefix(TFDS), data_dir=data_dir
            )  # its features are typed as if none
    except Exception as error:  # TFDS has an exception for each of its many ways to find no builder
        first = str(error).strip().splitlines()[:1]
        raise InputError(
            f"TFDS gives no data set {name!r}: {''.join(first) or type(error).__name__}"
        ) from None
    config = builder.builder_config
    if len(builder.builder_configs) > 1 and config is not None and f"/{config.name}" not in name:
        kinds = sorted(f"{name}/{each}" for each in builder.builder_configs)
        raise InputError(f"{name} has several configurations, and one must be named: {', '.join(kinds)}")
    features = dict(builder.info.features.items())
    image, label = features.get("image"), features.get("label")
    if not isinstance(image, tfds.features.Image) or not isinstance(label, tfds.features.ClassLabel):
        raise InputError(
            f"{name} must have an image and a label for each record; its features are {', '.join(features)}"
        )
    return builder


def tfds_records(name: str, split: str, data_dir: str | None) -> Records:
    """The images of one split of a prepared data set, in the order in which TFDS holds them.

    Classes that go by WordNet ids are numbered as those sort: imagenet_resized numbers them otherwise, and with its
    labels every class order would differ from imagenet2012's.

    Args:
      name: as `open_builder` takes it.
      split: its name; "test" is validation where there is no labelled test split, as of ImageNet.
      data_dir: TFDS folder; None takes the user's.

    Raises:
      InputError: there is no such data set or split, or it is not prepared.
    """
    builder = open_builder(name, data_dir)
    if not builder.info.splits:
        raise InputError(
            f"{name} is not prepared in {builder.data_dir}. Run `jaxcil prepare-data {name}` once"
            f"{'' if data_dir is None else f', with --data_dir={data_dir}'}: it downloads the set, or reads what you "
            "downloaded, and needs TensorFlow for that (pip install 'jaxcil[prepare]'); reading needs none."
        )
    splits = sorted(builder.info.splits)
    if split == "test" and "validation" in splits and (split not in splits or builder.name == "imagenet2012"):
        split = "validation"
    if split not in splits:
        raise unknown_name(f"split of {name}", split, splits)
    return records_of(builder, split, name)


def records_of(builder: Any, split: str, name: str) -> Records:
    """The images of one split of a prepared builder."""
    import tensorflow_datasets as tfds

    # bytes, decoded here: TFDS would ask for OpenCV
    as_bytes = {"image": tfds.decode.SkipDecoding()}
    try:
        rows = builder.as_data_source(split=split, decoders=as_bytes)
    except NotImplementedError:
        raise InputError(
            f"{name} is prepared in {builder.data_dir} as {builder.info.file_format.value}, which only TensorFlow "
            f"reads; run `jaxcil prepare-data {name} --data_dir=ANOTHER`"
        ) from None
    names, labels = list(builder.info.features["label"].names), _labels(builder, split, rows)
    if names != sorted(names) and all(WORDNET_ID.fullmatch(each) for each in names):
        places = np.argsort(np.argsort(names)).astype(np.int32)
        names, labels = sorted(names), np.where(labels < 0, -1, places[labels])
    height, width = tuple(builder.info.features["image"].shape)[:2]
    return Records(
        title=f"{name} ({split})",
        labels=labels,
        class_names=tuple(names),
        read=functools.partial(_read, rows),
        where=lambda row: f"image {row} of {name} ({split})",
        shape=None if height is None or width is None else (height, width),
        files=lambda _: [(path.name, path.stat().length) for path in builder.info.splits[split].filepaths],
    )


def _read(rows: Any, row: int) -> bytes:
    return rows[row]["image"]


def _labels(builder: Any, split: str, rows: Any) -> np.ndarray:
    """Labels [N] of a split, kept in a file next to the records, with TFDS's description of these."""
    kept = pathlib.Path(builder.data_dir) / f"jaxcil-labels-{split}.npz"
    of = np.frombuffer(builder.info.splits[split].to_proto().SerializeToString(deterministic=True), np.uint8)
    if kept.is_file():
        with contextlib.suppress(OSError, ValueError, KeyError), np.load(kept) as held:
            if np.array_equal(held["of"], of) and len(held["labels"]) == len(rows):
                return held["labels"]
    labels = np.empty(len(rows), np.int32)
    for first in range(0, len(rows), BLOCK):
        block = range(first, min(first + BLOCK, len(rows)))
        labels[block.start : block.stop] = [row["label"] for row in rows.__getitems__(block)]
    buffer = io.BytesIO()
    np.savez(buffer, labels=labels, of=of)
    # a shared folder is often read-only: then the labels are read again the next time
    with contextlib.suppress(OSError, InputError):
        files.write(kept, buffer.getvalue())
    return labels
