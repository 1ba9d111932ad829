"""FPCIL, future-proofing class-incremental learning (Jodelet et al., arXiv:2404.03200).

A feature extractor that is frozen after the first task knows only what the first classes taught it. FPCIL draws
images of the classes to come from a text-to-image model, by their names, before the first training:

    1. train extractor and output layer on real images of the first classes and synthetic images of the future
       ones, under one cross-entropy over both,
    2. drop the output layer's columns of the future classes,
    3. freeze the extractor and run an exemplar-free head on the real images of every task.

No synthetic image is replayed or tested on, and a future class is learned from its real images when its task
comes. Here step 1 wraps any learner, whose first training it changes; with `learners.frozen` it is the paper's method.
The paper's recipe of the joint training is not public; ours is in the configs.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil.data.augmentation.augmentation import Augmentation
from jaxcil.learners.wrapped import Wrapped, passed_on, with_real_augmented
from jaxcil.training.learner import Batch, Part, Phase, Task, Training, whole


@flax.struct.dataclass
class FPCIL(Wrapped):
    """A learner whose first training sees a task's auxiliary rows as well.

    Attributes:
      learner: any learner. It drops the columns of classes that have not come at the end of its training.
      loss_weight: weight of an auxiliary image in the classification loss, a real one having 1; None: 1, at no cost.
      batch_fraction: of a batch, auxiliary images; None: real and auxiliary rows are shuffled together.
      augmentation: of real images, where auxiliary ones are to stay as they are; None: the learner augments all alike.
    """

    loss_weight: Array | float | None = None
    batch_fraction: float | None = flax.struct.field(pytree_node=False, default=None)
    augmentation: Augmentation | None = flax.struct.field(pytree_node=False, default=None)

    def phases(self, task_index: int) -> tuple[Phase, ...]:
        """The learner's; the first training of task 0 sees auxiliary images."""
        phases, first = [], task_index == 0
        for phase in map(passed_on, self.learner.phases(task_index)):
            if first and isinstance(phase, Training):
                phase, first = (
                    phase._replace(parts=_with_auxiliary(phase.parts), step=_weighted(phase.step)),
                    False,
                )
            phases.append(phase)
        return tuple(phases)


def fpcil(
    learner: Any,
    *,
    loss_weight: Array | float | None = None,
    batch_fraction: float | None = None,
    augmentation: Augmentation | None = None,
) -> FPCIL:
    """A learner whose first training is future-proofed; arguments as the attributes of `FPCIL`."""
    return FPCIL(learner, loss_weight, batch_fraction, augmentation)


@functools.lru_cache(maxsize=256)
def _with_auxiliary(parts: Callable[..., tuple[Part, ...]]) -> Callable[..., tuple[Part, ...]]:
    def mixed(learner: FPCIL, state: Any, task: Task, key: Array) -> tuple[Part, ...]:
        first, *others = parts(learner, state, task, key)
        auxiliary = whole(task.auxiliary)
        if learner.batch_fraction is None:
            return (first._replace(rows=np.concatenate([whole(first.rows), auxiliary])), *others)
        size = first.size + sum(part.size for part in others)
        places = min(max(1, round(learner.batch_fraction * size)), first.size - 1)
        return (first._replace(size=first.size - places), *others, Part(auxiliary, places))

    return mixed


@functools.lru_cache(maxsize=256)
def _weighted(step: Callable[..., Any]) -> Callable[..., Any]:
    def weighted(learner: FPCIL, train_state: Any, batch: Batch, key: Array) -> tuple[Any, dict[str, Array]]:
        if learner.loss_weight is not None:
            weights = jnp.where(batch.auxiliary, learner.loss_weight, batch.classify)
            batch = batch._replace(classify=weights)
        return step(learner, train_state, with_real_augmented(batch, learner.augmentation, key), key)

    return weighted
