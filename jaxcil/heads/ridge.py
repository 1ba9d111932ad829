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

BLOCK = 4096  # rows whose expansion [4096, M] is in memory at a time, at most


def gram_sums(
    problem: Callable[[Array, Array], tuple[Array, Array]], features: Array, targets: Array
) -> tuple[Array, Array]:
    """X^T X [M, M] and X^T Y [M, C] for X, Y = problem(features, targets), in blocks of rows.

    Args:
      problem: of rows [b, D] and their targets [b, C] what is regressed, X [b, M], and on what, Y [b, C]; rows of
        zeros stay zero in X, so that padding adds nothing.
      features: [B, D]; padding rows are zero.
      targets: [B, C].
    """

    def sums(block: tuple[Array, Array]) -> tuple[Array, Array]:
        rows, targets = problem(*block)
        return tuple(jnp.matmul(rows.T, side, precision="highest") for side in (rows, targets))  # type: ignore

    if features.shape[0] <= BLOCK:
        return sums((features, targets))
    blocks = _blocks(features), _blocks(targets)
    first = sums(jax.tree.map(lambda x: x[0], blocks))
    return jax.lax.scan(
        lambda total, block: (jax.tree.map(jnp.add, total, sums(block)), None),
        first,
        jax.tree.map(lambda x: x[1:], blocks),
    )[0]


def in_blocks(function: Callable[..., Array], *rows: Array) -> Array:
    """function(*rows) [B, C] of arrays with B rows that it takes one by one, in blocks of rows."""
    if rows[0].shape[0] <= BLOCK:
        return function(*rows)
    outputs = jax.lax.map(lambda block: function(*block), tuple(map(_blocks, rows)))
    return outputs.reshape(-1, outputs.shape[-1])[: rows[0].shape[0]]


def ridge_weights(gram: Array, cross: Array, ridge: Array) -> Array:
    """W [M, C] of equation (1) by a Cholesky factor and one step of refinement.

    The factor is that of a matrix with `rounding` more on its diagonal, which float32 needs where X^T X is singular,
    as it is with fewer rows than columns, and ridge is small compared with it; the refinement removes most of the
    bias.

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
    """What keeps a singular sum X^T X [M, M] positive definite in rounding: M eps times the mean of its diagonal.

    That is eps times the trace, which no eigenvalue exceeds, and M times the rounding of one entry, as the error of a
    Cholesky factor grows (Higham, Accuracy and Stability of Numerical Algorithms, theorem 10.3).
    """
    size = max(gram.shape[0], 16)  # of a few columns the sums over many rows round more than the factor
    return size * jnp.finfo(gram.dtype).eps * jnp.diagonal(gram).mean()


def _blocks(rows: Array) -> Array:
    """[B, K] as [blocks, b, K] with equal b <= BLOCK, so that few rows of zeros come at the end."""
    blocks = -(-rows.shape[0] // BLOCK)
    return jnp.pad(rows, ((0, -rows.shape[0] % blocks), (0, 0))).reshape(blocks, -1, rows.shape[1])
