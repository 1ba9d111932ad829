"""Fine-tuning: each task trains the network on its own images alone, and forgets the classes before.

The cross-entropy is over the task's own columns, as in PyCIL: the logits of old classes get no gradient, though weight
decay goes on pulling at their weights. The lower bound that other learners are compared with.
"""

import flax.struct
import jax.numpy as jnp
from jax import Array

from jaxcil.learners import fits, steps
from jaxcil.learners.incremental import Classes, Incremental, Outputs, TrainState
from jaxcil.learners.method import LinearMethod
from jaxcil.learners.published import Published, learner
from jaxcil.learners.steps import Step
from jaxcil.losses.cross_entropy import cross_entropy
from jaxcil.training.learner import Batch, Phase, Setup

PUBLISHED = Published(epochs=80, learning_rate=0.1, weight_decay=2e-4, milestones=(40, 70))


@flax.struct.dataclass
class Finetune(LinearMethod):
    """The loss and the phases."""

    def phases(self, learner: Incremental, task_index: int) -> tuple[Phase, ...]:
        """New classes and a training."""
        step = Step(Finetune.loss, "later" if task_index else "first")
        return fits.GROW, steps.training(learner, "training", step)

    def loss(
        self, new: Outputs, old: None, batch: Batch, state: TrainState
    ) -> tuple[Array, dict[str, Array]]:
        """Cross-entropy over the new columns."""
        del old
        return new_columns(new, batch, state.classes), {}


def new_columns(new: Outputs, batch: Batch, classes: Classes) -> Array:
    """The mean cross-entropy over the new classes.

    An image of an old class, which only `sddr` brings, is classified among all.
    """
    is_old = classes.old[batch.labels]
    columns = classes.trained[None] & (is_old[:, None] | ~classes.old[None])
    losses = cross_entropy(jnp.where(columns, new.logits, -jnp.inf), batch.labels, classes.trained)
    return steps.mean(losses, batch.classify)


def finetune(setup: Setup) -> Incremental:
    """A network that is fine-tuned on one task after the other; PyCIL's recipe."""
    return learner(setup, Finetune(), PUBLISHED)
