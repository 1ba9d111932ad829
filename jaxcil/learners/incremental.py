"""One network under one output layer that keeps training, with exemplars and a teacher: what such learners share.

A task is

    new classes    fresh rows of the output layer
    training       on the task's images and the exemplars of past classes, by the method's loss
    exemplars      chosen with the network as it is now, and their class means
    teacher        a copy of the network, for the distillation of the next task

A *method* gives the output layer, the loss and the phases that differ; it is a file of its own. Weights are drawn in
`init` and in fits alone. The output layer has its full length from the start: rows of classes that have not come are
zero, do not train and are no columns of any loss.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil import keys
from jaxcil.data.augmentation import augmentation
from jaxcil.data.augmentation.augmentation import Augmentation
from jaxcil.memory import exemplars as memories
from jaxcil.memory.exemplars import Exemplars
from jaxcil.training.learner import AS_THEY_ARE, Batch, Fit, Part, Phase, Task, Training
from jaxcil.training.optimizer import SGD


class Model(NamedTuple):
    """A network and the output layer on it."""

    network: Any  # parameters
    batch_stats: Any
    output: Any  # the method's layer: {"rows": {name: [C, ...]}, "shared": {name: ...}}


class Outputs(NamedTuple):
    """What a model says of images."""

    features: Array  # [B, D], the network's
    maps: tuple[Array, ...]  # of its stages, [B, H, W, D] each
    logits: Array  # [B, C], of all columns
    output: Any  # parameters of the output layer


class Classes(NamedTuple):
    """Masks [C + other classes] of a task."""

    old: Array
    new: Array
    trained: Array  # old, new, and those of auxiliary images


class State(NamedTuple):
    """Between two phases."""

    model: Model
    teacher: Model | None  # the model after the last task; None of methods without one
    memory: Array  # int32 [C, M], rows of the pool in the order of their picks, -1 behind
    means: Array  # [C, D] of exemplars, of length one; zero of classes without any
    task_of_class: Array  # int32 [C]; -1 of classes not seen
    own: Any  # what the method adds


class TrainState(NamedTuple):
    """During a training."""

    model: Model
    velocity: dict[str, Any]  # of the parts of the model that train
    rates: dict[str, Any]  # factors of the learning rate, likewise
    teacher: Model | None
    classes: Classes
    own: Any


@flax.struct.dataclass
class Recipe:
    """How a training is optimised.

    Attributes:
      optimizer: its schedule counts epochs where the training has epochs.
      epochs: passes over the task's images; or
      steps: optimiser steps.
      batch_size: places of a batch.
      delay: epochs for which the first rate is kept before the schedule begins.
      clamp: largest size of an element of the gradient; None: no bound.
    """

    optimizer: SGD
    epochs: int | None = flax.struct.field(pytree_node=False, default=None)
    steps: int | None = flax.struct.field(pytree_node=False, default=None)
    batch_size: int = flax.struct.field(pytree_node=False, default=128)
    delay: int = flax.struct.field(pytree_node=False, default=0)
    clamp: Array | float | None = None

    def factor(self, batch: Batch) -> Array:
        """Of the learning rate."""
        if self.epochs is None:
            return self.optimizer.schedule_factor(batch.step, batch.steps)
        return self.optimizer.schedule_factor(jnp.maximum(batch.epoch - self.delay, 0), batch.epochs)


Loss = Callable[
    ..., tuple[Array, dict[str, Array]]
]  # (method, new, old, batch, state) -> loss, terms to report


@flax.struct.dataclass
class Incremental:
    """A learner that keeps training one network.

    Attributes:
      method: what is special about it.
      recipes: of its trainings, by name; "first" is that of task 0.
      num_classes: C, of all tasks.
      network: a module images [B, H, W, 3] -> features [B, D] with batch statistics, which may sow maps "stage_1", ...
      task_sizes: number of classes of each task.
      augmentation: random changes of training images; constants of the program.
      exemplars: the memory; None: none, and no reading "nme".
      other_classes: classes of auxiliary rows that never come; their labels are from C on.
    """

    method: Any
    recipes: dict[str, Recipe]
    num_classes: int = flax.struct.field(pytree_node=False)
    network: nn.Module = flax.struct.field(pytree_node=False)
    task_sizes: tuple[int, ...] = flax.struct.field(pytree_node=False)
    augmentation: Augmentation = flax.struct.field(pytree_node=False, default=Augmentation())
    exemplars: Exemplars | None = flax.struct.field(pytree_node=False, default=None)
    other_classes: int = flax.struct.field(pytree_node=False, default=0)

    frozen_after = None
    logit_readings = ("cnn",)

    @property
    def columns(self) -> int:
        """Rows of the output layer."""
        return self.num_classes + self.other_classes

    @property
    def reading_names(self) -> tuple[str, ...]:
        """The network's own output, and the nearest mean of exemplars where there are any."""
        return ("cnn",) if self.exemplars is None else ("cnn", "nme")

    def init(self, key: Array, example_images: Array) -> State:
        """Random weights; images [B, H, W, 3] float32 give the shapes."""
        variables = self.network.init(keys.purpose_key(key, "initial weights"), example_images)
        stats = variables.get("batch_stats", {})
        dim = self.network.apply(variables, example_images).shape[-1]  # type: ignore[union-attr]
        output = self.method.empty(self, dim)
        model = Model(variables["params"], stats, output)
        return State(
            model,
            model if self.method.has_teacher else None,
            jnp.full((self.num_classes, room(self)), -1, jnp.int32),
            jnp.zeros((self.num_classes, dim)),
            jnp.full(self.num_classes, -1, jnp.int32),
            self.method.first(self, model),
        )

    def phases(self, task_index: int) -> tuple[Phase, ...]:
        """The method's."""
        return self.method.phases(self, task_index)

    def features(self, state: State, images: Array) -> Array:
        """Features [B, D] float32 of images [B, H, W, 3] in [-1, 1]."""
        own = self.outputs(state.model, images, state.own)
        return self.method.embed(own.features, own.maps)

    def readings(self, state: State, features: Array) -> dict[str, Array]:
        """Logits "cnn" and minus squared distances "nme", [B, C]; -inf for classes not seen."""
        seen = (state.task_of_class >= 0)[None]
        logits = self.method.logits(state.model.output, features, state.own)[:, : self.num_classes]
        readings = {"cnn": jnp.where(seen, logits, -jnp.inf)}
        if self.exemplars is not None:
            rows = self.method.mean_features(features)
            distances = nearest_mean_distances(rows, state.means, self.method.epsilon)
            readings["nme"] = jnp.where(seen, -distances, -jnp.inf)
        return readings

    def scores(self, state: State, images: Array) -> Array:
        """Logits [B, C] of images [B, H, W, 3] in [-1, 1]; -inf for classes not seen."""
        return self.readings(state, self.features(state, images))["cnn"]

    def outputs(self, model: Model, images: Array, own: Any = None) -> Outputs:
        """With running statistics, of images [B, H, W, 3] in [-1, 1]."""
        variables = {"params": model.network, "batch_stats": model.batch_stats}
        features, changed = self.network.apply(variables, images, mutable=["intermediates"])
        return self._outputs(model, features, changed, own)

    def moving_outputs(self, model: Model, images: Array, own: Any = None) -> tuple[Outputs, Any]:
        """With the batch's statistics; also the running ones after it."""
        variables = {"params": model.network, "batch_stats": model.batch_stats}
        features, changed = self.network.apply(
            variables, images, train=True, mutable=["batch_stats", "intermediates"]
        )
        return self._outputs(model, features, changed, own), changed["batch_stats"]

    def _outputs(self, model: Model, features: Any, changed: Mapping[str, Any], own: Any) -> Outputs:
        features = features.astype(jnp.promote_types(features.dtype, jnp.float32))
        sown = changed.get("intermediates", {})
        maps = tuple(sown[name][0] for name in sorted(sown) if name.startswith("stage_"))
        logits = self.method.logits(model.output, self.method.embed(features, maps), own)
        return Outputs(features, maps, logits, model.output)

    def masks(self, task: Task) -> Classes:
        """Masks of a task's classes, and of those of its auxiliary images."""
        total = self.columns
        new = jnp.pad(jnp.asarray(task.new), (0, self.other_classes))
        seen = jnp.pad(jnp.asarray(task.seen), (0, self.other_classes))
        auxiliary = jnp.asarray(task.auxiliary)
        others = jnp.where(auxiliary < 0, total, jnp.asarray(task.labels)[auxiliary])
        return Classes(seen & ~new, new, seen.at[others].set(True, mode="drop"))


