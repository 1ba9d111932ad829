"""BiC, bias correction (Wu et al., CVPR 2019, arXiv:1905.13260): a scale and a shift for the logits of each task.

    z_c = alpha_i (W f + b)_c + beta_i     for the classes c of task i                             (1)

in every forward pass, the teacher's included; alpha and beta start at 1 and 0. Before a task a part of its images and
of the exemplars is set aside, equally many of each class. On the rest the network is trained under l distillation +
(1 - l) cross-entropy, l = old classes / classes seen, at temperature 2. Then, on what was set aside, the newest alpha
and beta alone are trained.

As in PyCIL the second training takes the softmax of the logits for logits, weight decay pulls alpha towards 0, and the
batch statistics of the network go on moving.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil.errors import InputError
from jaxcil.heads.class_statistics import check_fraction, check_positive
from jaxcil.learners import fits, incremental, steps
from jaxcil.learners.incremental import Classes, Incremental, Model, Outputs, State, TrainState
from jaxcil.learners.method import LinearMethod
from jaxcil.learners.published import Published, learner
from jaxcil.learners.replay import Replay, classification
from jaxcil.learners.steps import Step
from jaxcil.learners.wa import old_part
from jaxcil.losses.cross_entropy import cross_entropy
from jaxcil.losses.distillation import distillation
from jaxcil.memory.exemplars import Exemplars
from jaxcil.training.learner import Batch, Fit, Phase, Setup, Task, whole

PUBLISHED = Published(epochs=170, learning_rate=0.1, weight_decay=2e-4, milestones=(60, 100, 140))


@flax.struct.dataclass
class BiC(LinearMethod):
    """The output layer (1), the losses and the phases.

    Attributes:
      temperature: of the distillation, > 0.
      total: images that are set aside, times old classes: each class gives total // old classes.
    """

    temperature: Array | float = 2.0
    total: int = flax.struct.field(pytree_node=False, default=200)

    has_teacher = True

    def empty(self, learner: Incremental, dim: int):
        """A linear layer, and alpha and beta [T] of each task."""
        tasks = len(learner.task_sizes)
        return {**super().empty(learner, dim), "shared": {"alpha": jnp.ones(tasks), "beta": jnp.zeros(tasks)}}

    def first(self, learner: Incremental, model: Model):
        """The task of each column that (1) changes, -1: none yet; and the rows that are set aside, [C, V]."""
        del model
        room = max(1, self.total // learner.task_sizes[0])
        return {
            "task_of_class": jnp.full(learner.columns, -1, jnp.int32),
            "aside": jnp.full((learner.num_classes, room), -1, jnp.int32),
        }

    def logits(self, output, features: Array, own) -> Array:
        """Equation (1), [B, C]."""
        task, shared = own["task_of_class"], output["shared"]
        alpha = jnp.where(task < 0, 1, shared["alpha"][task])
        beta = jnp.where(task < 0, 0, shared["beta"][task])
        return alpha[None] * super().logits(output, features, own) + beta[None]

    def phases(self, learner: Incremental, task_index: int) -> tuple[Phase, ...]:
        """New classes, what is set aside, training, bias correction, exemplars and their means, teacher."""
        memory = (fits.EXEMPLARS, fits.means_over(), fits.TEACHER)
        if not task_index:
            first = steps.training(learner, "training", Step(Replay.loss, "first"), rates=_network)
            return (fits.GROW, SPLIT, first, *memory)
        step = Step(BiC.loss, "later", taught=True)
        second = Step(BiC.correction, "later", trains=("output",))
        return (
            fits.GROW,
            SPLIT,
            steps.training(learner, "training", step, _kept, _network),
            steps.training(learner, "bias correction", second, _aside, _newest_bias, True),
            *memory,
        )

    def loss(
        self, new: Outputs, old: Outputs, batch: Batch, state: TrainState
    ) -> tuple[Array, dict[str, Array]]:
        """Distillation and cross-entropy, weighted by the numbers of classes."""
        own = classification(new, batch, state.classes.trained)
        losses = distillation(new.logits, old.logits, state.classes.old, self.temperature)
        kept, part = steps.mean(losses, batch.distill), old_part(state)
        return part * kept + (1 - part) * own, {"classification": own, "distillation": kept}

    def correction(
        self, new: Outputs, old: None, batch: Batch, state: TrainState
    ) -> tuple[Array, dict[str, Array]]:
        """Cross-entropy of the softmax of the logits."""
        del old
        classes = state.classes.trained
        probabilities = jax.nn.softmax(jnp.where(classes[None], new.logits, -jnp.inf))
        again = jnp.where(classes[None], probabilities, -jnp.inf)
        return steps.mean(cross_entropy(again, batch.labels, classes), batch.classify), {}


def _network(method: BiC, state: State, classes: Classes):
    """alpha and beta keep still."""
    rates = steps.trained_rows(method, state, classes)
    rates["output"]["shared"] = incremental.everywhere(0, state.model.output["shared"])
    return rates


def _newest_bias(method: BiC, state: State, classes: Classes):
    """The newest alpha and beta alone."""
    output, none = state.model.output, jnp.zeros_like(classes.new)
    newest = jnp.arange(len(output["shared"]["alpha"])) == state.own["task_of_class"][classes.new.argmax()]
    rates = steps.trained_rows(method, state, classes._replace(trained=none))
    rates["output"]["shared"] = jax.tree.map(lambda leaf: newest.astype(leaf.dtype), output["shared"])
    return rates


def _split(learner: Incremental, state: State, features, labels, task: Task, key: Array) -> State:
    """Sets images of each class aside at random, except in the first task; (1) knows the new classes from here on."""
    del features, labels
    old = int(np.sum(task.seen & ~task.new))
    aside = np.full(state.own["aside"].shape, -1, np.int32)
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    own, memory = whole(task.rows), np.asarray(state.memory)
    for label in np.flatnonzero(task.seen):
        rows = own[task.labels[own] == label] if task.new[label] else whole(memory[label])
        count = min(max(1, learner.method.total // old), max(0, len(rows) - 1)) if old else 0
        aside[label, :count] = random.choice(rows, count, replace=False)
    tasks = jnp.pad(state.task_of_class, (0, learner.other_classes), constant_values=-1)
    return state._replace(own={"task_of_class": tasks, "aside": jnp.asarray(aside)})


SPLIT = Fit("images set aside", fits.no_rows, _split)


def _aside(learner: Incremental, state: State, task: Task, key: Array) -> np.ndarray:
    del learner, task, key
    return np.asarray(state.own["aside"]).ravel()


def _kept(learner: Incremental, state: State, task: Task, key: Array) -> np.ndarray:
    rows = steps.task_and_memory(learner, state, task, key)
    return np.where(np.isin(rows, _aside(learner, state, task, key)), -1, rows)


def bic(setup: Setup, *, temperature: Array | float = 2.0, aside: float = 0.1) -> Incremental:
    """Bias correction; PyCIL's recipe, with 20 exemplars per class.

    Args:
      setup: of the run.
      temperature: of the distillation, > 0.
      aside: images that are set aside, as a fraction of the whole memory: each class gives aside * total // old
        classes, at least one, and keeps at least one.

    Raises:
      InputError: aside is not in (0, 1], or the memory is empty.
    """
    check_positive("temperature of bic", temperature)
    check_fraction("aside of bic", aside)
    made = learner(setup, BiC(temperature), PUBLISHED, Exemplars(per_class=20))
    kept = made.exemplars
    if kept is None:
        raise InputError("bic sets exemplars aside, so it needs some; give memory.per_class or memory.total")
    total = kept.total if kept.per_class is None else kept.per_class * setup.num_classes
    method = BiC(temperature, total=max(1, int(aside * (total or 0))))
    return made.replace(method=method)  # pyright: ignore[reportAttributeAccessIssue]
