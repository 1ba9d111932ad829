"""A linear classifier of features: given, as the one an extractor was trained with, or trained (a linear probe).

    dot      s_c(f) = <f, w_c> + b_c                                               (1)
    cosine   s_c(f) = <f, w_c> / (|f| |w_c|)                                       (2)

A trained extractor's own classifier scores its first task in the published curves of methods that freeze it:
FeCAM's official code takes the weights of the cosine classifier as the prototypes of the first task
(arXiv:2309.14062). `with_weights` gives that.

`update` trains by softmax regression (`linear_classifiers.py`) over all classes seen so far, on the rows of the task
alone. On one task that holds all classes this is the linear probe. On several it is the classifier that is merely
fine-tuned: without rows of old classes it forgets them, which is why the other heads exist.
"""

from typing import Literal, NamedTuple

import flax.struct
import jax.numpy as jnp
from jax import Array

from jaxcil.errors import InputError, unknown_name
from jaxcil.heads.class_rows import (
    check_positive,
    check_size,
    class_counts,
    known_classes_only,
    scored_rows,
    task_rows,
)
from jaxcil.heads.linear_classifiers import Softmax, cosine_scores, linear_scores

METRICS = ("dot", "cosine")


class LinearState(NamedTuple):
    """The classifier."""

    weights: Array  # [C, D + 1], the intercept last
    counts: Array  # [C] int32; 0 marks a class not seen yet


@flax.struct.dataclass
class Linear:
    """A linear classifier; made by `linear`."""

    classifier: Softmax
    metric: str = flax.struct.field(pytree_node=False, default="dot")

    def init(self, num_classes: int, feature_dim: int, key: Array | None = None) -> LinearState:
        """No class seen."""
        return LinearState(jnp.zeros((num_classes, feature_dim + 1)), jnp.zeros(num_classes, jnp.int32))

    def with_weights(
        self, state: LinearState, weights: Array, seen: Array, intercepts: Array | None = None
    ) -> LinearState:
        """A state in which some classes have given weights.

        Args:
          state: of this head; its other classes keep what they have.
          weights: [C, D].
          seen: [C] bool, the classes whose weights are taken.
          intercepts: [C]; None: 0. Metric cosine has no use for them.
        """
        num_classes, width = state.weights.shape
        if weights.shape != (num_classes, width - 1):
            raise InputError(
                f"expected weights [{num_classes}, {width - 1}], a row a class, got shape {weights.shape}.\n"
                "A classifier kept as [D, C] must be transposed, and its intercepts given apart."
            )
        if intercepts is None:
            intercepts = jnp.zeros(num_classes)
        given = jnp.concatenate([weights, intercepts[:, None]], axis=1).astype(state.weights.dtype)
        return LinearState(
            weights=jnp.where(seen[:, None], given, state.weights),
            counts=jnp.where(seen, jnp.maximum(state.counts, 1), state.counts),
        )

    def update(
        self, state: LinearState, features: Array, labels: Array, key: Array | None = None
    ) -> LinearState:
        """Trains all classes seen on a task's features [B, D], labels [B] int32 (-1: padding), with a key.

        Known classes go on from their weights. The order of the rows decides the batches.
        """
        features = task_rows(features, labels, like=state.weights[:, :-1])
        weights = self.classifier.fit(features, labels, state.weights, key)
        return LinearState(weights, state.counts + class_counts(labels, state.counts.shape[0]))

    def scores(self, state: LinearState, features: Array) -> Array:
        """Scores (1) or (2), [B, C], of features [B, D]; -inf for a class not seen."""
        features = scored_rows(features, like=state.weights[:, :-1])
        score = cosine_scores if self.metric == "cosine" else linear_scores
        return known_classes_only(score(state.weights, features), state.counts)


def linear(
    metric: Literal["dot", "cosine"] = "dot",
    *,
    learning_rate: Array | float = 0.05,
    weight_decay: Array | float = 5e-4,
    scale: Array | float = 16.0,
    epochs: int = 50,
    batch_size: int = 128,
) -> Linear:
    """A linear classifier, given or trained.

    learning_rate, weight_decay and scale are leaves, so that a sweep may vmap over them; checked where they are
    concrete. The defaults are those of FeTrIL's linear layer in PyCIL; the scale is ours.

    Args:
      metric: "dot", equation (1) of this module, or "cosine", equation (2).
      learning_rate: of the training, at its first epoch, > 0.
      weight_decay: of the training, >= 0.
      scale: factor of the cosines in the loss, > 0; metric dot has none.
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
    return Linear(classifier, metric=metric)
