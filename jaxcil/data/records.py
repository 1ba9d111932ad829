"""The encoded images of one split where they lie, read one by one, for whole sets and streams."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from jaxcil.data.class_names.class_list import KNOWN, TFDS, read_class_list
from jaxcil.errors import InputError
from jaxcil.workdir.files import is_file


@dataclasses.dataclass(frozen=True)
class Records:
    """Labels in memory, images on the disk."""

    title: str  # data set and split, for messages
    labels: np.ndarray  # int32 [N], positions in class_names
    class_names: tuple[str, ...]
    read: Callable[[int], bytes]  # the file of the image in a row of [0, N); several threads may call it
    where: Callable[[int], str]  # what a message calls that image
    shape: tuple[int, int] | None = None  # height and width that all have; None: any
    # names and bytes of the files that hold the images of some rows, found without reading them; None: unknown
    files: Callable[[np.ndarray], list[tuple[str, int]]] | None = None

    def __len__(self) -> int:
        """N."""
        return len(self.labels)

    def class_counts(self) -> np.ndarray:
        """Images of each class, int64 [C]."""
        return np.bincount(self.labels, minlength=len(self.class_names))

    def rows_of(self, classes: Sequence[int] | np.ndarray) -> np.ndarray:
        """Rows int32 [R], ascending, of the images whose labels are among these."""
        return np.flatnonzero(np.isin(self.labels, classes)).astype(np.int32)

    def subset(self, rows: np.ndarray) -> "Records":
        """The records of some rows, int [R], in this order."""
        return dataclasses.replace(
            self,
            labels=self.labels[rows],
            read=lambda row: self.read(int(rows[row])),
            where=lambda row: self.where(int(rows[row])),
            files=None if self.files is None else lambda own: self.files(rows[own]),  # type: ignore[misc]
        )


def check_labels(records: Records) -> None:
    """Rejects labels outside [0, C): NumPy would read -1 (unlabelled) as the last class.

    Raises:
      InputError: names the worst.
    """
    labels, total = records.labels, len(records.class_names)
    if labels.size and not 0 <= labels.min() <= labels.max() < total:
        worst = labels.min() if labels.min() < 0 else labels.max()
        hint = "; the split has no labels" if labels.max() < 0 else ""
        raise InputError(f"labels of {records.title} must lie in [0, {total}), got {worst}{hint}.")


def check_classes(records: Records) -> None:
    """Refuses classes without images.

    Raises:
      InputError: names the first.
    """
    empty = np.flatnonzero(records.class_counts() == 0)
    if len(empty):
        more = f" (nor have {len(empty) - 1} others)" if len(empty) > 1 else ""
        raise InputError(
            f"class {records.class_names[empty[0]]!r} has no images in {records.title}{more}; leave it out by "
            "classes=NAME,NAME,..."
        )


def check_size(records: Records, size: int) -> None:
    """Refuses to scale images that all have one size already, as those of CIFAR.

    Raises:
      InputError: says which they have.
    """
    if size < 1:
        raise InputError(f"the side of images must be at least 1 pixel, got {size}")
    if records.shape is not None and records.shape != (size, size):
        height, width = records.shape
        raise InputError(
            f"{records.title} has images of {height} x {width} pixels, not {size} x {size}; leave the size out, or "
            "give theirs"
        )


def of_classes(records: Records, classes: str) -> Records:
    """The records of some classes, with labels in the order in which these are named.

    Args:
      records: of any classes; their labels are checked.
      classes: a class list as `read_class_list` takes it, or names divided by commas.

    Raises:
      InputError: for an unknown list, a class that the data set does not have, or one named twice.
    """
    names = _names(classes)
    if len(set(names)) < len(names):
        doubled = sorted({name for name in names if names.count(name) > 1})
        raise InputError(f"classes must be named once each; named twice: {', '.join(doubled)}")
    places = {name: label for label, name in enumerate(records.class_names)}
    absent = [name for name in names if name not in places]
    if absent:
        raise InputError(
            f"{records.title} has no class {absent[0]!r}{f' (nor {len(absent) - 1} others)' if absent[1:] else ''}; "
            f"its {len(places)} classes are {', '.join(list(places)[:12])}{', ...' if len(places) > 12 else ''}. "
            f"Lists of classes are {', '.join(KNOWN)}."
        )
    new = np.full(len(places), -1, np.int32)
    new[[places[name] for name in names]] = np.arange(len(names), dtype=np.int32)
    rows = np.flatnonzero(new[records.labels] >= 0)
    chosen = records.subset(rows)
    return dataclasses.replace(chosen, labels=new[chosen.labels], class_names=tuple(names))


def _names(classes: str) -> list[str]:
    if classes in KNOWN or classes.startswith(TFDS) or is_file(classes):
        return [entry.name for entry in read_class_list(classes)]
    names = [name.strip() for name in classes.split(",")]
    if not all(names):
        raise InputError(f"classes must be a class list or names divided by commas, got {classes!r}")
    return names
