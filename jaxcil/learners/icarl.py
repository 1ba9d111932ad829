"""iCaRL (Rebuffi et al., CVPR 2017, arXiv:1611.07725): distillation, herding and the nearest mean of exemplars.

A network is trained on the images of the new classes and the exemplars of past ones. Two losses are in use:

    ce    cross-entropy over all classes + distillation of the old columns by softmax, at temperature 2: PyCIL's, which
          most toolboxes follow
    bce   binary cross-entropy of every column, averaged over columns too; the targets of the old columns are the
          teacher's sigmoids, for every image, those of the new ones are the labels: the paper's

Exemplars are chosen by herding. The classifier of the paper is the nearest mean of exemplars ("nme"); "cnn" is the
network's own output. With "ce" the recipe is PyCIL's. With "bce" it is the paper's, and the class means are averaged
over the exemplars and their mirror images; where a network leaves its last map signed, the output layer sees the
mean of the rectified map and herding and means that of the map itself, as in PODNet's code.
"""

from typing import Literal

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

from jaxcil.errors import unknown_name
from jaxcil.heads.class_statistics import check_positive
from jaxcil.learners import fits, steps
from jaxcil.learners.incremental import Incremental, Outputs, TrainState
from jaxcil.learners.method import LinearMethod
from jaxcil.learners.published import Published, learner
from jaxcil.learners.replay import Replay, classification
from jaxcil.learners.steps import Step
from jaxcil.losses.distillation import distillation
from jaxcil.memory.exemplars import Exemplars
from jaxcil.training.learner import AS_THEY_ARE, Batch, Phase, Setup

LOSSES = ("ce", "bce")
PUBLISHED = Published(epochs=170, learning_rate=0.1, weight_decay=2e-4, milestones=(80, 120))
PUBLISHED_BCE = Published(epochs=70, learning_rate=2.0, weight_decay=1e-5, milestones=(49, 63))


@flax.struct.dataclass
class ICaRL(LinearMethod):
    """The softmax form.

    Attributes:
      temperature: of the distillation, > 0.
      distillation_weight: of the distillation, the cross-entropy having 1.
    """

    temperature: Array | float = 2.0
    distillation_weight: Array | float = 1.0

    has_teacher = True

    def phases(self, learner: Incremental, task_index: int) -> tuple[Phase, ...]:
        """New classes, training, exemplars and their means, teacher."""
        step = Step(ICaRL.loss, "later", taught=True) if task_index else Step(Replay.loss, "first")
        return _phases(learner, step, AS_THEY_ARE)

    def loss(
        self, new: Outputs, old: Outputs, batch: Batch, state: TrainState
    ) -> tuple[Array, dict[str, Array]]:
        """Cross-entropy and distillation of the old columns."""
        own = classification(new, batch, state.classes.trained)
        losses = distillation(new.logits, old.logits, state.classes.old, self.temperature)
        kept = steps.mean(losses, batch.distill)
        return own + self.distillation_weight * kept, {"classification": own, "distillation": kept}


@flax.struct.dataclass
class ICaRLBCE(LinearMethod):
    """The binary form.

    Attributes:
      rectified: whether the output layer sees the rectified last map, which must be sown, and the class means the map
        itself: [B, 2 D] features, the means' first.
    """

    rectified: bool = flax.struct.field(pytree_node=False, default=False)

    has_teacher = True
    mean_epsilon = 1e-8

    def phases(self, learner: Incremental, task_index: int) -> tuple[Phase, ...]:
        """As of the softmax form; class means are averaged over mirror images."""
        recipe = "later" if task_index else "first"
        return _phases(learner, Step(ICaRLBCE.loss, recipe, taught=task_index > 0), fits.MIRRORED)

    def embed(self, features: Array, maps: tuple[Array, ...]) -> Array:
        """Features [B, D], or, rectified, [B, 2 D]."""
        if not self.rectified:
            return features
        return jnp.concatenate([features, jax.nn.relu(maps[-1]).mean((1, 2))], axis=-1)

    def mean_features(self, features: Array) -> Array:
        """The mean of the map itself."""
        return jnp.split(features, 2, axis=-1)[0] if self.rectified else features

    def logits(self, output, features: Array, own) -> Array:
        """Of the mean of the rectified map."""
        return super().logits(output, jnp.split(features, 2, axis=-1)[1] if self.rectified else features, own)

    def loss(
        self, new: Outputs, old: Outputs | None, batch: Batch, state: TrainState
    ) -> tuple[Array, dict[str, Array]]:
        """The mean of both kinds of columns together; each image has its weight for either kind."""
        classes = state.classes
        targets = (batch.labels[:, None] == jnp.arange(new.logits.shape[1])[None]).astype(new.logits.dtype)
        if old is not None:
            targets = jnp.where(classes.old[None], jax.nn.sigmoid(old.logits), targets)
        losses = jnp.maximum(new.logits, 0) - new.logits * targets + jnp.log1p(jnp.exp(-jnp.abs(new.logits)))
        fresh = classes.trained & ~classes.old
        of_new = steps.mean(jnp.where(fresh[None], losses, 0).sum(1), batch.classify)
        of_old = steps.mean(jnp.where(classes.old[None], losses, 0).sum(1), batch.distill)
        count = classes.trained.sum().astype(losses.dtype)
        terms = {"classification": of_new / count, "distillation": of_old / count}
        return (of_new + of_old) / count, terms


def _phases(learner: Incremental, step: Step, views) -> tuple[Phase, ...]:
    return (
        fits.GROW,
        steps.training(learner, "training", step),
        fits.EXEMPLARS,
        fits.means_over(views),
        fits.TEACHER,
    )


def icarl(
    setup: Setup,
    *,
    loss: Literal["ce", "bce"] = "ce",
    temperature: Array | float = 2.0,
    distillation_weight: Array | float = 1.0,
) -> Incremental:
    """iCaRL, with 20 exemplars per class.

    Args:
      setup: of the run.
      loss: "ce" or "bce", see above.
      temperature: of the distillation of "ce", > 0.
      distillation_weight: of that distillation, the cross-entropy having 1.

    Raises:
      InputError: an unknown loss.
    """
    if loss not in LOSSES:
        raise unknown_name("loss of icarl", loss, LOSSES)
    check_positive("temperature of icarl", temperature)
    check_positive("distillation_weight of icarl", distillation_weight, zero=True)
    if loss == "ce":
        method = ICaRL(temperature, distillation_weight)
        return learner(setup, method, PUBLISHED, Exemplars(per_class=20))
    signed = not getattr(setup.network, "last_relu", False) and hasattr(setup.network, "blocks")
    return learner(setup, ICaRLBCE(signed), PUBLISHED_BCE, Exemplars(per_class=20, rule="icarl"))
