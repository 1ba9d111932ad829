"""One network and an output layer, trained by cross-entropy: the training that learners share.

As a learner of its own it trains on each task's images alone, from the weights that the task before left.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

from jaxcil import keys
from jaxcil.data.augmentation import augmentation
from jaxcil.data.augmentation.augmentation import Augmentation
from jaxcil.extractors.output_layer import Linear, OutputLayer
from jaxcil.losses.cross_entropy import cross_entropy
from jaxcil.training.learner import Batch, Part, Phase, Task, Training, whole
from jaxcil.training.optimizer import SGD, moving_average


class NetworkState(NamedTuple):
    """A network between two phases."""

    variables: Any  # "params" and "batch_stats"
    output: Any  # parameters of the output layer; zero for classes that no training had
    seen: Array  # bool [C], classes of the tasks so far


class TrainState(NamedTuple):
    """A network while it trains."""

    variables: Any
    output: Any
    average: Any  # of variables and output, or None
    trained: Array  # bool [C + other classes], the columns that the cross-entropy is over
    velocity: Any  # of the parameters and the output layer


@flax.struct.dataclass
class Supervised:
    """A network under one output layer, whose training is over a task's new classes and those of its auxiliary rows.

    Attributes:
      optimizer: of the training.
      num_classes: C, of all tasks.
      network: a module images [B, H, W, 3] -> features [B, D] with batch statistics.
      steps: optimiser steps of the training of a task.
      batch_size: places of a batch.
      augmentation: random changes of training images; constants of the program, since traced strengths round otherwise.
      label_smoothing: part of the target that is spread over the trained classes, in [0, 1); None: none.
      average_decay: of a moving average of weights and batch statistics, which is then what the training leaves
        behind; None: no average.
      output_layer: the layer that the network is trained under.
      other_classes: classes of auxiliary rows that never come; their labels are from C on.
    """

    optimizer: SGD
    num_classes: int = flax.struct.field(pytree_node=False)
    network: nn.Module = flax.struct.field(pytree_node=False)
    steps: int = flax.struct.field(pytree_node=False)
    batch_size: int = flax.struct.field(pytree_node=False)
    augmentation: Augmentation = flax.struct.field(pytree_node=False, default=Augmentation())
    label_smoothing: Array | float | None = None
    average_decay: Array | float | None = None
    output_layer: OutputLayer = flax.struct.field(pytree_node=False, default=Linear())
    other_classes: int = flax.struct.field(pytree_node=False, default=0)

    frozen_after = None
    reading_names = ("cnn",)
    logit_readings = ("cnn",)

    def init(self, key: Array, example_images: Array) -> NetworkState:
        """Random weights; images [B, H, W, 3] float32 give the shapes."""
        variables = self.network.init(keys.purpose_key(key, "initial weights"), example_images)
        feature_dim = self.embed(variables, example_images).shape[-1]
        outputs = self.num_classes + self.other_classes
        output = self.output_layer.init(keys.purpose_key(key, "classifier"), feature_dim, outputs)
        return NetworkState(variables, output, jnp.zeros(self.num_classes, bool))

    def phases(self, task_index: int) -> tuple[Phase, ...]:
        """One training per task."""
        del task_index
        return (
            Training(
                "training",
                parts=Supervised.parts,
                begin=Supervised.begin,
                step=Supervised.step,
                end=Supervised.end,
                steps=self.steps,
            ),
        )

    def embed(self, variables: Any, images: Array) -> Array:
        """Features [B, D] float32 of images [B, H, W, 3] in [-1, 1] by a network's variables."""
        return self.network.apply(variables, images).astype(jnp.float32)  # type: ignore[union-attr]

    def features(self, state: NetworkState, images: Array) -> Array:
        """Features [B, D] float32 of images [B, H, W, 3] in [-1, 1]."""
        return self.embed(state.variables, images)

    def readings(self, state: NetworkState, features: Array) -> dict[str, Array]:
        """The output layer's logits [B, C]; -inf for classes not seen."""
        logits = self.output_layer.logits(state.output, features)[:, : self.num_classes]
        return {"cnn": jnp.where(state.seen[None], logits, -jnp.inf)}

    def scores(self, state: NetworkState, images: Array) -> Array:
        """Scores [B, C] of images [B, H, W, 3] in [-1, 1]; -inf for classes not seen."""
        return self.readings(state, self.features(state, images))["cnn"]

    def parts(self, state: NetworkState, task: Task, key: Array) -> tuple[Part, ...]:
        """All of a batch are images of the task."""
        del state, key
        return (Part(whole(task.rows), self.batch_size),)

    def begin(self, state: NetworkState, task: Task, key: Array) -> TrainState:
        """The state before the first step."""
        del key  # weights are drawn by `init`
        outputs = self.num_classes + self.other_classes
        auxiliary = jnp.asarray(task.auxiliary)
        others = jnp.where(auxiliary < 0, outputs, jnp.asarray(task.labels)[auxiliary])
        trained = jnp.pad(jnp.asarray(task.new), (0, self.other_classes)).at[others].set(True, mode="drop")
        parameters = (state.variables["params"], state.output)
        velocity = self.optimizer.init(parameters)
        average = None if self.average_decay is None else (state.variables, state.output)
        return TrainState(state.variables, state.output, average, trained, velocity)

    def step(self, state: TrainState, batch: Batch, key: Array) -> tuple[TrainState, dict[str, Array]]:
        """One step on images [B, H, W, 3] of trained classes."""
        images = batch.images
        if images.dtype == jnp.uint8:
            images = self.augmentation(key, augmentation.to_float(images))

        def loss(parameters: tuple[Any, Any]) -> tuple[Array, tuple[Any, Array]]:
            params, output = parameters
            features, changed = self.network.apply(
                {"params": params, "batch_stats": state.variables["batch_stats"]},
                images,
                train=True,
                mutable=["batch_stats"],
            )
            logits = self.output_layer.logits(output, features.astype(jnp.float32))
            logits = jnp.where(state.trained[None], logits, -jnp.inf)
            losses = cross_entropy(logits, batch.labels, state.trained, self.label_smoothing)
            value = (batch.classify * losses).sum() / batch.classify.sum()
            return value, (changed["batch_stats"], jnp.mean(logits.argmax(-1) == batch.labels))

        parameters = (state.variables["params"], state.output)
        (value, (batch_stats, accuracy)), gradient = jax.value_and_grad(loss, has_aux=True)(parameters)
        factor = self.optimizer.schedule_factor(batch.step, batch.steps)
        updated, velocity = self.optimizer.update(gradient, state.velocity, parameters, factor)
        params, output = updated  # pyright: ignore[reportGeneralTypeIssues]
        variables = {"params": params, "batch_stats": batch_stats}
        average = state.average
        if self.average_decay is not None:
            average = moving_average(average, (variables, output), batch.step, self.average_decay)
        state = TrainState(variables, output, average, state.trained, velocity)
        return state, {"loss": value, "accuracy": accuracy}

    def end(self, train_state: TrainState, state: NetworkState, task: Task) -> NetworkState:
        """Keeps the weights, or their average, and drops the columns of classes that were not of a task so far."""
        variables, output = train_state.average or (train_state.variables, train_state.output)
        seen = state.seen | jnp.asarray(task.new)
        return NetworkState(
            variables, self.output_layer.keep(output, jnp.pad(seen, (0, self.other_classes))), seen
        )
