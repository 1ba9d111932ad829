"""What a learner is: a whole method of class-incremental learning as phases of training and of fitting in closed form.

The driver (`training.tasks`) runs the phases of one task after the other and knows two kinds of them. A `Training`
takes optimiser steps in compiled chunks; its functions are pure and take the learner as their first argument, so a
change of one of its leaves compiles nothing. A `Fit` is called once per task and run, outside jit, on features of rows
that it names. All rows are row numbers of the run's *pool*: its real training images first, then auxiliary ones.

Letters: R rows of a task, A auxiliary rows, N images of the pool, C classes, B images of a batch, D features.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from jax import Array


class Task(NamedTuple):
    """The images and classes of one step of class-incremental learning; shapes are the same in all tasks."""

    index: int
    rows: np.ndarray  # int32 [R] of the pool, real images of this task; -1 pads
    auxiliary: np.ndarray  # int32 [A] of the pool; -1 pads
    labels: np.ndarray  # int32 [N] of the pool, as this variant sees them; from C on, classes that never come
    seen: np.ndarray  # bool [C], classes of this task and of those before
    new: np.ndarray  # bool [C], classes of this task


class Part(NamedTuple):
    """Rows that fill a fixed number of places of every batch, in epochs of their own."""

    rows: np.ndarray  # int32 [R] of the pool; -1 pads
    size: int  # places in a batch


class Batch(NamedTuple):
    """Images of one step. The mean of a loss is sum(w l) / sum(w), with w `classify` or `distill` by its kind."""

    images: (
        Array  # [B, H, W, 3], uint8; or float32 in [-1, 1], which are taken as they are, without augmentation
    )
    labels: Array  # int32 [B]
    auxiliary: Array  # bool [B], whether an image is not of the real training images
    classify: Array  # float32 [B], an image's weight in every classification loss
    distill: Array  # float32 [B], its weight in every distillation loss
    step: Array  # int32 [], steps of this training before this one
    steps: Array  # int32 [], of the whole training
    epoch: Array  # int32 [], passes over the first part before this step
    epochs: Array  # int32 [], of the whole training, the last one perhaps not whole


class Training(NamedTuple):
    """A phase of optimiser steps.

    Exactly one of `epochs` and `steps` is given; 0 skips the phase. One program is compiled per step function, so that
    function must not be made anew for each task.
    """

    name: str
    # (learner, state, task, key) -> parts of a batch; on the host, for one run. Sizes are alike in all runs and tasks;
    # an epoch is one pass over the rows of the first part
    parts: Callable[[Any, Any, Task, Array], tuple[Part, ...]]
    begin: Callable[[Any, Any, Task, Array], Any]  # (learner, state, task, key) -> train_state
    # (learner, train_state, batch, key) -> (train_state, metrics); right for every B
    step: Callable[[Any, Any, Batch, Array], tuple[Any, dict[str, Array]]]
    end: Callable[[Any, Any, Any, Task], Any]  # (learner, train_state, state, task) -> state
    epochs: int | None = None
    steps: int | None = None
    balanced: bool = (
        False  # whether it is on images that balance the classes, which a wrapper may leave alone
    )


def as_they_are(images: Array) -> Array:
    """The view of images that changes nothing."""
    return images


AS_THEY_ARE: Mapping[str, Callable[[Array], Array]] = {"images": as_they_are}


class Fit(NamedTuple):
    """A phase in closed form: class means, herding, a head on frozen features, a copy of the network.

    A fit keeps the structure of the state. What a fit that serves one reading adds to it is made by `start`, once,
    before its first task. Such a fit is run, saved and added to a finished run on its own, and its key is the run's,
    whatever other readings there are.
    """

    name: str
    # (learner, state, task, key) -> rows of the pool by the name of a set, -1 pads; {} computes no features
    rows: Callable[[Any, Any, Task, Array], dict[str, np.ndarray]]
    # (learner, state, features {set: {view: [R', D]}}, labels {set: int32 [R'], -1 pads}, task, key) -> state
    fit: Callable[[Any, Any, dict[str, dict[str, Array]], dict[str, Array], Task, Array], Any]
    views: Mapping[str, Callable[[Array], Array]] = AS_THEY_ARE  # by name: float32 images -> images, static
    reading: str | None = None
    start: Callable[[Any, Any, Array], Any] | None = None  # (learner, state, key) -> state


Phase = Training | Fit


class Learner(Protocol):
    """A whole method, as a frozen pytree: what may be swept is a leaf, what changes a shape static, what is off None.

    A learner may also have `logit_readings`, the names of those readings whose scores are logits, of which the
    calibration error is measured.
    """

    @property
    def frozen_after(self) -> int | None:
        """The task after which features do not change any more (0), or None for a learner that keeps training."""
        ...

    @property
    def reading_names(self) -> tuple[str, ...]:
        """Its classifiers, in the order in which results list them."""
        ...

    def init(self, key: Array, example_images: Array) -> Any:
        """The state before the first task; images [B, H, W, 3] float32 give the shapes."""
        ...

    def phases(self, task_index: int) -> tuple[Phase, ...]:
        """What is done in a task, in order."""
        ...

    def features(self, state: Any, images: Array) -> Array:
        """Features [B, D] of images [B, H, W, 3] in [-1, 1]."""
        ...

    def readings(self, state: Any, features: Array) -> dict[str, Array]:
        """Scores [B, C] of features [B, D] by every reading that the state holds; -inf for classes not seen."""
        ...

    def scores(self, state: Any, images: Array) -> Array:
        """Scores [B, C] of images [B, H, W, 3] in [-1, 1] by the first reading."""
        ...


class Setup(NamedTuple):
    """What a run's settings and data say about a learner: the argument of every maker of learners."""

    num_classes: int  # C
    other_classes: int  # classes of auxiliary images that never come; their labels are from C on
    task_sizes: tuple[int, ...]
    image_shape: tuple[int, int]  # height, width
    images_per_class: int  # real training images of the largest class
    network: Any  # a module images [B, H, W, 3] -> features [B, D] with batch statistics
    output_layer: Any  # of `extractors.output_layer`
    optimizer: Any  # of `training.optimizer`
    steps: int  # of the first training
    batch_size: int
    augmentation: Any  # of `data.augmentation`
    label_smoothing: float | None
    average_decay: float | None
    heads: dict[str, Any]  # for readings of a frozen extractor, by name
    later_training: Any  # fields of the config: what differs in later tasks
    memory: Any  # fields of the config: exemplars


def whole(rows: np.ndarray) -> np.ndarray:
    """Rows without their padding."""
    rows = np.asarray(rows)
    return rows[rows >= 0]
