"""Distances between two sets of points, from samples alone."""

import jax
import jax.numpy as jnp
from jax import Array


def energy_distance(x: Array, y: Array) -> Array:
    """2 E|x - y| - E|x - x'| - E|y - y'|, without bias; zero in the mean where the two distributions agree.

    Differentiable in both. The value of a finite sample may be negative.

    Args:
      x: [N, D] independent draws, N > 1.
      y: [M, D] independent draws of the other distribution, M > 1.

    References:
      Székely and Rizzo, Energy statistics, 2013.
    """
    within = [_mean_distance(z, z) * len(z) / (len(z) - 1) for z in (x, y)]  # a point is no pair with itself
    return 2 * _mean_distance(x, y) - within[0] - within[1]


def _mean_distance(x: Array, y: Array) -> Array:
    def to_all(point: Array) -> Array:
        square = jnp.sum((point - y) ** 2, -1)
        same = square == 0  # double where: the slope of a square root at 0
        return jnp.mean(jnp.where(same, 0.0, jnp.sqrt(jnp.where(same, 1.0, square))))

    return jnp.mean(jax.lax.map(to_all, x, batch_size=64))
