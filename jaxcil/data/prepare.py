"""Prepares the data sets that TFDS knows as ArrayRecord, which is read without TensorFlow afterwards."""

import contextlib
import importlib.util
import pathlib
import sys
from typing import Any

from jaxcil.data import tfds_sets
from jaxcil.errors import InputError, unknown_name
from jaxcil.workdir import files
from jaxcil.workdir.record import undone_if_refused

# What TFDS may not download, because its makers give it to who signs in.
BY_HAND = {"imagenet2012": ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")}


def prepare(name: str, data_dir: str | None = None, manual_dir: str | None = None) -> pathlib.Path:
    """Makes ArrayRecord files of a data set; returns at once where they exist.

    TFDS writes to another folder and renames it, so what exists is complete. The labels are read at the end and kept
    next to it.

    Args:
      name: one of `tfds_sets.KNOWN`, or "tfds:NAME" for any other builder whose records have an image and a label.
      data_dir: TFDS folder; None takes the user's.
      manual_dir: holds archives that were downloaded by hand, under the names that they have on their site; those of
        ImageNet must be, others may be where TFDS cannot reach the site.

    Returns:
      The folder of the prepared set.

    Raises:
      InputError: TFDS has no such set, TensorFlow is missing, the archives cannot be had, or nothing can be written.
    """
    if not tfds_sets.is_tfds(name):
        error = unknown_name("data set to prepare", name, (*tfds_sets.KNOWN, "tfds:NAME"))
        raise InputError(f"{error} Folders of images and the digits need no preparation.")
    with contextlib.nullcontext() if data_dir is None else undone_if_refused(data_dir):
        return _prepared(name, data_dir, manual_dir)


def _prepared(name: str, data_dir: str | None, manual_dir: str | None) -> pathlib.Path:
    if data_dir is not None:
        files.writable_directory(data_dir)
    builder = tfds_sets.open_builder(name, data_dir)
    if not builder.info.splits:
        if name in tfds_sets.KNOWN and importlib.util.find_spec("tensorflow") is None:
            raise _no_tensorflow(name)
        _check_by_hand(name, manual_dir)
        _download_and_prepare(builder, name, manual_dir)
    for split, info in builder.info.splits.items():
        if info.num_examples:
            tfds_sets.records_of(builder, split, name)
    return pathlib.Path(builder.data_dir)


def _download_and_prepare(builder: Any, name: str, manual_dir: str | None) -> None:
    import requests
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    config = tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False)
    where = "." if manual_dir is None else f" {manual_dir}."
    try:
        with contextlib.redirect_stdout(sys.stderr), files.storage_errors(builder.data_dir):
            builder.download_and_prepare(download_config=config, file_format="array_record")
    except ModuleNotFoundError as error:
        if error.name != "tensorflow":
            raise
        raise _no_tensorflow(name) from None
    except (requests.RequestException, tfds.download.DownloadError) as error:
        raise InputError(
            f"{name} cannot be downloaded: {error}\nDownload it elsewhere, from {builder.info.homepage}, and give the "
            "folder that holds the archive under its own name as --manual_dir."
        ) from None
    except NonMatchingChecksumError as error:
        raise InputError(
            f"an archive of {name} is not the one that TFDS knows; download it anew: {error}"
        ) from None
    except AssertionError as error:  # how TFDS says that archives are missing
        raise InputError(f"{name} must be downloaded by hand into --manual_dir{where}\n{error}") from None


def _check_by_hand(name: str, manual_dir: str | None) -> None:
    files = BY_HAND.get(name, ())
    absent = [file for file in files if manual_dir is None or not (pathlib.Path(manual_dir) / file).is_file()]
    if absent:
        raise InputError(
            f"{name} must be downloaded by hand, from https://image-net.org/download-images; --manual_dir must hold "
            f"{' and '.join(files)}, and {manual_dir or 'it'} lacks {' and '.join(absent)}."
        )


def _no_tensorflow(name: str) -> InputError:
    return InputError(
        f"TFDS prepares {name} by TensorFlow, which is not installed: pip install 'jaxcil[prepare]', in an environment "
        "of its own if you like; what it prepares is read without."
    )
