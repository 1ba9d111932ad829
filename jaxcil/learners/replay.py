"""Replay: the images of a task and the exemplars of past classes under one cross-entropy over all classes seen."""

import flax.struct
import jax.numpy as jnp
from jax import Array

from jaxcil.learners import fits, steps
from jaxcil.learners.incremental import Incremental, Outputs, TrainState
from jaxcil.learners.method import LinearMethod
from jaxcil.learners.published import Published, learner
from jaxcil.learners.steps import Step
from jaxcil.losses.cross_entropy import cross_entropy
from jaxcil.memory.exemplars import Exemplars
from jaxcil.training.learner import Batch, Phase, Setup

PUBLISHED = Published(epochs=70, learning_rate=0.1, weight_decay=2e-4, milestones=(30, 50))


@flax.struct.dataclass
class Replay(LinearMethod):
    """The loss and the phases."""

    def phases(self, learner: Incremental, task_index: int) -> tuple[Phase, ...]:
        """New classes, training, exemplars and their means."""
        return (
            fits.GROW,
            steps.training(learner, "training", Step(Replay.loss, "later" if task_index else "first")),
            fits.EXEMPLARS,
            fits.means_over(),
        )

    def loss(
        self, new: Outputs, old: None, batch: Batch, state: TrainState
    ) -> tuple[Array, dict[str, Array]]:
        """Cross-entropy over all columns."""
        del old
        return classification(new, batch, state.classes.trained), {}


def classification(new: Outputs, batch: Batch, classes: Array) -> Array:
    """The mean cross-entropy over some classes [C]."""
    logits = jnp.where(classes[None], new.logits, -jnp.inf)
    return steps.mean(cross_entropy(logits, batch.labels, classes), batch.classify)


def replay(setup: Setup) -> Incremental:
    """Cross-entropy on new images and exemplars; PyCIL's recipe, with 20 exemplars per class."""
    return learner(setup, Replay(), PUBLISHED, Exemplars(per_class=20))