@dataclasses.dataclass(frozen=True)
class Step:
    """One optimiser step; two with equal attributes are the same program.

    Attributes:
      loss: (method, outputs, the teacher's outputs or None, batch, train_state) -> (loss, terms to report).
      recipe: its name among the learner's.
      trains: the parts of the model that have a gradient.
      taught: whether the teacher looks at the images.
      moving: whether the batch's statistics normalise, and move the running ones.
    """

    loss: Loss
    recipe: str
    trains: tuple[str, ...] = ("network", "output")
    taught: bool = False
    moving: bool = True

    def __call__(
        self, learner: Incremental, state: TrainState, batch: Batch, key: Array
    ) -> tuple[TrainState, dict[str, Array]]:
        """A step on images [B, H, W, 3] of trained classes."""
        gradient, batch_stats, metrics = self.gradient(learner, state, batch, key)
        recipe = learner.recipes[self.recipe]
        parameters = {name: getattr(state.model, name) for name in self.trains}
        updated, velocity = recipe.optimizer.update(
            gradient, state.velocity, parameters, recipe.factor(batch), state.rates
        )
        model = state.model._replace(batch_stats=batch_stats, **updated)  # type: ignore[arg-type]
        return state._replace(model=model, velocity=velocity), metrics  # type: ignore[return-value]

    def gradient(
        self, learner: Incremental, state: TrainState, batch: Batch, key: Array
    ) -> tuple[dict[str, Any], Any, dict[str, Array]]:
        """The gradient as the optimiser sees it before the weight decay, new running statistics, and what to report."""
        images = prepared(learner.augmentation, batch.images, key)
        old = learner.outputs(state.teacher, images, state.own) if self.taught else None  # type: ignore[arg-type]

        def objective(parameters: dict[str, Any]) -> tuple[Array, Any]:
            model = state.model._replace(**parameters)
            if self.moving:
                new, batch_stats = learner.moving_outputs(model, images, state.own)
            else:
                new, batch_stats = learner.outputs(model, images, state.own), model.batch_stats
            loss, terms = self.loss(learner.method, new, old, batch, state)
            logits = jnp.where(state.classes.trained[None], new.logits, -jnp.inf)
            right = jnp.mean(logits.argmax(-1) == batch.labels)
            return loss, (batch_stats, {"loss": loss, **terms, "accuracy": right})

        parameters = {name: getattr(state.model, name) for name in self.trains}
        (_, (batch_stats, metrics)), gradient = jax.value_and_grad(objective, has_aux=True)(parameters)
        clamp = learner.recipes[self.recipe].clamp
        if clamp is not None:
            gradient = jax.tree.map(lambda g: jnp.clip(g, -clamp, clamp), gradient)
        return gradient, batch_stats, metrics


