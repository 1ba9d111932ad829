"""Ridge regression from sums: X^T X and X^T Y hold all that tasks leave behind.

    W = (X^T X + ridge I)^-1 X^T Y                                                  (1)

The recursive form of analytic learning (ACIL, arXiv:2205.14922) carries the inverse itself from batch to batch,
and with it every rounding error. The sums are equal to it exactly, in any order of the batches, and float32 is
enough for them.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import cho_factor, cho_solve

BLOCK = 4096  # rows whose expansion [4096, M] is in memory at a time


def gram_sums(expand: Callable[[Array], Array], features: Array, targets: Array) -> tuple[Array, Array]:
    """X^T X [M, M] and X^T Y [M, C] for X = expand(features) [B, M], in blocks of rows.

    Args:
      expand: rows [b, D] -> [b, M]; a row of zeros stays zero, so that padding adds nothing.
      features: [B, D]; padding rows are zero.
      targets: Y [B, C].
    """

    def sums(block: tuple[Array, Array]) -> tuple[Array, Array]:
        rows, wanted = block
        rows = expand(rows)
        return tuple(jnp.matmul(rows.T, side, precision="highest") for side in (rows, wanted))  # type: ignore

    if features.shape[0] <= BLOCK:
        return sums((features, targets))
    missing = -features.shape[0] % BLOCK
    blocks = jax.tree.map(
        lambda x: jnp.pad(x, ((0, missing), (0, 0))).reshape(-1, BLOCK, x.shape[1]), (features, targets)
    )
    first = sums(jax.tree.map(lambda x: x[0], blocks))
    return jax.lax.scan(
        lambda total, block: (jax.tree.map(jnp.add, total, sums(block)), None),
        first,
        jax.tree.map(lambda x: x[1:], blocks),
    )[0]


def ridge_weights(gram: Array, cross: Array, ridge: Array) -> Array:
    """W [M, C] of equation (1) by a Cholesky factor and one step of refinement.

    The factor is that of a matrix with `rounding` more on its diagonal, which float32 needs where X^T X is singular
    and ridge tiny; the refinement takes the bias of it away again.

    Args:
      gram: X^T X [M, M].
      cross: X^T Y [M, C].
      ridge: > 0, a scalar of their dtype.
    """
    eye = jnp.eye(gram.shape[0], dtype=gram.dtype)
    factor = cho_factor(gram + (ridge + rounding(gram)) * eye, lower=True)
    weights = cho_solve(factor, cross)
    missing = cross - jnp.matmul(gram, weights, precision="highest") - ridge * weights
    return weights + cho_solve(factor, missing)


def rounding(gram: Array) -> Array:
    """A bound on the rounding of the diagonal of a sum X^T X: 16 eps times its mean."""
    return 16 * jnp.finfo(gram.dtype).eps * jnp.diagonal(gram).mean()
