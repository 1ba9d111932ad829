"""RanPAC: random projection and a ridge regression whose ridge each task chooses (McDonnell et al., NeurIPS 2023).

arXiv:2307.02251. With P [D, M] of independent normal entries, drawn once,

    X = relu(F P),   W = (sum_t X_t^T X_t + ridge_t I)^-1 sum_t X_t^T Y_t                       (1)

ridge_t is the one of 10^-8, 10^-7, ..., 10^8 for which a regression on the first 80 percent of the rows of task t
alone has the smallest mean squared error on its last 20 percent; W is then solved from the sums of all tasks. As
in the authors' code the earlier tasks have no say in ridge_t. Their code solves for each of the 17 ridges; one
eigendecomposition X^T X = V diag(s) V^T serves all: (X^T X + ridge I)^-1 = V diag(1 / (s + ridge)) V^T.

The paper also adapts a pre-trained network on the first task. That is training an extractor, and no part of a head.
"""

from collections.abc import Callable
from typing import ClassVar, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

from jaxcil.errors import InputError
from jaxcil.heads.acil import layer_scores, means_like, relu_layer
from jaxcil.heads.class_statistics import (
    check_size,
    class_counts,
    known_classes_only,
    one_hot,
    scored_rows,
    task_rows,
)
from jaxcil.heads.ridge import gram_sums, in_blocks, ridge_weights, rounding

EXPONENTS = tuple(range(-8, 9))


class RanPACState(NamedTuple):
    """The random projection, the sums of all tasks and the weights that follow from them."""

    projection: Array  # P [D, M], drawn once
    gram: Array  # [M, M] sum of X^T X
    cross: Array  # [M, C] sum of X^T Y
    weights: Array  # [M, C]
    ridge: Array  # [] that of the latest task
    counts: Array  # [C] int32; 0 marks a class not seen yet


@flax.struct.dataclass
class RanPAC:
    """RanPAC's head; made by `ranpac`."""

    projection_size: int = flax.struct.field(pytree_node=False, default=10_000)
    scores_are_logits: ClassVar[bool] = False

    def init(self, num_classes: int, feature_dim: int, key: Array | None = None) -> RanPACState:
        """No class seen; the key draws the projection. Memory: projection_size^2."""
        if key is None:
            raise InputError("RanPAC has a random projection: give `init` a key.")
        cross = jnp.zeros((self.projection_size, num_classes))
        return RanPACState(
            projection=jax.random.normal(key, (feature_dim, self.projection_size)),
            gram=jnp.zeros((self.projection_size, self.projection_size)),
            cross=cross,
            weights=cross,
            ridge=jnp.ones(()),
            counts=jnp.zeros(num_classes, jnp.int32),
        )

    def update(
        self, state: RanPACState, features: Array, labels: Array, key: Array | None = None
    ) -> RanPACState:
        """Adds a task's features [B, D], labels [B] int32 (-1: padding); a class may come again.

        The order of the rows matters: the ridge is chosen on the last fifth of those that are not padding. Give
        them in random order; sorted by class, the ridge would be judged on classes that the fit has not seen.
        """
        num_classes = state.counts.shape[0]
        features = task_rows(features, labels, like=means_like(state.projection, num_classes))
        targets = one_hot(labels, num_classes, features.dtype)
        real = labels >= 0
        place = jnp.cumsum(real, dtype=jnp.int32) - 1
        fitted = (real & (place < 4 * real.sum(dtype=jnp.int32) // 5))[:, None]

        def projected(rows: Array, targets: Array) -> tuple[Array, Array]:
            return relu_layer(rows, state.projection), targets

        fit = gram_sums(projected, jnp.where(fitted, features, 0), jnp.where(fitted, targets, 0))
        # ceil(n / 5) of n rows are held out
        rows = jnp.nonzero(real & ~fitted[:, 0], size=-(-labels.shape[0] // 5), fill_value=labels.shape[0])[0]
        unseen, unseen_targets = (x.at[rows].get(mode="fill", fill_value=0) for x in (features, targets))
        ridge = choose_ridge(*fit, problem=projected, held_out=(unseen, unseen_targets))
        rest = gram_sums(projected, unseen, unseen_targets)
        gram, cross = state.gram + fit[0] + rest[0], state.cross + fit[1] + rest[1]
        learned = RanPACState(
            projection=state.projection,
            gram=gram,
            cross=cross,
            weights=ridge_weights(gram, cross, ridge),
            ridge=ridge,
            counts=state.counts + class_counts(labels, num_classes),
        )
        return jax.tree.map(lambda new, old: jnp.where(real.any(), new, old), learned, state)

    def scores(self, state: RanPACState, features: Array) -> Array:
        """Regression X W, [B, C], of features [B, D]; -inf for a class not seen."""
        features = scored_rows(features, like=means_like(state.projection, state.counts.shape[0]))
        scores = in_blocks(lambda rows: layer_scores(rows, state.projection, state.weights), features)
        return known_classes_only(scores, state.counts)


def choose_ridge(
    gram: Array,
    cross: Array,
    *,
    problem: Callable[[Array, Array], tuple[Array, Array]],
    held_out: tuple[Array, Array],
) -> Array:
    """The ridge of 10^-8 .. 10^8 with the smallest squared error on held-out rows, the smallest one of equals.

    Judged are the weights that `ridge_weights` gives, its `rounding` r and its refinement included: in the
    eigenbasis, with shifted = s + r + ridge, V^T W is (1 + r / shifted) V^T X^T Y / shifted.

    Args:
      gram: X^T X [M, M] of the rows that are fitted.
      cross: X^T Y [M, C] of them.
      problem: what is regressed and on what, X and Y of rows and targets, as `gram_sums` takes it.
      held_out: rows [b, D] and targets [b, C].
    """
    values, vectors = jnp.linalg.eigh(gram)
    values, extra = jnp.maximum(values, 0), rounding(gram)
    cross = jnp.matmul(vectors.T, cross, precision="highest")
    ridges = jnp.asarray([10.0**exponent for exponent in EXPONENTS], gram.dtype)

    def errors(rows: Array, targets: Array) -> Array:
        expanded, expected = problem(rows, targets)
        rotated = jnp.matmul(expanded, vectors, precision="highest")

        def of_ridge(ridge: Array) -> Array:
            shifted = values + extra + ridge
            predicted = jnp.matmul(
                rotated, cross * ((1 + extra / shifted) / shifted)[:, None], precision="highest"
            )
            return jnp.square(predicted - expected).sum(axis=1)

        return jax.lax.map(of_ridge, ridges).T

    return ridges[jnp.argmin(in_blocks(errors, *held_out).sum(axis=0))]


def ranpac(*, projection_size: int = 10_000) -> RanPAC:
    """RanPAC's head.

    Args:
      projection_size: M, the width of the random projection; 10000 in the paper.

    Raises:
      InputError: projection_size not positive.
    """
    check_size("projection_size", projection_size)
    return RanPAC(projection_size=projection_size)
