"""Mahalanobis distances: covariances that can be inverted, their inverse factors, and distances to many prototypes.

Distances are computed for one class at a time, so that no array has shape [B, C, D].
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import solve_triangular

LEAF = 64  # rows of the blocks that LAPACK factors
BLOCK = 128  # columns of one product of distances; more blocks skip more of the zeros above the diagonal
INSIDE = 0.9  # fraction of the largest shrinkage, at which the matrix would be singular


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


def whitened_distances(features: Array, prototypes: Array, whitening: Array) -> Array:
    """|M_c (u - m_c)|^2, [B, C], of features u [B, D].

    Costs about C B D (D + 128) operations: half those of whole matrices where D is large.

    Args:
      features: [B, D].
      prototypes: m [C, D].
      whitening: M [C, D, D], lower triangular; what is above the diagonal is not read.
    """
    stops = [min(start + BLOCK, features.shape[1]) for start in range(0, features.shape[1], BLOCK)]
    # outside the loop, which would copy them for every class
    leading = [features[:, :stop] for stop in stops]

    def distance(item: tuple[Array, Array]) -> Array:
        prototype, factor = item
        centre = jnp.matmul(factor, prototype, precision="highest")
        total = jnp.zeros(features.shape[0], features.dtype)
        for start, stop, columns in zip(range(0, features.shape[1], BLOCK), stops, leading):
            image = jnp.matmul(columns, factor[start:stop, :stop].T, precision="highest")
            total += jnp.square(image - centre[None, start:stop]).sum(axis=1)
        return total

    return jax.lax.map(distance, (prototypes, whitening)).T


def weighted_distances(features: Array, prototypes: Array, weights: Array) -> Array:
    """|w_c (u - m_c)|^2, [B, C], of features u [B, D], prototypes m [C, D] and weights w [C, D], elementwise.

    Differences are squared as they are: the expanded square would lose digits.
    """

    def distance(item: tuple[Array, Array]) -> Array:
        prototype, weight = item
        return jnp.square((features - prototype[None, :]) * weight[None, :]).sum(axis=1)

    return jax.lax.map(distance, (prototypes, weights)).T


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