def training(
    learner: Incremental,
    name: str,
    step: Step,
    parts: Callable[..., np.ndarray] | None = None,
    rates: Callable[[Any, State, Classes], dict[str, Any]] | None = None,
    balanced: bool = False,
) -> Training:
    """A training of the model by a step.

    Args:
      learner: whose recipes give its length.
      name: for people.
      step: what is done.
      parts: (learner, state, task, key) -> rows; None: the task's images and the exemplars, shuffled together.
      rates: (method, state, classes) -> factors of the learning rate of the parts of the model that train, a tree like
        them; None: 0 in rows of the output layer that take no part, 1 elsewhere.
      balanced: whether it is on images that balance the classes.
    """
    recipe = learner.recipes[step.recipe]
    return Training(
        name,
        parts=_Parts(step.recipe, parts),
        begin=_Begin(step.trains, rates),
        step=step,
        end=end,
        epochs=recipe.epochs,
        steps=recipe.steps,
        balanced=balanced,
    )


@dataclasses.dataclass(frozen=True)
class _Parts:
    recipe: str
    rows: Callable[..., np.ndarray] | None

    def __call__(self, learner: Incremental, state: State, task: Task, key: Array) -> tuple[Part, ...]:
        rows = (self.rows or task_and_memory)(learner, state, task, key)
        return (Part(rows, learner.recipes[self.recipe].batch_size),)


