"""Folders of images, a folder a class, as people and ImageNet lay them out.

    SPLIT/CLASS/*.png                                           anyone's
    train/WNID/*.JPEG, val/WNID/*.JPEG                          ImageNet
    train/WNID/images/*.JPEG, val/images/*.JPEG and             Tiny-ImageNet; its own test folder has no labels
    val/val_annotations.txt, wnids.txt

The folder's name is the name of the class, for ImageNet therefore the WordNet id: that is how the class list imagenet1k
and TFDS call it too, so that synthetic images join it. Both have no labelled test images: "test" is their val.
"""

import functools
import os
import pathlib

import numpy as np

from jaxcil.data.records import Records
from jaxcil.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
ANNOTATIONS = "val_annotations.txt"
# Where the test images of a set may lie, in the order in which they are looked for.
TEST = ("test", "val", "validation")


def folder_records(root: pathlib.Path, split: str) -> Records:
    """The images of one split of a folder, class by class in the order of names.

    Args:
      root: holds a folder a split.
      split: its name; "test" is val or validation where there is no test folder, or one without labels.

    Raises:
      InputError: there is no such folder, or it has another layout, or a class has no images.
    """
    folder = _split_folder(root, split)
    if (folder / ANNOTATIONS).is_file():
        classes = _annotated(root, folder)
    else:
        names = sorted(path.name for path in folder.iterdir() if path.is_dir())
        if not names:
            raise InputError(f"{folder} holds no folder; expected one for each class, with its images inside")
        classes = {name: _images(folder / name) for name in names}
    for name, paths in classes.items():
        if not paths:
            raise InputError(f"class {name!r} has no images: {folder / name} holds no {', '.join(SUFFIXES)}")
    files = [path for paths in classes.values() for path in paths]
    return Records(
        title=str(folder),
        labels=np.repeat(np.arange(len(classes), dtype=np.int32), [len(paths) for paths in classes.values()]),
        class_names=tuple(classes),
        read=functools.partial(_read, files),
        where=files.__getitem__,
    )


def _split_folder(root: pathlib.Path, split: str) -> pathlib.Path:
    candidates = TEST if split == "test" else (split,)
    if split == "test" and (root / "val" / ANNOTATIONS).is_file():
        return root / "val"
    found = [root / name for name in candidates if (root / name).is_dir()]
    if len(found) > 1 and not any(_folders(found[0]) & _folders(root / "train")):
        found = found[1:]  # ImageNet's test images have no labels, and lie beside each other
    if found:
        return found[0]
    there = sorted(path.name for path in root.iterdir() if path.is_dir())
    raise InputError(
        f"{root} holds no folder {split!r}, it has {', '.join(there[:10]) or 'none'}; a data set is SPLIT/CLASS/*.png "
        "with train and test"
    )


def _folders(folder: pathlib.Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir()} if folder.is_dir() else set()


def _images(folder: pathlib.Path) -> list[str]:
    if (folder / "images").is_dir():
        folder = folder / "images"
    # strings of one list, since a path each would take a gigabyte for ImageNet
    return [
        os.path.join(folder, name)
        for name in sorted(os.listdir(folder))
        if name.lower().endswith(SUFFIXES) and not name.startswith(".")
    ]


def _annotated(root: pathlib.Path, folder: pathlib.Path) -> dict[str, list[str]]:
    """Tiny-ImageNet's val: a line "val_0.JPEG<tab>n03444034<tab>..." an image."""
    rows = [line.split("\t") for line in (folder / ANNOTATIONS).read_text("utf-8").splitlines() if line]
    if any(len(row) < 2 for row in rows):
        raise InputError(
            f"{folder / ANNOTATIONS} must have lines FILE<tab>CLASS<tab>..., got one without a tab"
        )
    listed = root / "wnids.txt"
    names = listed.read_text("utf-8").split() if listed.is_file() else [row[1] for row in rows]
    classes: dict[str, list[str]] = {name: [] for name in sorted(set(names))}
    for row in sorted(rows):
        if row[1] not in classes:
            raise InputError(f"{folder / ANNOTATIONS} has the class {row[1]!r}, which {listed} has not")
        classes[row[1]].append(str(folder / "images" / row[0]))
    return classes


def _read(files: list[str], row: int) -> bytes:
    try:
        return pathlib.Path(files[row]).read_bytes()
    except OSError as error:
        raise InputError(f"{files[row]} cannot be read: {error.strerror}") from None
