"""Class-incremental scenarios: the order of the classes, their split into tasks, and contiguous labels.

A contiguous label is a class's place in the class order, so that the classes of task t are a range and all
classes seen after it are 0 .. n - 1. Splits follow PyCIL's data manager (LAMDA-CL/PyCIL, f3509b8): the last task takes
the classes that remain. Orders go by the names of `jaxcil.data.class_orders`.
"""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from jaxcil.data.class_names.class_list import WORDNET_ID
from jaxcil.data.class_orders import OF_CIFAR100, SAME, named_order
from jaxcil.errors import InputError


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Classes in the order in which they are learned, and the size of each task."""

    class_names: tuple[str, ...]  # in class order
    class_order: tuple[int, ...]  # original id by position
    task_sizes: tuple[int, ...]  # classes of each task

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_order)

    @property
    def num_tasks(self) -> int:
        """T."""
        return len(self.task_sizes)

    @property
    def class_order_hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the class names in order, one per line."""
        return hashlib.sha256("\n".join(self.class_names).encode()).hexdigest()[:16]

    @property
    def task_of_class(self) -> np.ndarray:
        """[C] int32: the task of each contiguous label."""
        return np.repeat(np.arange(self.num_tasks, dtype=np.int32), self.task_sizes)

    def classes(self, task: int) -> range:
        """Contiguous labels of the classes of a task."""
        self._check_task(task)
        first = sum(self.task_sizes[:task])
        return range(first, first + self.task_sizes[task])

    def new(self, task: int) -> np.ndarray:
        """[C] bool: the classes of this task."""
        self._check_task(task)
        return self.task_of_class == task

    def seen(self, task: int) -> np.ndarray:
        """[C] bool: the classes of this task and of all before."""
        self._check_task(task)
        return self.task_of_class <= task

    def to_contiguous(self, labels: Sequence[int] | np.ndarray) -> np.ndarray:
        """Places in the class order, int32, of original class ids of any shape."""
        labels = np.asarray(labels)
        _check_ids(labels, self.num_classes)
        position = np.empty(self.num_classes, np.int32)
        position[list(self.class_order)] = np.arange(self.num_classes, dtype=np.int32)
        return position[labels]

    def _check_task(self, task: int) -> None:
        if not 0 <= task < self.num_tasks:
            raise InputError(f"there are {self.num_tasks} tasks, 0 to {self.num_tasks - 1}; got task {task}.")


def make_scenario(
    class_names: Sequence[str],
    first_classes: int | None = None,
    classes_per_task: int | None = None,
    *,
    class_order: str | Sequence[int] = "seed-1993",
    task_sizes: Sequence[int] | None = None,
) -> Scenario:
    """Splits the classes of a data set into tasks.

    Args:
      class_names: by original class id.
      first_classes: classes of task 0; all of them give one task.
      classes_per_task: classes of each later task; the last takes the remainder.
      class_order: one of `class_orders.NAMES` ("seed-N", "label-order", "icarl", ...), or the original ids in the order
        of learning.
      task_sizes: number of classes of each task, together all of the data set's; then first_classes and
        classes_per_task are ignored.

    Raises:
      InputError: for impossible sizes, an unknown order, or that of another data set.
    """
    total = len(class_names)
    if total == 0:
        raise InputError("a scenario needs at least one class, got an empty list of class names.")
    if len(set(class_names)) != total:
        doubled = sorted({name for name in class_names if list(class_names).count(name) > 1})
        raise InputError(
            f"class names must differ, because classes are joined by name; given twice: {doubled}."
        )
    if task_sizes is None:
        sizes = _equal_sizes(total, first_classes, classes_per_task)
    else:
        sizes = _checked_sizes(total, task_sizes)
    order = resolve_class_order(class_order, total)
    if (
        isinstance(class_order, str)
        and SAME.get(class_order, class_order) in OF_CIFAR100
        and all(WORDNET_ID.fullmatch(name) for name in class_names)
    ):
        raise InputError(
            f"the class order {class_order!r} is one of CIFAR-100, but these are classes of ImageNet "
            f"({class_names[0]}, ...). PODNet's own order on ImageNet-Subset and on ImageNet is seed-1993."
        )
    return Scenario(tuple(class_names[i] for i in order), order, sizes)


def resolve_class_order(order: str | Sequence[int], num_classes: int) -> tuple[int, ...]:
    """Original class ids by position, from a name of `class_orders.NAMES` or the ids themselves."""
    if isinstance(order, str):
        return named_order(order, num_classes)
    if isinstance(order, int | np.integer):
        raise InputError(f"class_order must be a name or a tuple of ids; got {order}: 'seed-{order}'?")
    ids = tuple(int(i) for i in order)
    if sorted(ids) != list(range(num_classes)):
        missing = sorted(set(range(num_classes)) - set(ids))
        raise InputError(
            f"class_order must name each of the class ids 0 to {num_classes - 1} once; got {len(ids)} ids, "
            f"missing {missing[:10]}{' ...' if len(missing) > 10 else ''}."
        )
    return ids


def _equal_sizes(total: int, first_classes: int | None, classes_per_task: int | None) -> tuple[int, ...]:
    if first_classes is None or classes_per_task is None:
        raise InputError("give first_classes and classes_per_task, or task_sizes.")
    if not 1 <= first_classes <= total:
        raise InputError(
            f"first_classes must lie in [1, {total}], the classes of the data set; got {first_classes}."
        )
    if classes_per_task < 1:
        raise InputError(
            f"classes_per_task must be at least 1, got {classes_per_task}.\n"
            f"For a single task with all classes set first_classes to {total}."
        )
    whole, remainder = divmod(total - first_classes, classes_per_task)
    return (first_classes, *[classes_per_task] * whole, *[remainder] * (remainder > 0))


def _checked_sizes(total: int, task_sizes: Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(task_sizes)
    if not all(isinstance(size, int | np.integer) and size >= 1 for size in sizes):
        raise InputError(f"task_sizes must be whole numbers of at least 1, got {sizes}.")
    if sum(sizes) != total:
        raise InputError(
            f"task_sizes must add up to the {total} classes of the data set; {' + '.join(map(str, sizes)) or 'none'} "
            f"is {sum(sizes)}."
        )
    return tuple(int(size) for size in sizes)


def check_images(labels: np.ndarray, class_names: Sequence[str], *, split: str = "train") -> None:
    """Refuses a data set in which a class has no images.

    Args:
      labels: [N] original class ids of the images of one split.
      class_names: by original class id.
      split: its name, for the message.
    """
    labels = np.asarray(labels)
    _check_ids(labels, len(class_names))
    counts = np.bincount(labels.ravel().astype(np.int64), minlength=len(class_names))
    empty = [f"{class_names[i]!r} (id {i})" for i in np.flatnonzero(counts == 0).tolist()]
    if empty:
        raise InputError(
            f"every class needs images, but {len(empty)} of {len(class_names)} have no {split} images: "
            f"{', '.join(empty[:5])}{' ...' if len(empty) > 5 else ''}.\n"
            "Add images of them, or leave the classes out of the data set."
        )


def _check_ids(labels: np.ndarray, num_classes: int) -> None:
    if labels.size and not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"class ids must be integers, got an array of {labels.dtype}.")
    if labels.size and (labels.min() < 0 or labels.max() >= num_classes):
        worst = labels.min() if labels.min() < 0 else labels.max()
        raise InputError(f"original class ids must lie in [0, {num_classes}), got {worst}.")
