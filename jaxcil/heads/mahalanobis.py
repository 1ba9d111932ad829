"""Squared distances of many rows to one prototype a class, a class at a time: no [B, C, D] array."""

import jax
import jax.numpy as jnp
from jax import Array

BLOCK = 128  # columns of one product; more blocks skip more of the zeros above the diagonal


def whitened_distances(features: Array, prototypes: Array, whitening: Array) -> Array:
    """|M_c (u - m_c)|^2, [B, C], of features u [B, D].

    Costs about C B D (D + 128) operations: half those of whole matrices where D is large.

    Args:
      features: [B, D].
      prototypes: m [C, D].
      whitening: M [C, D, D], lower triangular; what stands above the diagonal is not read.
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
