"""LwF, learning without forgetting (Li and Hoiem, arXiv:1606.09282): distillation without any image of the past.

The cross-entropy over the task's own columns, and, on the task's images, the distillation of the old columns from the
network before at temperature 2, with weight 3: PyCIL's form.
"""

import flax.struct
from jax import Array

from jaxcil.heads.class_statistics import check_positive
from jaxcil.learners import fits, steps
from jaxcil.learners.finetune import Finetune, new_columns
from jaxcil.learners.incremental import Incremental, Outputs, TrainState
from jaxcil.learners.method import LinearMethod
from jaxcil.learners.published import Published, learner
from jaxcil.learners.steps import Step
from jaxcil.losses.distillation import distillation
from jaxcil.training.learner import Batch, Phase, Setup

PUBLISHED = Published(epochs=250, learning_rate=0.1, weight_decay=2e-4, milestones=(60, 120, 180, 220))


@flax.struct.dataclass
class LwF(LinearMethod):
    """The loss and the phases.

    Attributes:
      temperature: of the distillation, > 0.
      distillation_weight: of the distillation, the cross-entropy having 1.
    """

    temperature: Array | float = 2.0
    distillation_weight: Array | float = 3.0

    has_teacher = True

    def phases(self, learner: Incremental, task_index: int) -> tuple[Phase, ...]:
        """New classes, training, teacher."""
        step = Step(LwF.loss, "later", taught=True) if task_index else Step(Finetune.loss, "first")
        return fits.GROW, steps.training(learner, "training", step), fits.TEACHER

    def loss(
        self, new: Outputs, old: Outputs, batch: Batch, state: TrainState
    ) -> tuple[Array, dict[str, Array]]:
        """Cross-entropy over the new columns and distillation of the old ones."""
        own = new_columns(new, batch, state.classes)
        losses = distillation(new.logits, old.logits, state.classes.old, self.temperature)
        kept = steps.mean(losses, batch.distill)
        return own + self.distillation_weight * kept, {"classification": own, "distillation": kept}


def lwf(
    setup: Setup, *, temperature: Array | float = 2.0, distillation_weight: Array | float = 3.0
) -> Incremental:
    """Learning without forgetting; PyCIL's recipe.

    Args:
      setup: of the run.
      temperature: of the distillation, > 0.
      distillation_weight: of the distillation, the cross-entropy having 1.
    """
    check_positive("temperature of lwf", temperature)
    check_positive("distillation_weight of lwf", distillation_weight, zero=True)
    return learner(setup, LwF(temperature, distillation_weight), PUBLISHED)
