"""FPCIL, future-proofing class-incremental learning (Jodelet et al., arXiv:2404.03200).

A feature extractor that is frozen after the first task knows only what the first classes taught it. FPCIL draws
images of the classes to come from a text-to-image model, by their names, before the first training:

    1. train extractor and classifier on real images of the first classes and synthetic images of the future
       ones, under one cross-entropy over both,
    2. drop the classifier's columns of the future classes,
    3. freeze the extractor and run an exemplar-free head on the real images of every task.

No synthetic image is replayed or tested on, and a future class is learned from its real images when its task
comes. With no future rows the same code is the plain method that FPCIL is compared with; with real images of the
future classes it is an upper bound. The paper's recipe of the joint training is not public; ours is in the configs.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxcil import keys
from jaxcil.data import augment
from jaxcil.training.optimizer import SGD
from jaxcil.training.state import Phase, Task


class Images(NamedTuple):
    """The resident data set: real training images, then the images that future-proof."""

    images: Array  # uint8 [N, H, W, 3]
    labels: Array  # int32 [N], positions in the class order


class FPCILState(NamedTuple):
    """After a task: a frozen extractor with its first classifier, and a head."""

    variables: Any  # "params" and "batch_stats" of the network
    classifier: Array  # [D + 1, C], last row the bias; zero where the first training had no such class
    head: Any


class ExtractorState(NamedTuple):
    """While the extractor trains."""

    variables: Any
    classifier: Array  # [D + 1, C]
    trained: Array  # [C] bool, the columns that the cross-entropy is over
    optimizer: Any
    step: Array  # [] int32


@flax.struct.dataclass
class FPCIL:
    """A learner: a future-proof extractor, frozen after task 0, and a head on its features.

    Attributes:
      data: resident data set that tasks and `future_rows` point into.
      future_rows: int32 [F], rows of images of future classes; -1 pads, so plain is all -1.
      head: any head of `jaxcil.heads`.
      optimizer: of the extractor's training.
      num_classes: C, of all tasks.
      network: a module images [B, H, W, 3] -> features [B, D] with batch statistics.
      steps: optimiser steps of the extractor's training.
      shift: random shifts of training images, pixels.
    """

    data: Images
    future_rows: Array
    head: Any
    optimizer: SGD
    num_classes: int = flax.struct.field(pytree_node=False)
    network: nn.Module = flax.struct.field(pytree_node=False)
    steps: int = flax.struct.field(pytree_node=False)
    shift: int = flax.struct.field(pytree_node=False, default=0)

    def init(self, key: Array, example_images: Array) -> FPCILState:
        """Random weights; images [B, H, W, 3] float32 give the shapes."""
        variables = self.network.init(keys.purpose_key(key, "initial weights"), example_images)
        feature_dim = self.features(variables, example_images).shape[-1]
        classifier = jnp.zeros((feature_dim + 1, self.num_classes))
        head = self.head.init(self.num_classes, feature_dim, keys.purpose_key(key, "head"))
        return FPCILState(variables, classifier, head)

    def phases(self, task_index: int) -> tuple[Phase, ...]:
        """Task 0 trains the extractor, then every task fits the head."""
        fit = Phase(
            "head", self._fit_head, _no_step, lambda head, state, task: state._replace(head=head), steps=0
        )
        if task_index:
            return (fit,)
        return (Phase("extractor", self.begin, self.step, self.end, steps=self.steps), fit)

    def scores(self, state: FPCILState, images: Array) -> Array:
        """Scores [B, C] of images [B, H, W, 3] in [-1, 1]; -inf for classes not seen."""
        return self.head.scores(state.head, self.features(state.variables, images))

    def features(self, variables: Any, images: Array) -> Array:
        """Features [B, D] of the extractor as it stands."""
        return self.network.apply(variables, images)  # type: ignore[return-value]

    def training_rows(self, task: Task) -> Array:
        """Rows [R + F] of the first training: the task's and those of future classes."""
        return jnp.concatenate([task.rows, self.future_rows])

    def begin(self, state: FPCILState, task: Task, key: Array) -> ExtractorState:
        """The state before the extractor's first step."""
        del key  # the classifier starts at zero
        future = jnp.where(self.future_rows < 0, self.num_classes, self.data.labels[self.future_rows])
        trained = task.new.at[future].set(True, mode="drop")
        parameters = (state.variables["params"], state.classifier)
        optimizer = self.optimizer.build(self.steps).init(parameters)
        return ExtractorState(state.variables, state.classifier, trained, optimizer, jnp.int32(0))

    def step(
        self, state: ExtractorState, batch: Images, key: Array
    ) -> tuple[ExtractorState, dict[str, Array]]:
        """One step on uint8 images [B, H, W, 3] of trained classes."""
        images = augment.random_shift(key, augment.to_float(batch.images), self.shift)

        def loss(parameters: tuple[Any, Array]) -> tuple[Array, tuple[Any, Array]]:
            params, classifier = parameters
            features, changed = self.network.apply(
                {"params": params, "batch_stats": state.variables["batch_stats"]},
                images,
                train=True,
                mutable=["batch_stats"],
            )
            logits = features @ classifier[:-1] + classifier[-1][None]
            logits = jnp.where(state.trained[None], logits, -jnp.inf)
            value = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels).mean()
            return value, (changed["batch_stats"], jnp.mean(logits.argmax(-1) == batch.labels))

        parameters = (state.variables["params"], state.classifier)
        (value, (batch_stats, accuracy)), gradient = jax.value_and_grad(loss, has_aux=True)(parameters)
        updates, optimizer = self.optimizer.build(self.steps).update(gradient, state.optimizer, parameters)
        updated: Any = optax.apply_updates(parameters, updates)
        variables = {"params": updated[0], "batch_stats": batch_stats}
        state = ExtractorState(variables, updated[1], state.trained, optimizer, state.step + 1)
        return state, {"loss": value, "accuracy": accuracy}

    def end(self, train_state: ExtractorState, state: FPCILState, task: Task) -> FPCILState:
        """Freezes the extractor and drops the classifier's columns of the future classes."""
        classifier = jnp.where(task.new[None], train_state.classifier, 0.0)
        return state._replace(variables=train_state.variables, classifier=classifier)

    def _fit_head(self, state: FPCILState, task: Task, key: Array) -> Any:
        images = augment.to_float(self.data.images[task.rows])
        labels = jnp.where(task.rows < 0, -1, self.data.labels[task.rows])
        return self.head.update(state.head, self.features(state.variables, images), labels, key)


def _no_step(train_state: Any, batch: Any, key: Array) -> Any:
    raise AssertionError("a phase of no steps takes none")
