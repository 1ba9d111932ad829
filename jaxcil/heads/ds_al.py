"""DS-AL: dual-stream analytic learning (Zhuang et al., AAAI 2024, arXiv:2403.17503).

A main stream, which is ACIL (`acil.py`), and a compensation stream on another activation of the same random layer,
which regresses what the main stream leaves of the newest classes:

    X = relu(F B),  W = (sum_t X_t^T X_t + ridge I)^-1 sum_t X_t^T Y_t                              (1)
    Z = tanh(F B),  V = (sum_t Z_t^T Z_t + compensation_ridge I)^-1 sum_t Z_t^T R_t                 (2)
    R_t = Y_t - X_t W_t in the columns of the classes that task t brought, 0 in all others
    scores = X W + ratio Z V

with W_t the main weights after task t. R_t is taken once a task, after all its rows: the authors' code takes it
after each batch, of weights that know the batches so far. A class that comes again is no newest class.
"""

from typing import ClassVar, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

from jaxcil.heads.acil import ACIL, ACILState, layer_scores, means_like
from jaxcil.heads.class_statistics import (
    check_positive,
    check_size,
    known_classes_only,
    one_hot,
    scored_rows,
    task_rows,
)
from jaxcil.heads.ridge import gram_sums, in_blocks, ridge_weights


class DSALState(NamedTuple):
    """The random layer, and of each stream the sums of all tasks and the weights that follow from them."""

    layer: Array  # B [D, M], drawn once
    gram: Array  # [M, M] sum of X^T X
    cross: Array  # [M, C] sum of X^T Y
    weights: Array  # W [M, C]
    compensation_gram: Array  # [M, M] sum of Z^T Z
    compensation_cross: Array  # [M, C] sum of Z^T R
    compensation_weights: Array  # V [M, C]
    counts: Array  # [C] int32; 0 marks a class not seen yet


@flax.struct.dataclass
class DSAL:
    """Dual-stream analytic learning; made by `ds_al`."""

    ridge: Array | float
    compensation_ridge: Array | float
    ratio: Array | float
    buffer_size: int = flax.struct.field(pytree_node=False, default=8192)
    scores_are_logits: ClassVar[bool] = False

    def init(self, num_classes: int, feature_dim: int, key: Array | None = None) -> DSALState:
        """No class seen; the key draws the random layer. Memory: 2 buffer_size^2."""
        main = self._main.init(num_classes, feature_dim, key)
        return DSALState(
            compensation_gram=main.gram,
            compensation_cross=main.cross,
            compensation_weights=main.weights,
            **main._asdict(),
        )

    def update(self, state: DSALState, features: Array, labels: Array, key: Array | None = None) -> DSALState:
        """Adds a task's features [B, D], labels [B] int32 (-1: padding).

        Costs 2 B M^2 + 2 M^3 / 3 operations with M the buffer size.
        """
        num_classes = state.counts.shape[0]
        known = ACILState(*(getattr(state, field) for field in ACILState._fields))
        main = self._main.update(known, features, labels)
        features = task_rows(features, labels, like=means_like(state.layer, num_classes))
        targets = one_hot(labels, num_classes, features.dtype)

        def compensation(rows: Array, targets: Array) -> tuple[Array, Array]:
            residual = targets - layer_scores(rows, state.layer, main.weights)
            return _tanh_layer(rows, state.layer), jnp.where((state.counts == 0)[None, :], residual, 0)

        more_gram, more_cross = gram_sums(compensation, features, targets)
        compensation_gram = state.compensation_gram + more_gram
        compensation_cross = state.compensation_cross + more_cross
        compensation_ridge = jnp.asarray(self.compensation_ridge, features.dtype)
        learned = DSALState(
            compensation_gram=compensation_gram,
            compensation_cross=compensation_cross,
            compensation_weights=ridge_weights(compensation_gram, compensation_cross, compensation_ridge),
            **main._asdict(),
        )
        return jax.tree.map(lambda new, old: jnp.where((labels >= 0).any(), new, old), learned, state)

    def scores(self, state: DSALState, features: Array) -> Array:
        """Main stream plus ratio times compensation, [B, C], of features [B, D]; -inf for a class not seen."""
        features = scored_rows(features, like=means_like(state.layer, state.counts.shape[0]))
        ratio = jnp.asarray(self.ratio, features.dtype)

        def streams(rows: Array) -> Array:
            main = layer_scores(rows, state.layer, state.weights)
            more = jnp.matmul(_tanh_layer(rows, state.layer), state.compensation_weights, precision="highest")
            return main + ratio * more

        return known_classes_only(in_blocks(streams, features), state.counts)

    @property
    def _main(self) -> ACIL:
        return ACIL(self.ridge, buffer_size=self.buffer_size)


def _tanh_layer(rows: Array, layer: Array) -> Array:
    return jnp.tanh(jnp.matmul(rows, layer, precision="highest"))


def ds_al(
    *,
    ridge: Array | float = 0.1,
    compensation_ridge: Array | float = 0.1,
    ratio: Array | float = 0.6,
    buffer_size: int = 8192,
) -> DSAL:
    """Dual-stream analytic learning. The ridges and the ratio are leaves; checked where they are concrete.

    Args:
      ridge: of the main stream, equation (1), > 0.
      compensation_ridge: of the compensation stream, equation (2), > 0.
      ratio: weight of the compensation, >= 0: 0.6 for CIFAR-100 and 1.5 for ImageNet in the paper; 0 is ACIL.
      buffer_size: M, the width of the random layer: 8192 for CIFAR-100 and 16384 for ImageNet in the paper.

    Raises:
      InputError: a setting out of range.
    """
    check_positive("ridge", ridge)
    check_positive("compensation_ridge", compensation_ridge)
    check_positive("ratio", ratio, zero=True)
    check_size("buffer_size", buffer_size)
    return DSAL(ridge, compensation_ridge, ratio, buffer_size=buffer_size)
