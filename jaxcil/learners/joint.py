"""Joint training: each task goes on training on all images of all classes seen, under one cross-entropy.

The upper bound that other learners are compared with. It is `replay` whose memory holds every image.
"""

import flax.struct

from jaxcil.learners import fits, steps
from jaxcil.learners.incremental import Incremental
from jaxcil.learners.published import learner
from jaxcil.learners.replay import PUBLISHED, Replay
from jaxcil.learners.steps import Step
from jaxcil.memory.exemplars import Exemplars
from jaxcil.training.learner import Phase, Setup


@flax.struct.dataclass
class Joint(Replay):
    """The phases."""

    has_means = False

    def phases(self, learner: Incremental, task_index: int) -> tuple[Phase, ...]:
        """New classes, training, and all images into the memory."""
        step = Step(Replay.loss, "later" if task_index else "first")
        return fits.GROW, steps.training(learner, "training", step), fits.EXEMPLARS


def joint(setup: Setup) -> Incremental:
    """Training on everything so far; the settings of the memory have no effect."""
    every = Exemplars(per_class=setup.images_per_class, rule="all")
    return learner(setup, Joint(), PUBLISHED).replace(exemplars=every)  # pyright: ignore[reportAttributeAccessIssue]
