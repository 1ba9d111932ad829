"""SDDR, diffusion model for distillation and replay (Jodelet et al., arXiv:2306.17560).

A learner that keeps training has a few real images of past classes, or none. SDDR draws images of past classes from a
text-to-image model, by their names, and adds them to every batch of the tasks after the first:

    distillation      the teacher knows these classes, so that what it says of such images is worth keeping
    classification    the images have labels, so that they are replayed as well

Synthetic images never become exemplars and are never tested on. Here this wraps any learner; the images of a task are
its auxiliary rows, of classes of earlier tasks alone.

Not public are the prompt, the guidance, the part of a batch and the loss weights; ours are options. By default the
synthetic images come on top of the real ones, so that a step sees equally many real images with and without them.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil.data.augmentation.augmentation import Augmentation
from jaxcil.errors import InputError
from jaxcil.heads.class_statistics import check_positive
from jaxcil.learners.wrapped import Wrapped, passed_on, with_real_augmented
from jaxcil.training.learner import Batch, Part, Phase, Task, Training, whole


@flax.struct.dataclass
class SDDR(Wrapped):
    """A learner whose trainings of later tasks see synthetic images of past classes.

    Attributes:
      learner: any learner that keeps training.
      batch_fraction: of a batch, synthetic images.
      on_top: whether they come on top of the learner's batch, or take places of its first part.
      balanced: whether trainings on a balanced memory see them too.
      classification_weight: of a synthetic image in classification losses, a real one having 1; None: 1, at no cost.
      distillation_weight: likewise in distillation losses.
      augmentation: of real images, where synthetic ones are to stay as they are; None: the learner augments all alike.
    """

    batch_fraction: float = flax.struct.field(pytree_node=False)
    on_top: bool = flax.struct.field(pytree_node=False, default=True)
    balanced: bool = flax.struct.field(pytree_node=False, default=False)
    classification_weight: Array | float | None = None
    distillation_weight: Array | float | None = None
    augmentation: Augmentation | None = flax.struct.field(pytree_node=False, default=None)

    def phases(self, task_index: int) -> tuple[Phase, ...]:
        """The learner's; trainings of later tasks see synthetic images."""
        return tuple(
            phase._replace(parts=_with_synthetic(phase.parts), step=_weighted(phase.step))
            if task_index and isinstance(phase, Training) and (self.balanced or not phase.balanced)
            else phase
            for phase in map(passed_on, self.learner.phases(task_index))
        )


def sddr(
    learner: Any,
    batch_fraction: float,
    classification_weight: Array | float | None = None,
    distillation_weight: Array | float | None = None,
    *,
    on_top: bool = True,
    balanced: bool = False,
    augmentation: Augmentation | None = None,
) -> SDDR:
    """A learner that replays, and is held to what it knew of, synthetic images; arguments as the attributes of `SDDR`.

    Raises:
      InputError: a fraction that leaves no real or no synthetic image, or a negative weight.
    """
    if not 0 < batch_fraction < 1:
        raise InputError(f"batch_fraction of sddr must lie between 0 and 1, got {batch_fraction}")
    for name, weight in (
        ("classification_weight", classification_weight),
        ("distillation_weight", distillation_weight),
    ):
        if weight is not None:
            check_positive(f"{name} of sddr", weight, zero=True)
    return SDDR(
        learner=learner,
        batch_fraction=batch_fraction,
        on_top=on_top,
        balanced=balanced,
        classification_weight=classification_weight,
        distillation_weight=distillation_weight,
        augmentation=augmentation,
    )


@functools.lru_cache(maxsize=256)
def _with_synthetic(parts: Callable[..., tuple[Part, ...]]) -> Callable[..., tuple[Part, ...]]:
    def mixed(learner: SDDR, state: Any, task: Task, key: Array) -> tuple[Part, ...]:
        first, *others = parts(learner, state, task, key)
        rows = past_rows(task)
        size = first.size + sum(part.size for part in others)
        fraction = learner.batch_fraction
        if learner.on_top:
            return (first, *others, Part(rows, max(1, round(size * fraction / (1 - fraction)))))
        places = min(max(1, round(size * fraction)), first.size - 1)
        return (first._replace(size=first.size - places), *others, Part(rows, places))

    return mixed


def past_rows(task: Task) -> np.ndarray:
    """The auxiliary rows of a task, padded.

    Raises:
      InputError: there are none, or one is labelled with a class that no earlier task had.
    """
    rows = whole(task.auxiliary)
    if not len(rows):
        raise InputError(
            f"sddr needs synthetic images of past classes in task {task.index}, and there are none"
        )
    labels = task.labels[rows]
    past = np.asarray(task.seen & ~task.new)
    known = (labels < len(past)) & past[np.minimum(labels, len(past) - 1)]
    if not known.all():
        raise InputError(
            f"sddr takes images of past classes; in task {task.index} row {rows[np.argmin(known)]} of the pool is "
            f"labelled {labels[np.argmin(known)]}, a class of no earlier task"
        )
    return np.asarray(task.auxiliary)


@functools.lru_cache(maxsize=256)
def _weighted(step: Callable[..., Any]) -> Callable[..., Any]:
    def weighted(learner: SDDR, train_state: Any, batch: Batch, key: Array) -> tuple[Any, dict[str, Array]]:
        for kind, weight in (
            ("classify", learner.classification_weight),
            ("distill", learner.distillation_weight),
        ):
            if weight is not None:
                weights = jnp.where(batch.auxiliary, weight, getattr(batch, kind))
                batch = batch._replace(**{kind: weights})
        return step(learner, train_state, with_real_augmented(batch, learner.augmentation, key), key)

    return weighted
