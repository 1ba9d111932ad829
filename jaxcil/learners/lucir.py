"""LUCIR, a unified classifier (Hou et al., CVPR 2019): cosine normalisation, less-forget constraint, margin ranking.

With f the feature, signed where the network leaves its last sum as it is, w_c a class's embedding and s_c their cosine,

    z_c = sigma s_c,   L = CE(z) + lambda (1 - cos(f, f')) + margin_weight MR                       (1)

f' is the teacher's feature, lambda = less_forget sqrt(old classes / new classes), and MR the margin ranking of the
images of old classes (`losses.margin`). Old embeddings do not train. New ones are imprinted: the mean of the unit
features of the class's images, of the mean length of the old embeddings. sigma is learned, from 1.

    balanced    a second training on the exemplars alone, of all embeddings, old and new, with everything else as it is:
                the class-balanced fine-tuning of the authors' ImageNet script

The class means of "nme" are averaged over the exemplars and their mirror images; the authors' CIFAR script means to,
but exchanges the colour channels: `mirror="channels"`.
"""

from typing import Literal

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

from jaxcil.errors import unknown_name
from jaxcil.heads.class_statistics import check_positive, check_size, class_means
from jaxcil.learners import fits, incremental, steps
from jaxcil.learners.incremental import Classes, Incremental, Outputs, State, TrainState
from jaxcil.learners.method import Method
from jaxcil.learners.published import Published, learner
from jaxcil.learners.replay import Replay, classification
from jaxcil.learners.steps import Step
from jaxcil.losses.distillation import cosine_distillation
from jaxcil.losses.margin import margin_ranking
from jaxcil.losses.unit import lengths, unit_rows
from jaxcil.memory.exemplars import Exemplars
from jaxcil.training.learner import AS_THEY_ARE, Batch, Fit, Phase, Setup, Task
from jaxcil.training.optimizer import sgd

PUBLISHED = Published(epochs=160, learning_rate=0.1, weight_decay=5e-4, milestones=(80, 120))


def channels_reversed(images: Array) -> Array:
    """Images [B, H, W, 3] with red and blue exchanged."""
    return images[..., ::-1]


VIEWS = {
    "mirror": fits.MIRRORED,
    "channels": {**AS_THEY_ARE, "channels": channels_reversed},
    "none": AS_THEY_ARE,
}


@flax.struct.dataclass
class LUCIR(Method):
    """The output layer, the loss (1) and the phases.

    Attributes:
      less_forget: lambda of (1) before its factor; 5 for CIFAR-100 and 10 for ImageNet in the paper.
      margin: of the margin ranking, >= 0.
      margin_weight: of the margin ranking.
      hardest: new classes of the largest cosines that it looks at.
      balanced: whether the balanced training follows.
      mirror: the second view of exemplars for class means, one of VIEWS.
    """

    less_forget: Array | float = 5.0
    margin: Array | float = 0.5
    margin_weight: Array | float = 1.0
    hardest: int = flax.struct.field(pytree_node=False, default=2)
    balanced: bool = flax.struct.field(pytree_node=False, default=False)
    mirror: str = flax.struct.field(pytree_node=False, default="mirror")

    has_teacher = True

    def empty(self, learner: Incremental, dim: int):
        """Embeddings [C, D], zero, and sigma."""
        return {"rows": {"weights": jnp.zeros((learner.columns, dim))}, "shared": {"sigma": jnp.ones(())}}

    def draw(self, key: Array, output) -> dict[str, Array]:
        """Uniform within 1 / sqrt(D), as the authors draw them for the first task."""
        weights = output["rows"]["weights"]
        bound = weights.shape[1] ** -0.5
        return {"weights": jax.random.uniform(key, weights.shape, weights.dtype, -bound, bound)}

    def logits(self, output, features: Array, own) -> Array:
        """z [B, C] of features [B, D]."""
        del own
        return output["shared"]["sigma"] * cosines(output, features)

    def phases(self, learner: Incremental, task_index: int) -> tuple[Phase, ...]:
        """New classes, imprinting, training, exemplars and their means, the balanced training, teacher."""
        if not task_index:
            step = Step(Replay.loss, "first")
            before, after = (), ()
        else:
            step = Step(LUCIR.loss, "later", taught=True)
            before = (IMPRINT,)
            balanced = Step(LUCIR.loss, "balanced", trains=("output",), taught=True, moving=False)
            after = (
                steps.training(learner, "balanced training", balanced, steps.memory_alone, _embeddings, True),
            )
        return (
            fits.GROW,
            *before,
            steps.training(learner, "training", step, rates=_new_embeddings),
            fits.EXEMPLARS,
            fits.means_over(VIEWS[self.mirror]),
            *(after if self.balanced and learner.exemplars is not None else ()),
            fits.TEACHER,
        )

    def loss(
        self, new: Outputs, old: Outputs, batch: Batch, state: TrainState
    ) -> tuple[Array, dict[str, Array]]:
        """Equation (1)."""
        classes = state.classes
        own = classification(new, batch, classes.trained)
        forgotten = steps.mean(cosine_distillation(new.features, old.features), batch.distill)
        ranking = margin_ranking(
            cosines(new.output, new.features), batch.labels, classes.new, self.margin, self.hardest
        )
        ranked = steps.mean(ranking, jnp.where(classes.old[batch.labels], batch.classify, 0))
        loss = own + self.less_forget * _growth(classes) * forgotten + self.margin_weight * ranked
        return loss, {"classification": own, "less_forget": forgotten, "margin_ranking": ranked}


