"""WA, weight aligning (Zhao et al., CVPR 2020, arXiv:1911.07053): new weights are scaled to the length of old ones.

With l = old classes / classes seen, a task trains under (1 - l) cross-entropy + l distillation at temperature 2; then
the output layer's weights of the new classes are multiplied by the mean length of the old rows over that of the new
ones, and the network is the next teacher. Biases stay. The paper also clips weights during training, which no public
code does.
"""

import flax.struct
from jax import Array

from jaxcil.heads.class_statistics import check_positive
from jaxcil.learners import fits, steps
from jaxcil.learners.incremental import Incremental, Outputs, State, TrainState
from jaxcil.learners.method import LinearMethod
from jaxcil.learners.published import Published, learner
from jaxcil.learners.replay import Replay, classification
from jaxcil.learners.steps import Step
from jaxcil.losses.balance import weight_alignment
from jaxcil.losses.distillation import distillation
from jaxcil.memory.exemplars import Exemplars
from jaxcil.training.learner import Batch, Fit, Phase, Setup, Task

PUBLISHED = Published(epochs=170, learning_rate=0.1, weight_decay=2e-4, milestones=(60, 100, 140))


@flax.struct.dataclass
class WA(LinearMethod):
    """The loss and the phases.

    Attributes:
      temperature: of the distillation, > 0.
    """

    temperature: Array | float = 2.0

    has_teacher = True

    def phases(self, learner: Incremental, task_index: int) -> tuple[Phase, ...]:
        """New classes, training, alignment, exemplars and their means, teacher."""
        step = Step(WA.loss, "later", taught=True) if task_index else Step(Replay.loss, "first")
        return (
            fits.GROW,
            steps.training(learner, "training", step),
            *((ALIGN,) if task_index else ()),
            fits.EXEMPLARS,
            fits.means_over(),
            fits.TEACHER,
        )

    def loss(
        self, new: Outputs, old: Outputs, batch: Batch, state: TrainState
    ) -> tuple[Array, dict[str, Array]]:
        """Cross-entropy and distillation, weighted by the numbers of classes."""
        own = classification(new, batch, state.classes.trained)
        losses = distillation(new.logits, old.logits, state.classes.old, self.temperature)
        kept = steps.mean(losses, batch.distill)
        part = old_part(state)
        return (1 - part) * own + part * kept, {"classification": own, "distillation": kept}


def old_part(state: TrainState) -> Array:
    """Old classes over classes seen."""
    seen = state.classes.old | state.classes.new
    return state.classes.old.sum().astype(float) / seen.sum().astype(float)


def _align(learner: Incremental, state: State, features, labels, task: Task, key: Array) -> State:
    del features, labels, key
    classes, output = learner.masks(task), state.model.output
    weights = weight_alignment(output["rows"]["weights"], classes.old, classes.new)
    output = {**output, "rows": {**output["rows"], "weights": weights}}
    return state._replace(model=state.model._replace(output=output))


ALIGN = Fit("alignment", fits.no_rows, _align)


def wa(setup: Setup, *, temperature: Array | float = 2.0) -> Incremental:
    """Weight aligning; PyCIL's recipe, with 20 exemplars per class.

    Args:
      setup: of the run.
      temperature: of the distillation, > 0.
    """
    check_positive("temperature of wa", temperature)
    return learner(setup, WA(temperature), PUBLISHED, Exemplars(per_class=20))
