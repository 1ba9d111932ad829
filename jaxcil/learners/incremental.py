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

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil import keys
from jaxcil.data.augmentation.augmentation import Augmentation
from jaxcil.memory import exemplars as memories
from jaxcil.memory.exemplars import Exemplars
from jaxcil.training.learner import Batch, Phase, Task
from jaxcil.training.optimizer import SGD

OF_MEMORY = ("exemplars", "class means")  # names of fits


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
      images_per_class: real training images of the largest class, so that herding compiles once; None: as they come.
      other_classes: classes of auxiliary rows that never come; their labels are from C on.
    """

    method: Any
    recipes: dict[str, Recipe]
    num_classes: int = flax.struct.field(pytree_node=False)
    network: nn.Module = flax.struct.field(pytree_node=False)
    task_sizes: tuple[int, ...] = flax.struct.field(pytree_node=False)
    augmentation: Augmentation = flax.struct.field(pytree_node=False, default=Augmentation())
    exemplars: Exemplars | None = flax.struct.field(pytree_node=False, default=None)
    images_per_class: int | None = flax.struct.field(pytree_node=False, default=None)
    other_classes: int = flax.struct.field(pytree_node=False, default=0)

    frozen_after = None
    logit_readings = ("cnn",)

    @property
    def columns(self) -> int:
        """Rows of the output layer."""
        return self.num_classes + self.other_classes

    @property
    def has_means(self) -> bool:
        """Whether there is a nearest mean of exemplars."""
        return self.exemplars is not None and self.method.has_means

    @property
    def reading_names(self) -> tuple[str, ...]:
        """The network's own output, and the nearest mean of exemplars where there is one."""
        return ("cnn", "nme") if self.has_means else ("cnn",)

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
        """The method's, but for those of a memory that it does not have."""
        phases = self.method.phases(self, task_index)
        return tuple(phase for phase in phases if self.exemplars is not None or phase.name not in OF_MEMORY)

    def features(self, state: State, images: Array) -> Array:
        """Features [B, D] float32 of images [B, H, W, 3] in [-1, 1]."""
        own = self.outputs(state.model, images, state.own)
        return self.method.embed(own.features, own.maps)

    def readings(self, state: State, features: Array) -> dict[str, Array]:
        """Logits "cnn" and minus squared distances "nme", [B, C]; -inf for classes not seen."""
        seen = (state.task_of_class >= 0)[None]
        logits = self.method.logits(state.model.output, features, state.own)[:, : self.num_classes]
        readings = {"cnn": jnp.where(seen, logits, -jnp.inf)}
        if self.has_means:
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
        sown = changed.get("intermediates", {})
        maps = tuple(sown[name][0] for name in sorted(sown) if name.startswith("stage_"))
        features, maps = jax.tree.map(
            lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), (features, maps)
        )
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


def room(learner: Incremental) -> int:
    """Exemplars that a class may ever have."""
    kept = learner.exemplars
    return 0 if kept is None else max(map(kept.quota, np.cumsum(learner.task_sizes)))


def everywhere(value: float, tree: Any) -> Any:
    """A number for every leaf of a tree."""
    return jax.tree.map(lambda leaf: jnp.asarray(value, leaf.dtype), tree)


def rows_where(classes: Array, rows: Any) -> Any:
    """Rows [C, ...] of an output layer, zero for other classes than those of a mask [C]."""
    return jax.tree.map(lambda leaf: jnp.where(classes.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, 0), rows)


def nearest_mean_distances(features: Array, means: Array, epsilon: float) -> Array:
    """Squared distances [B, C] of unit features [B, D] to means [C, D]."""
    rows = memories.unit(features, epsilon)
    squares = jnp.square(rows).sum(-1, keepdims=True) + jnp.square(means).sum(-1)[None]
    return squares - 2 * jnp.matmul(rows, means.T, precision="highest")