@dataclasses.dataclass(frozen=True)
class _Begin:
    trains: tuple[str, ...]
    rates: Callable[..., dict[str, Any]] | None

    def __call__(self, learner: Incremental, state: State, task: Task, key: Array) -> TrainState:
        del key  # weights are drawn by `init` and by fits
        classes = learner.masks(task)
        parameters = {name: getattr(state.model, name) for name in self.trains}
        rates = (self.rates or trained_rows)(learner.method, state, classes)
        return TrainState(
            state.model,
            jax.tree.map(jnp.zeros_like, parameters),
            {name: rates[name] for name in self.trains},
            state.teacher,
            classes,
            state.own,
        )


def end(learner: Incremental, train_state: TrainState, state: State, task: Task) -> State:
    """Keeps the model, and drops the rows of classes that have not come."""
    seen = jnp.pad(jnp.asarray(task.seen), (0, learner.other_classes))
    model = train_state.model
    output = {**model.output, "rows": rows_where(seen, model.output["rows"])}
    return state._replace(model=model._replace(output=output))


def task_and_memory(learner: Incremental, state: State, task: Task, key: Array) -> np.ndarray:
    """Rows of the task's images, and of the exemplars of past classes; padded, so that all tasks have one length."""
    del learner, key
    return np.concatenate([task.rows, np.asarray(state.memory).ravel()])


def memory_alone(learner: Incremental, state: State, task: Task, key: Array) -> np.ndarray:
    """Rows of the exemplars, padded."""
    del learner, task, key
    return np.asarray(state.memory).ravel()


def trained_rows(method: Any, state: State, classes: Classes) -> dict[str, Any]:
    """Factors of the learning rate: 0 in rows of the output layer that take no part, 1 elsewhere."""
    del method
    model = state.model
    return {
        "network": everywhere(1, model.network),
        "output": {
            "rows": rows_where(classes.trained, jax.tree.map(jnp.ones_like, model.output["rows"])),
            "shared": everywhere(1, model.output["shared"]),
        },
    }


def everywhere(value: float, tree: Any) -> Any:
    """A number for every leaf of a tree."""
    return jax.tree.map(lambda leaf: jnp.asarray(value, leaf.dtype), tree)


def rows_where(classes: Array, rows: Any) -> Any:
    """Rows [C, ...] of an output layer, zero for other classes than those of a mask [C]."""
    return jax.tree.map(lambda leaf: jnp.where(classes.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, 0), rows)


def room(learner: Incremental) -> int:
    """Exemplars that a class may ever have."""
    kept = learner.exemplars
    return 0 if kept is None else max(map(kept.quota, np.cumsum(learner.task_sizes)))


def prepared(changes: Augmentation, images: Array, key: Array) -> Array:
    """uint8 images in [-1, 1], changed at random; float images as they are."""
    if images.dtype == jnp.uint8:
        return changes(key, augmentation.to_float(images))
    return images


def mean(losses: Array, weights: Array) -> Array:
    """The mean of losses [B] by weights [B]; 0 where no weight is positive."""
    total = weights.sum()
    return (weights * losses).sum() / jnp.where(total > 0, total, 1)


