"""ACIL: analytic class-incremental learning (Zhuang et al., NeurIPS 2022, arXiv:2205.14922).

Features pass a random layer that is never trained, and a ridge regression onto one-hot targets follows:

    X = relu(F B),   W = (sum_t X_t^T X_t + ridge I)^-1 sum_t X_t^T Y_t                     (1)

The paper updates W and the inverse of the first sum from batch to batch and proves that the result is (1), the
solution of all tasks at once; here both sums are the state and (1) is solved after each task (`ridge.py`). So
neither the order of the tasks nor that of the rows matters.

B is drawn as the authors' torch.nn.Linear draws its weights, uniform in [-1 / sqrt(D), 1 / sqrt(D)], without
intercepts.
"""

from typing import ClassVar, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

from jaxcil.errors import InputError
from jaxcil.heads.class_statistics import (
    check_positive,
    check_size,
    class_counts,
    known_classes_only,
    one_hot,
    scored_rows,
    task_rows,
)
from jaxcil.heads.ridge import gram_sums, in_blocks, ridge_weights


class ACILState(NamedTuple):
    """The random layer, the sums of all tasks and the weights that follow from them."""

    layer: Array  # B [D, M], drawn once
    gram: Array  # [M, M] sum of X^T X
    cross: Array  # [M, C] sum of X^T Y
    weights: Array  # [M, C]
    counts: Array  # [C] int32; 0 marks a class not seen yet


@flax.struct.dataclass
class ACIL:
    """Analytic class-incremental learning; made by `acil`."""

    ridge: Array | float
    buffer_size: int = flax.struct.field(pytree_node=False, default=8192)
    scores_are_logits: ClassVar[bool] = False

    def init(self, num_classes: int, feature_dim: int, key: Array | None = None) -> ACILState:
        """No class seen; the key draws the random layer. Memory: buffer_size^2."""
        cross = jnp.zeros((self.buffer_size, num_classes))
        return ACILState(
            layer=random_layer(key, feature_dim, self.buffer_size),
            gram=jnp.zeros((self.buffer_size, self.buffer_size)),
            cross=cross,
            weights=cross,
            counts=jnp.zeros(num_classes, jnp.int32),
        )

    def update(self, state: ACILState, features: Array, labels: Array, key: Array | None = None) -> ACILState:
        """Adds a task's features [B, D], labels [B] int32 (-1: padding); a class may come again.

        Costs B M^2 + M^3 / 3 operations with M the buffer size.
        """
        num_classes = state.counts.shape[0]
        features = task_rows(features, labels, like=means_like(state.layer, num_classes))
        targets = one_hot(labels, num_classes, features.dtype)
        gram, cross = gram_sums(
            lambda rows, targets: (relu_layer(rows, state.layer), targets), features, targets
        )
        gram, cross = state.gram + gram, state.cross + cross
        counts = state.counts + class_counts(labels, num_classes)
        weights = ridge_weights(gram, cross, jnp.asarray(self.ridge, gram.dtype))
        learned = ACILState(state.layer, gram, cross, weights, counts)
        # Without any row the sums are 0, and a factor of nothing but the ridge may be off in the last bit
        return jax.tree.map(lambda new, old: jnp.where((labels >= 0).any(), new, old), learned, state)

    def scores(self, state: ACILState, features: Array) -> Array:
        """Regression X W, [B, C], of features [B, D]; -inf for a class not seen."""
        features = scored_rows(features, like=means_like(state.layer, state.counts.shape[0]))
        scores = in_blocks(lambda rows: layer_scores(rows, state.layer, state.weights), features)
        return known_classes_only(scores, state.counts)


def random_layer(key: Array | None, feature_dim: int, buffer_size: int) -> Array:
    """Weights [D, M], uniform in [-1 / sqrt(D), 1 / sqrt(D)]: the default of torch.nn.Linear."""
    if key is None:
        raise InputError("this head has a random layer: give `init` a key.")
    bound = feature_dim**-0.5
    return jax.random.uniform(key, (feature_dim, buffer_size), minval=-bound, maxval=bound)


def relu_layer(rows: Array, layer: Array) -> Array:
    """relu(F B), [B, M], of rows F [B, D]."""
    return jnp.maximum(jnp.matmul(rows, layer, precision="highest"), 0)


def layer_scores(rows: Array, layer: Array, weights: Array) -> Array:
    """relu(F B) W, [B, C], of rows F [B, D]."""
    return jnp.matmul(relu_layer(rows, layer), weights, precision="highest")


def means_like(layer: Array, num_classes: int) -> jax.ShapeDtypeStruct:
    """Shape [C, D] and dtype that a layer [D, M] asks of class means."""
    return jax.ShapeDtypeStruct((num_classes, layer.shape[0]), layer.dtype)


def acil(*, ridge: Array | float = 0.1, buffer_size: int = 8192) -> ACIL:
    """Analytic class-incremental learning.

    Args:
      ridge: of equation (1), > 0; a leaf, so that a sweep may vmap over it. Checked where it is concrete.
      buffer_size: M, the width of the random layer: 8192 for CIFAR-100 and 16384 for ImageNet in the paper.

    Raises:
      InputError: ridge or buffer_size not positive.
    """
    check_positive("ridge", ridge)
    check_size("buffer_size", buffer_size)
    return ACIL(ridge, buffer_size=buffer_size)
