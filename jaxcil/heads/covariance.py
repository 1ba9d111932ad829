"""Covariances that can be inverted: shrinkage, correlation, and the inverse of a Cholesky factor."""

import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import solve_triangular

LEAF = 64  # rows of the blocks that LAPACK factors
INSIDE = 0.9  # share of the way to where a shrinkage would be singular


def shrink(covariance: Array, gamma1: Array, gamma2: Array) -> Array:
    """S + gamma1 V1 I + gamma2 V2 (1 - I) of a covariance S [D, D] (FeCAM, arXiv:2309.14062, equation 8).

    V1 is the mean of the diagonal of S and V2 the mean of its off-diagonal entries that are not 0. gamma2 V2 is
    clipped to 0.9 [-gamma1 V1 / (D - 1), gamma1 V1]: at these bounds the added matrix is singular and beyond them
    indefinite, and S adds nothing where features are dead; within, its eigenvalues are at least gamma1 V1 / 10.
    """
    dim = covariance.shape[0]
    eye = jnp.eye(dim, dtype=bool)
    off_diagonal = jnp.where(eye, 0, covariance)
    entries = jnp.maximum(jnp.count_nonzero(off_diagonal), 1).astype(covariance.dtype)
    on = gamma1 * jnp.diagonal(covariance).mean()
    bound = INSIDE * on
    off = jnp.clip(gamma2 * off_diagonal.sum() / entries, -bound / max(dim - 1, 1), bound)
    return covariance + jnp.where(eye, on, off)


def correlation(covariance: Array) -> Array:
    """S_ij / sqrt(S_ii S_jj), [D, D]; a diagonal entry of 0, of a feature that never fired, counts as 1."""
    diagonal = jnp.diagonal(covariance)
    deviation = jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1))
    eye = jnp.eye(covariance.shape[0], dtype=bool)
    return jnp.where(eye, 1, covariance / (deviation[:, None] * deviation[None, :]))


def inverse_factor(covariance: Array) -> Array:
    """M [D, D], lower triangular, with S^-1 = M^T M: the inverse of the Cholesky factor of S.

    A jitter of the size of S's own rounding, D eps times its mean variance, gives a singular S a factor.
    """
    dtype, dim = covariance.dtype, covariance.shape[0]
    scale = jnp.diagonal(covariance).mean()
    jitter = dim * jnp.finfo(dtype).eps * jnp.where(scale > 0, scale, 1)
    return _inverse_factor(covariance + jitter * jnp.eye(dim, dtype=dtype))


def _inverse_factor(matrix: Array) -> Array:
    """By halves, so that most of the work is products: LAPACK's threads and XLA's get in each other's way.

    L = [[A, 0], [B, C]] has B = S21 A^-T and C C^T = S22 - B B^T; L^-1 = [[A^-1, 0], [-C^-1 B A^-1, C^-1]].
    """
    dim = matrix.shape[0]
    if dim <= LEAF:
        return solve_triangular(jnp.linalg.cholesky(matrix), jnp.eye(dim, dtype=matrix.dtype), lower=True)
    half = dim // 2
    upper = _inverse_factor(matrix[:half, :half])
    below = jnp.matmul(matrix[half:, :half], upper.T, precision="highest")
    rest = matrix[half:, half:] - jnp.matmul(below, below.T, precision="highest")
    lower = _inverse_factor(rest)
    corner = -jnp.matmul(lower, jnp.matmul(below, upper, precision="highest"), precision="highest")
    return jnp.block([[upper, jnp.zeros((half, dim - half), matrix.dtype)], [corner, lower]])
