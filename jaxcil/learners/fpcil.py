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
from jaxcil.data.augmentation import augmentation as augment
from jaxcil.data.augmentation.augmentation import Augmentation
from jaxcil.extractors.output_layer import Classifier, Linear
from jaxcil.training.learner import Phase, Task
from jaxcil.training.optimizer import SGD, moving_average


class Images(NamedTuple):
    """The resident data set: real training images, then the images that future-proof."""

    images: Array  # uint8 [N, H, W, 3]
    labels: Array  # int32 [N], positions in the class order; from C on, classes that will never come
    synthetic: Array | None = None  # bool [N]; None where all are real


class FPCILState(NamedTuple):
    """After a task: a frozen extractor with its first classifier, and a head."""

    variables: Any  # "params" and "batch_stats" of the network
    classifier: Any  # parameters; zero where the first training had no such class, or a future one
    head: Any


class ExtractorState(NamedTuple):
    """While the extractor trains."""

    variables: Any
    classifier: Any
    average: Any  # of variables and classifier, or None
    trained: Array  # [C + other classes] bool, the columns that the cross-entropy is over
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
      augmentation: random changes of training images.
      synthetic_augmentation: those of synthetic ones; None changes them alike.
      label_smoothing: share of the target that is spread over the trained classes, in [0, 1).
      synthetic_weight: weight of a synthetic image in the loss, a real one having 1.
      average_decay: of a moving average of weights and batch statistics, which is then what is frozen; None: none.
      num_classes: C, of all tasks.
      network: a module images [B, H, W, 3] -> features [B, D] with batch statistics.
      steps: optimiser steps of the extractor's training.
      classifier: the layer that the extractor is trained under.
      other_classes: classes of future rows that will never come; they have labels from C on.
    """

    data: Images
    future_rows: Array
    head: Any
    optimizer: SGD
    num_classes: int = flax.struct.field(pytree_node=False)
    network: nn.Module = flax.struct.field(pytree_node=False)
    steps: int = flax.struct.field(pytree_node=False)
    augmentation: Augmentation = Augmentation()
    synthetic_augmentation: Augmentation | None = None
    label_smoothing: Array | float = 0.0
    synthetic_weight: Array | float = 1.0
    average_decay: Array | float | None = None
    classifier: Classifier = flax.struct.field(pytree_node=False, default=Linear())
    other_classes: int = flax.struct.field(pytree_node=False, default=0)

    def init(self, key: Array, example_images: Array) -> FPCILState:
        """Random weights; images [B, H, W, 3] float32 give the shapes."""
        variables = self.network.init(keys.purpose_key(key, "initial weights"), example_images)
        feature_dim = self.features(variables, example_images).shape[-1]
        outputs = self.num_classes + self.other_classes
        classifier = self.classifier.init(keys.purpose_key(key, "classifier"), feature_dim, outputs)
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
        """Features [B, D] float32 of the extractor as it stands."""
        return self.network.apply(variables, images).astype(jnp.float32)  # type: ignore[union-attr]

    def begin(self, state: FPCILState, task: Task, key: Array) -> ExtractorState:
        """The state before the extractor's first step."""
        del key  # weights are drawn by `init`
        outputs = self.num_classes + self.other_classes
        future = jnp.where(self.future_rows < 0, outputs, self.data.labels[self.future_rows])
        trained = jnp.pad(task.new, (0, self.other_classes)).at[future].set(True, mode="drop")
        parameters = (state.variables["params"], state.classifier)
        optimizer = self.optimizer.build(self.steps).init(parameters)
        average = None if self.average_decay is None else (state.variables, state.classifier)
        return ExtractorState(state.variables, state.classifier, average, trained, optimizer, jnp.int32(0))

    def step(
        self, state: ExtractorState, batch: Images, key: Array
    ) -> tuple[ExtractorState, dict[str, Array]]:
        """One step on uint8 images [B, H, W, 3] of trained classes."""
        images = self._augmented(batch, key)
        weights = jnp.ones(len(batch.labels))
        if batch.synthetic is not None:
            weights = jnp.where(batch.synthetic, self.synthetic_weight, weights)

        def loss(parameters: tuple[Any, Any]) -> tuple[Array, tuple[Any, Array]]:
            params, classifier = parameters
            features, changed = self.network.apply(
                {"params": params, "batch_stats": state.variables["batch_stats"]},
                images,
                train=True,
                mutable=["batch_stats"],
            )
            logits = self.classifier.logits(classifier, features.astype(jnp.float32))
            logits = jnp.where(state.trained[None], logits, -jnp.inf)
            losses = smoothed_cross_entropy(logits, batch.labels, state.trained, self.label_smoothing)
            value = (weights * losses).sum() / weights.sum()
            return value, (changed["batch_stats"], jnp.mean(logits.argmax(-1) == batch.labels))

        parameters = (state.variables["params"], state.classifier)
        (value, (batch_stats, accuracy)), gradient = jax.value_and_grad(loss, has_aux=True)(parameters)
        updates, optimizer = self.optimizer.build(self.steps).update(gradient, state.optimizer, parameters)
        updated: Any = optax.apply_updates(parameters, updates)
        variables = {"params": updated[0], "batch_stats": batch_stats}
        average = state.average
        if self.average_decay is not None:
            average = moving_average(average, (variables, updated[1]), state.step, self.average_decay)
        state = ExtractorState(variables, updated[1], average, state.trained, optimizer, state.step + 1)
        return state, {"loss": value, "accuracy": accuracy}

    def end(self, train_state: ExtractorState, state: FPCILState, task: Task) -> FPCILState:
        """Freezes the extractor and drops the classifier's columns of the future classes."""
        variables, classifier = self.frozen(train_state)
        first = jnp.pad(task.new, (0, self.other_classes))
        return state._replace(variables=variables, classifier=self.classifier.keep(classifier, first))

    def frozen(self, train_state: ExtractorState) -> tuple[Any, Any]:
        """Variables of the network and parameters of the classifier that a training leaves behind."""
        if train_state.average is not None:
            return train_state.average
        return train_state.variables, train_state.classifier

    def _augmented(self, batch: Images, key: Array) -> Array:
        images = augment.to_float(batch.images)
        changed = self.augmentation(key, images)
        if batch.synthetic is None or self.synthetic_augmentation is None:
            return changed
        other = self.synthetic_augmentation(key, images)
        return jnp.where(batch.synthetic[:, None, None, None], other, changed)

    def _fit_head(self, state: FPCILState, task: Task, key: Array) -> Any:
        images = augment.to_float(self.data.images[task.rows])
        labels = jnp.where(task.rows < 0, -1, self.data.labels[task.rows])
        return self.head.update(state.head, self.features(state.variables, images), labels, key)


def smoothed_cross_entropy(logits: Array, labels: Array, trained: Array, smoothing: Array | float) -> Array:
    """Cross-entropy [B] against (1 - smoothing) one-hot + smoothing / n over the n trained classes.

    Args:
      logits: [B, C], -inf for classes that are not trained.
      labels: int32 [B].
      trained: bool [C].
      smoothing: in [0, 1).
    """
    log_p = jax.nn.log_softmax(logits)
    own = -jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]
    spread = -jnp.where(trained[None], log_p, 0).sum(-1) / trained.sum()
    return (1 - smoothing) * own + smoothing * spread


def _no_step(train_state: Any, batch: Any, key: Array) -> Any:
    raise AssertionError("a phase of no steps takes none")
