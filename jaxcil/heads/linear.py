"""A linear classifier of features, trained by softmax regression: a linear probe.

    dot      s_c(f) = <f, w_c> + b_c                                               (1)
    cosine   s_c(f) = scale <f, w_c> / (|f| |w_c|)                                 (2)

`update` trains by softmax regression (`linear_models.py`) over all classes seen so far, on the rows of the task
alone. On one task that holds all classes this is the linear probe. On several it is the classifier that is merely
fine-tuned: without rows of old classes it forgets them, which is why the other heads exist.
"""

from typing import ClassVar, Literal, NamedTuple

import flax.struct
import jax.numpy as jnp
from jax import Array

from jaxcil.errors import unknown_name
from jaxcil.heads.class_statistics import (
    check_positive,
    check_size,
    class_counts,
    known_classes_only,
    scored_rows,
    task_rows,
)
from jaxcil.heads.linear_models import Softmax

METRICS = ("dot", "cosine")


class LinearState(NamedTuple):
    """The classifier."""

    weights: Array  # [C, D + 1], the intercept last
    counts: Array  # [C] int32; 0 marks a class not seen yet


@flax.struct.dataclass
class Linear:
    """A linear classifier; made by `linear`."""

    classifier: Softmax
    scores_are_logits: ClassVar[bool] = True

    def init(self, num_classes: int, feature_dim: int, key: Array | None = None) -> LinearState:
        """No class seen."""
        return LinearState(jnp.zeros((num_classes, feature_dim + 1)), jnp.zeros(num_classes, jnp.int32))

    def update(
        self, state: LinearState, features: Array, labels: Array, key: Array | None = None
    ) -> LinearState:
        """Trains all classes seen on a task's features [B, D], labels [B] int32 (-1: padding), with a key.

        Known classes start from their weights. The order of the rows decides the batches.
        """
        features = task_rows(features, labels, like=state.weights[:, :-1])
        weights = self.classifier.fit(features, labels, state.weights, key)
        return LinearState(weights, state.counts + class_counts(labels, state.counts.shape[0]))

    def scores(self, state: LinearState, features: Array) -> Array:
        """Logits (1) or (2), [B, C], of features [B, D]; -inf for a class not seen."""
        features = scored_rows(features, like=state.weights[:, :-1])
        return known_classes_only(self.classifier.logits(state.weights, features), state.counts)


def linear(
    metric: Literal["dot", "cosine"] = "dot",
    *,
    learning_rate: Array | float = 0.05,
    weight_decay: Array | float = 5e-4,
    scale: Array | float = 16.0,
    epochs: int = 50,
    batch_size: int = 128,
) -> Linear:
    """A linear classifier.

    learning_rate, weight_decay and scale are leaves, so that a sweep may vmap over them; checked where they are
    concrete. The defaults are those of FeTrIL's linear layer in PyCIL; the scale is ours.

    Args:
      metric: "dot", equation (1) of this module, or "cosine", equation (2).
      learning_rate: of the training, at its first epoch, > 0.
      weight_decay: of the training, >= 0.
      scale: of equation (2), > 0; metric dot has none.
      epochs: of the training, >= 1.
      batch_size: of the training, >= 1.

    Raises:
      InputError: an unknown metric, or a setting out of range.
    """
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    check_positive("learning_rate", learning_rate)
    check_positive("weight_decay", weight_decay, zero=True)
    check_positive("scale", scale)
    check_size("epochs", epochs)
    check_size("batch_size", batch_size)
    scale_of_metric = scale if metric == "cosine" else None
    classifier = Softmax(learning_rate, weight_decay, scale_of_metric, epochs=epochs, batch_size=batch_size)
    return Linear(classifier)