def cosines(output, features: Array) -> Array:
    """s [B, C] of features [B, D]."""
    return unit_rows(features) @ unit_rows(output["rows"]["weights"]).T


def _growth(classes: Classes) -> Array:
    return jnp.sqrt(classes.old.sum().astype(float) / classes.new.sum().astype(float))


def _new_embeddings(method: LUCIR, state: State, classes: Classes):
    """Old embeddings keep still."""
    return steps.trained_rows(method, state, classes._replace(trained=classes.trained & ~classes.old))


def _embeddings(method: LUCIR, state: State, classes: Classes):
    """All embeddings train; sigma keeps still."""
    rates = steps.trained_rows(method, state, classes)
    rates["output"]["shared"] = incremental.everywhere(0, state.model.output["shared"])
    return rates


def _imprint(learner: Incremental, state: State, features, labels, task: Task, key: Array) -> State:
    del key
    classes, weights = learner.masks(task), state.model.output["rows"]["weights"]
    means, _ = class_means(unit_rows(features["task"]["images"]), labels["task"], weights.shape[0])
    sizes = lengths(weights)[:, 0]
    size = jnp.where(classes.old, sizes, 0).sum() / classes.old.sum().astype(sizes.dtype)
    imprinted = jnp.where(classes.new[:, None], unit_rows(means) * size, weights)
    output = {**state.model.output, "rows": {"weights": imprinted}}
    return state._replace(model=state.model._replace(output=output))


IMPRINT = Fit("imprinting", fits.task_rows, _imprint)


def lucir(
    setup: Setup,
    *,
    less_forget: Array | float = 5.0,
    margin: Array | float = 0.5,
    margin_weight: Array | float = 1.0,
    balanced: bool = False,
    balanced_epochs: int = 20,
    balanced_learning_rate: Array | float = 0.01,
    mirror: Literal["mirror", "channels", "none"] = "mirror",
) -> Incremental:
    """LUCIR, with 20 exemplars per class. Give it a network that leaves its last sum signed, as resnet32_lucir.

    Args:
      setup: of the run.
      less_forget: lambda of (1) before its factor; 5 for CIFAR-100 and 10 for ImageNet in the paper.
      margin: of the margin ranking, >= 0.
      margin_weight: of the margin ranking.
      balanced: whether the balanced training follows.
      balanced_epochs: passes over the exemplars of that training.
      balanced_learning_rate: of that training; a tenth of it in the second half.
      mirror: the second view of exemplars for class means.

    Raises:
      InputError: an unknown view.
    """
    if mirror not in VIEWS:
        raise unknown_name("mirror of lucir", mirror, VIEWS)
    for name, value in (("less_forget", less_forget), ("margin", margin), ("margin_weight", margin_weight)):
        check_positive(f"{name} of lucir", value, zero=True)
    check_positive("balanced_learning_rate of lucir", balanced_learning_rate)
    check_size("balanced_epochs of lucir", balanced_epochs)
    method = LUCIR(less_forget, margin, margin_weight, balanced=balanced, mirror=mirror)
    kept = Exemplars(per_class=20, rule="icarl")
    made = learner(setup, method, PUBLISHED, kept)
    later = made.recipes["later"]
    milestones = (balanced_epochs // 2,) if balanced_epochs > 1 else ()
    optimizer = sgd(
        balanced_learning_rate,
        later.optimizer.weight_decay,
        schedule="step" if milestones else "constant",
        milestones=milestones,
    )
    recipe = incremental.Recipe(optimizer, epochs=balanced_epochs, batch_size=later.batch_size)
    return made.replace(recipes={**made.recipes, "balanced": recipe})  # pyright: ignore[reportAttributeAccessIssue]
