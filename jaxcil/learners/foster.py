"""FOSTER, feature boosting and compression (Wang et al., ECCV 2022, arXiv:2204.04662): a new branch, then one network.

Between tasks there is one compressed network, with features g and an output layer V. A task adds a branch, which starts
as a copy of it; the old one keeps still (`learners.branches`). With f = (g, h) the features of both branches,

    z = W f,   z' = W' h,   L = CE(z / v) + CE(z') + old_weight KD(z, V g)                        (1)

v are the class-balanced weights of `losses.balance` at beta_boosting: larger for old classes, of which only exemplars
are left. Old classes keep their weights in W; W' is drawn anew. The distillation KD compares old columns. Then a
student of one network, which starts from the old network and V, learns

    L = - sum_c q_c log softmax(z_student / T)_c,   q = v softmax(z / T) / sum v softmax(z / T)   (2)

with v at beta_compression, without weight decay, and is the compressed network of the next task. Exemplars and the
readings "cnn" and "nme" use the boosted network, f; "student_cnn" and "student_nme" are those of the student.

The codes of the authors and of PyCIL are the same program. Their options to align weights, and to keep the new classes
from the old features, are off in all their configurations and are left out here.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

from jaxcil.errors import InputError
from jaxcil.heads.class_statistics import check_positive
from jaxcil.learners import branches, fits, steps
from jaxcil.learners.branches import Branches
from jaxcil.learners.incremental import Classes, Incremental, Model, Outputs, Recipe, State, TrainState
from jaxcil.learners.method import LinearMethod
from jaxcil.learners.published import Published, learner
from jaxcil.learners.replay import Replay, classification
from jaxcil.learners.steps import Step
from jaxcil.losses.balance import class_balanced_weights
from jaxcil.losses.distillation import distillation
from jaxcil.memory.exemplars import Exemplars
from jaxcil.training.learner import Batch, Fit, Phase, Setup, Task
from jaxcil.training.optimizer import sgd

PUBLISHED = Published(epochs=170, learning_rate=0.1, weight_decay=5e-4)
STUDENT = "student_"  # what the names of the student's readings begin with


@flax.struct.dataclass
class FOSTER(LinearMethod):
    """The output layers, the losses and the phases.

    Attributes:
      beta_boosting: of the weights v in (1), in [0, 1); or [T - 1], one for each task after the first.
      beta_compression: of those in (2).
      old_weight: of the distillation in (1).
      temperature: of both distillations, > 0.
    """

    beta_boosting: Array | float = 0.96
    beta_compression: Array | float = 0.97
    old_weight: Array | float = 1.0
    temperature: Array | float = 2.0

    def empty(self, learner: Incremental, dim: int):
        """W [C, 2 D] and W' [C, D], with biases."""
        own = dim // 2
        rows = super().empty(learner, dim)["rows"]
        fresh = {"newest": jnp.zeros((learner.columns, own)), "newest_bias": jnp.zeros(learner.columns)}
        return {"rows": {**rows, **fresh}, "shared": {}}

    def first(self, learner: Incremental, model: Model):
        """The student, and the means of its features of exemplars."""
        student = branches.alone(branches.newest_branch(model), _classifier(model.output))
        means = jnp.zeros((learner.num_classes, model.output["rows"]["weights"].shape[1]))
        return {"student": student, "means": means}

    def phases(self, learner: Incremental, task_index: int) -> tuple[Phase, ...]:
        """New classes, boosting, the student, compression, exemplars and their means."""
        memory = (EXEMPLARS, MEANS)
        if not task_index:
            first = Step(Replay.loss, "first")
            training = branches.training(learner, "training", first, 1, rates=_without_newest, change=_alone)
            return (GROW, training, COPY, *memory)
        step = Step(FOSTER.compression, "compression", taught=True)
        compression = steps.training(learner, "compression", step)
        return (
            GROW,
            branches.training(learner, "boosting", Step(FOSTER.boosting, "later"), 2, change=_boosted),
            START,
            compression._replace(begin=_BeginCompression(compression.begin), end=_end_compression),
            *memory,
        )

    def boosting(
        self, new: Outputs, old: None, batch: Batch, state: TrainState
    ) -> tuple[Array, dict[str, Array]]:
        """Equation (1)."""
        del old
        classes = state.classes
        weights = class_balanced_weights(state.own["counts"], self._boosting_beta(state.own["task"]))
        divided = new.logits / weights[None]
        own = classification(new._replace(logits=divided), batch, classes.trained)
        fresh = branches.newest_features(new, state.model, new.features.shape[1] // 2)
        alone = newest_logits(new.output, fresh)
        newest = classification(new._replace(logits=alone), batch, classes.trained)
        before = self.logits(state.own["old"], new.features, ())
        losses = distillation(new.logits, before, classes.old, self.temperature)
        kept = steps.mean(losses, batch.distill)
        terms = {"classification": own, "newest": newest, "distillation": kept}
        return own + newest + self.old_weight * kept, terms

    def _boosting_beta(self, task: Array) -> Array:
        beta = jnp.asarray(self.beta_boosting)
        return beta[task - 1] if beta.ndim else beta

    def compression(
        self, new: Outputs, old: Outputs, batch: Batch, state: TrainState
    ) -> tuple[Array, dict[str, Array]]:
        """Equation (2)."""
        seen = state.classes.old | state.classes.new
        weights = class_balanced_weights(state.own["counts"], self.beta_compression)
        losses = distillation(new.logits, old.logits, seen, self.temperature, weights=weights)
        return steps.mean(losses, batch.distill), {}


@flax.struct.dataclass
class Boosted(Incremental):
    """A learner whose state holds a student: its features are the boosted network's and, behind them, the student's."""

    logit_readings = ("cnn", STUDENT + "cnn")

    @property
    def reading_names(self) -> tuple[str, ...]:
        """Those of the boosted network, then those of the student."""
        own = super().reading_names
        return (*own, *(STUDENT + name for name in own))

    def features(self, state: State, images: Array) -> Array:
        """Features [B, 4 D] of images [B, H, W, 3] in [-1, 1]; the student's second half is zero."""
        models = state.model, state.own["student"]
        return jnp.concatenate(
            [super(Boosted, self).features(state._replace(model=model), images) for model in models], axis=-1
        )

    def readings(self, state: State, features: Array) -> dict[str, Array]:
        """Scores [B, C] of both networks; -inf for classes not seen."""
        boosted, student = jnp.split(features, 2, axis=-1)
        of_student = state._replace(model=state.own["student"], means=state.own["means"])
        others = super().readings(of_student, student)
        return super().readings(state, boosted) | {STUDENT + name: scores for name, scores in others.items()}


def newest_logits(output, newest: Array) -> Array:
    """z' [B, C] of the newest branch's features [B, D]."""
    return newest @ output["rows"]["newest"].T + output["rows"]["newest_bias"][None]


def _classifier(output):
    """W alone."""
    return {"rows": {name: output["rows"][name] for name in ("weights", "bias")}, "shared": {}}


def _class_counts(learner: Incremental, state: State, task: Task) -> Array:
    """n [C] of the task's images and of the exemplars of past classes."""
    total = learner.columns
    labels = jnp.where(task.rows < 0, total, jnp.asarray(task.labels)[task.rows])
    fresh = jnp.zeros(total, jnp.int32).at[labels].add(1, mode="drop")
    kept = jnp.pad((state.memory >= 0).sum(1, dtype=jnp.int32), (0, learner.other_classes))
    return jnp.where(learner.masks(task).old, kept, fresh)


def _without_newest(method: FOSTER, state: State, classes: Classes):
    """W' keeps still."""
    rates = steps.trained_rows(method, state, classes)
    rows = rates["output"]["rows"]
    still = {name: jnp.zeros_like(rows[name]) for name in ("newest", "newest_bias")}
    rates["output"]["rows"] = {**rows, **still}
    return rates


def _alone(learner: Incremental, state: State, begun: TrainState, task: Task) -> TrainState:
    del learner, state, task
    return begun._replace(own=())


def _boosted(learner: Incremental, state: State, begun: TrainState, task: Task) -> TrainState:
    own = {"old": state.own["student"].output, "counts": _class_counts(learner, state, task)}
    return begun._replace(own={**own, "task": jnp.asarray(task.index, jnp.int32)})


@dataclasses.dataclass(frozen=True)
class _BeginCompression:
    inner: Callable[..., TrainState]

    def __call__(self, learner: Incremental, state: State, task: Task, key: Array) -> TrainState:
        begun = self.inner(learner, state._replace(model=state.own["student"]), task, key)
        counts = _class_counts(learner, state, task)
        return begun._replace(teacher=branches.only(state.model, 2), own={"counts": counts})


def _end_compression(learner: Incremental, train_state: TrainState, state: State, task: Task) -> State:
    student = steps.end(learner, train_state, state, task).model
    return state._replace(own={**state.own, "student": student})


def _grow(learner: Incremental, state: State, features, labels, task: Task, key: Array) -> State:
    """The compressed network keeps still, and a copy of it is the new branch; fresh rows and columns."""
    del features, labels
    keys, model, classes = jax.random.split(key), state.model, learner.masks(task)
    rows, old = model.output["rows"], state.own["student"].output["rows"]
    own, total = rows["newest"].shape[1], rows["weights"].shape[1]
    if task.index:
        model = branches.grown(model, 0, branches.newest_branch(state.own["student"]))
    fresh = branches.fresh_weights(keys[0], rows["weights"], total if task.index else own)
    newest = branches.fresh_weights(keys[1], rows["newest"], own)
    output = {
        "weights": branches.grown_weights(old["weights"], fresh, classes, own),
        "bias": jnp.where(classes.old, old["bias"], 0),
        "newest": jnp.where(classes.trained[:, None], newest, 0),
        "newest_bias": jnp.zeros_like(rows["newest_bias"]),
    }
    task_of_class = jnp.where(jnp.asarray(task.new), task.index, state.task_of_class)
    model = model._replace(output={"rows": output, "shared": {}})
    return state._replace(model=model, task_of_class=task_of_class)


def _copy(learner: Incremental, state: State, features, labels, task: Task, key: Array) -> State:
    del learner, features, labels, task, key
    student = branches.alone(branches.newest_branch(state.model), _classifier(state.model.output))
    return state._replace(own={**state.own, "student": student})


def _start(learner: Incremental, state: State, features, labels, task: Task, key: Array) -> State:
    """The student is the old network again, with fresh rows for new classes."""
    del features, labels
    classes, old = learner.masks(task), state.own["student"].output["rows"]
    own = old["weights"].shape[1] // 2
    fresh = branches.fresh_weights(key, old["weights"], own)
    weights = branches.grown_weights(old["weights"], fresh, classes, own)
    output = {"rows": {"weights": weights, "bias": jnp.where(classes.old, old["bias"], 0)}, "shared": {}}
    student = branches.alone(state.model.batch_stats["older"][0], output)
    return state._replace(own={**state.own, "student": student})


def _halves(features: dict[str, dict[str, Array]]) -> list[dict[str, dict[str, Array]]]:
    """Features of the boosted network, and of the student."""
    return [jax.tree.map(lambda rows, n=n: jnp.split(rows, 2, axis=-1)[n], features) for n in (0, 1)]


def _remember(learner: Incremental, state: State, features, labels, task: Task, key: Array) -> State:
    return fits.remember(learner, state, _halves(features)[0], labels, task, key)


def _means(learner: Incremental, state: State, features, labels, task: Task, key: Array) -> State:
    boosted, student = (
        fits.means(learner, state, half, labels, task, key).means for half in _halves(features)
    )
    return state._replace(means=boosted, own={**state.own, "means": student})


GROW = Fit("new classes", fits.no_rows, _grow)
COPY = Fit("student", fits.no_rows, _copy)
START = Fit("student", fits.no_rows, _start)
EXEMPLARS = fits.EXEMPLARS._replace(fit=_remember)
MEANS = fits.means_over()._replace(fit=_means)


def foster(
    setup: Setup,
    *,
    beta_boosting: Sequence[float] = (0.96,),
    beta_compression: Array | float = 0.97,
    old_weight: Array | float = 1.0,
    temperature: Array | float = 2.0,
    compression_epochs: int = 130,
) -> Boosted:
    """FOSTER, with 20 exemplars per class.

    Args:
      setup: of the run.
      beta_boosting: of the weights of (1), in [0, 1), one for all tasks or one for each after the first. By default
        PyCIL's. The authors take 0.94 to 0.97 where half of the classes come first, and 0.98, 0.975, ... 0.94 for ten
        equal tasks.
      beta_compression: of the weights of (2), in [0, 1).
      old_weight: of the distillation of (1).
      temperature: of both distillations, > 0.
      compression_epochs: of the student, at least 1; its rate is that of the boosting, with a cosine schedule.

    Raises:
      InputError: another number of betas than of tasks after the first, or no epoch of compression.
    """
    tasks, betas = len(setup.task_sizes) - 1, tuple(beta_boosting)
    if len(betas) not in (1, tasks):
        raise InputError(
            f"beta_boosting of foster needs one number, or one for each of {tasks} tasks after the first; got {betas}"
        )
    if not all(0 <= beta < 1 for beta in (*betas, beta_compression)):
        raise InputError(f"the betas of foster must lie in [0, 1); got {betas}, {beta_compression}")
    if compression_epochs < 1:
        raise InputError(f"compression_epochs of foster must be at least 1, got {compression_epochs}")
    check_positive("old_weight of foster", old_weight, zero=True)
    check_positive("temperature of foster", temperature)
    beta: Any = betas[0] if len(betas) == 1 else jnp.asarray(betas)
    method = FOSTER(beta, beta_compression, old_weight, temperature)
    setup = setup._replace(network=Branches(setup.network, 2))
    made = learner(setup, method, PUBLISHED, Exemplars(per_class=20))
    later = made.recipes["later"]
    compression = Recipe(
        sgd(later.optimizer.learning_rate, 0.0), epochs=compression_epochs, batch_size=later.batch_size
    )
    fields = {field.name: getattr(made, field.name) for field in dataclasses.fields(made)}
    return Boosted(**{**fields, "recipes": {**made.recipes, "compression": compression}})