def nearest_mean_distances(features: Array, means: Array, epsilon: float) -> Array:
    """Squared distances [B, C] of unit features [B, D] to means [C, D]."""
    rows = memories.unit(features, epsilon)
    squares = jnp.square(rows).sum(-1, keepdims=True) + jnp.square(means).sum(-1)[None]
    return squares - 2 * jnp.matmul(rows, means.T, precision="highest")


def no_rows(learner: Any, state: Any, task: Task, key: Array) -> dict[str, np.ndarray]:
    """Of a fit that looks at no image."""
    del learner, state, task, key
    return {}


def _grow(learner: Incremental, state: State, features: Any, labels: Any, task: Task, key: Array) -> State:
    del features, labels
    classes, output = learner.masks(task), state.model.output
    fresh = learner.method.draw(key, output)
    drawn = rows_where(classes.trained & ~classes.old, fresh)
    kept = rows_where(classes.old, output["rows"])
    output = {**output, "rows": jax.tree.map(jnp.add, drawn, kept)}
    task_of_class = jnp.where(jnp.asarray(task.new), task.index, state.task_of_class)
    return state._replace(model=state.model._replace(output=output), task_of_class=task_of_class)


def task_rows(learner: Incremental, state: State, task: Task, key: Array) -> dict[str, np.ndarray]:
    """Of a fit that looks at the task's images."""
    del learner, state, key
    return {"task": np.asarray(task.rows)}


def remember(learner: Incremental, state: State, features: Any, labels: Any, task: Task, key: Array) -> State:
    """Chooses exemplars of the new classes, cuts the lists of old ones, and takes the means of all."""
    kind, room = learner.exemplars, state.memory.shape[1]
    if kind is None or room == 0:
        return state
    first, count, most = int(np.argmax(task.new)), int(np.sum(task.new)), max(learner.task_sizes)
    relative = jnp.where(labels["task"] < 0, -1, labels["task"] - first)
    rows = learner.method.mean_features(features["task"]["images"])
    places = kind.choose(rows, relative, most, room, key)
    rows = jnp.where(places < 0, -1, jnp.asarray(task.rows)[places])
    quota = kind.quota(int(np.sum(task.seen)))
    rows, old = memories.cut(rows, quota), memories.cut(state.memory, quota)
    numbers = np.where(np.arange(most) < count, first + np.arange(most), learner.num_classes)
    return state._replace(memory=old.at[numbers].set(rows, mode="drop"))


def _means_rows(learner: Incremental, state: State, task: Task, key: Array) -> dict[str, np.ndarray]:
    del learner, task, key
    return {"memory": np.asarray(state.memory).ravel()}


def means(learner: Incremental, state: State, features: Any, labels: Any, task: Task, key: Array) -> State:
    """The means of all exemplars with the network as it is now, over the method's views of them."""
    del labels, task, key
    kept = state.memory >= 0
    epsilon = learner.method.epsilon
    views = map(learner.method.mean_features, features["memory"].values())
    of_views = [memories.mean_of_units(rows.reshape(*kept.shape, -1), kept, epsilon) for rows in views]
    average = jnp.stack(of_views).mean(0)
    return state._replace(means=memories.unit(average, learner.method.mean_epsilon))


def _teach(learner: Incremental, state: State, features: Any, labels: Any, task: Task, key: Array) -> State:
    del learner, features, labels, task, key
    return state._replace(teacher=state.model)


GROW = Fit("new classes", no_rows, _grow)
TEACHER = Fit("teacher", no_rows, _teach)
EXEMPLARS = Fit("exemplars", task_rows, remember)


def mirrored(images: Array) -> Array:
    """Images [B, H, W, 3] with left and right exchanged."""
    return images[:, :, ::-1]


MIRRORED = {**AS_THEY_ARE, "mirrored": mirrored}


def means_over(views: Mapping[str, Callable[[Array], Array]] = AS_THEY_ARE) -> Fit:
    """The fit of the means of exemplars, over some views of them."""
    return Fit("class means", _means_rows, means, views=views)
