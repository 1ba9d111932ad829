"""Folders of images, one folder per class, in the layouts of ImageNet, Tiny-ImageNet and most people.

    SPLIT/CLASS/*.png                                           anyone's
    train/WNID/*.JPEG, val/WNID/*.JPEG                          ImageNet
    train/WNID/images/*.JPEG, val/images/*.JPEG and             Tiny-ImageNet; its own test folder has no labels
    val/val_annotations.txt, wnids.txt

A class is named by its folder, for ImageNet by the WordNet id, as in the class list imagenet1k and in TFDS, so that
synthetic images match. Neither of the two has labelled test images: "test" is their val.
"""

import functools
import os
import pathlib

import numpy as np

from jaxcil.data.records import Records
from jaxcil.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
ANNOTATIONS = "val_annotations.txt"
# Folders that may hold the test images, in order of preference.
TEST = ("test", "val", "validation")


def is_image(name: str) -> bool:
    """Whether a file is an image, by the ending of its name."""
    return name.lower().endswith(SUFFIXES)


def is_hidden(name: str) -> bool:
    """Whether a path has a part that systems and tools create, such as .DS_Store or __MACOSX."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def visible(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files and folders in a folder that are not hidden, sorted."""
    return sorted(path for path in folder.iterdir() if not is_hidden(path.name))


def folder_records(root: pathlib.Path, split: str) -> Records:
    """The images of one split of a folder, class by class in the order of names.

    Args:
      root: holds a folder per split.
      split: its name; "test" is val or validation if there is no test folder, or one without labels.

    Raises:
      InputError: the folder is missing or has another layout, or a class has no images.
    """
    folder = _split_folder(root, split)
    if (folder / ANNOTATIONS).is_file():
        classes = _annotated(root, folder)
    else:
        names = [path.name for path in visible(folder) if path.is_dir()]
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
        files=lambda rows: [(files[row], os.stat(files[row]).st_size) for row in rows],
    )


def _split_folder(root: pathlib.Path, split: str) -> pathlib.Path:
    candidates = TEST if split == "test" else (split,)
    if split == "test" and (root / "val" / ANNOTATIONS).is_file():
        return root / "val"
    splits = [root / name for name in candidates if (root / name).is_dir()]
    if len(splits) > 1 and not any(_folders(splits[0]) & _folders(root / "train")):
        splits = splits[1:]  # ImageNet's test images have no labels and lie in one folder
    if splits:
        return splits[0]
    others = [path.name for path in visible(root) if path.is_dir()]
    raise InputError(
        f"{root} holds no folder {split!r}, it has {', '.join(others[:10]) or 'none'}; a data set is SPLIT/CLASS/*.png "
        "with train and test"
    )


def _folders(folder: pathlib.Path) -> set[str]:
    return {path.name for path in visible(folder) if path.is_dir()} if folder.is_dir() else set()


def _images(folder: pathlib.Path) -> list[str]:
    if (folder / "images").is_dir():
        folder = folder / "images"
    # strings, since paths would take a gigabyte for ImageNet
    return [
        os.path.join(folder, name)
        for name in sorted(os.listdir(folder))
        if is_image(name) and not is_hidden(name)
    ]


def _annotated(root: pathlib.Path, folder: pathlib.Path) -> dict[str, list[str]]:
    """Tiny-ImageNet's val: one line "val_0.JPEG<tab>n03444034<tab>..." per image."""
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
            raise InputError(f"{folder / ANNOTATIONS} has the class {row[1]!r}, which is not in {listed}")
        classes[row[1]].append(str(folder / "images" / row[0]))
    return classes


def _read(files: list[str], row: int) -> bytes:
    try:
        return pathlib.Path(files[row]).read_bytes()
    except OSError as error:
        raise InputError(f"{files[row]} cannot be read: {error.strerror}") from None
