"""Distances between two sets of points, from samples alone."""

import jax
import jax.numpy as jnp
from jax import Array


def energy_distance(x: Array, y: Array) -> Array:
    """2 E|x - y| - E|x - x'| - E|y - y'|, without bias; zero in the mean where the two distributions are equal.

    Differentiable in both. The value of a finite sample may be negative.

    Args:
      x: [N, D] independent draws, N > 1.
      y: [M, D] independent draws of the other distribution, M > 1.

    References:
      Székely and Rizzo, Energy statistics, 2013.
    """
    within = [_mean_distance(z, z) * len(z) / (len(z) - 1) for z in (x, y)]  # a point is no pair with itself
    return 2 * _mean_distance(x, y) - within[0] - within[1]


def balanced_energy_distance(x: Array, y: Array) -> Array:
    """2 E|x - y| - E|x - x'| - E|y - y'| for mixtures of P prompts in equal parts, without bias.

    A latent is no pair with itself, so a set lacks pairs of one prompt. Those that exist also count for the others:

        E|x - x'| = (P R)^-2 (sum over all pairs |x - x'| + sum over pairs of one prompt |x - x'| / (R - 1)).   (1)

    The estimator for independent draws takes the mean over all other pairs instead. With balanced prompts that is too
    large, the more so the more alike a prompt's latents are, and a fit would be rewarded for losing variety.

    Args:
      x: [R, P, D], R > 1 independent draws of each prompt.
      y: [S, P, D], S > 1 draws of the other distribution.

    References:
      Székely and Rizzo, Energy statistics, 2013, for the distance; (1) is (P R)^-2 times a sum whose expectation
      is taken prompt by prompt.
    """
    flat_x, flat_y = (z.reshape(-1, z.shape[-1]) for z in (x, y))
    pairs = ((flat_x, flat_y), (flat_x, flat_x), (flat_y, flat_y))
    across, within_x, within_y = (_mean_distance(a, b) for a, b in pairs)
    of_one_prompt = [jnp.mean(_distances(z[:, None], z[None])) / (z.shape[1] * (len(z) - 1)) for z in (x, y)]
    return 2 * across - within_x - within_y - of_one_prompt[0] - of_one_prompt[1]


def sliced_wasserstein(x: Array, y: Array, directions: Array) -> Array:
    """2-Wasserstein distances of one-dimensional projections, as a root mean square over directions.

        SW^2 = 1 / (R N) sum_r sum_i (sort(x e_r)_i - sort(y e_r)_i)^2

    Between finite samples of one distribution it is not 0: N^(-1/2) in the mean, and N^(-1/4) where projections
    fall into parts with gaps between them. Compare it with that floor.

    Args:
      x: [N, D] draws.
      y: [N, D] draws of the other distribution, equally many.
      directions: [R, D] of unit length.

    References:
      Bonneel, Rabin, Peyré and Pfister, Sliced and Radon Wasserstein barycenters of measures, 2015.
    """
    if x.shape != y.shape:
        raise ValueError(f"expected equally many points on both sides, got {x.shape} and {y.shape}.")
    # not in TF32, whose rounding error is as large as a narrow distribution's width
    lines = [jnp.sort(jnp.matmul(directions, z.T, precision=jax.lax.Precision.HIGHEST), -1) for z in (x, y)]
    return jnp.sqrt(jnp.mean((lines[0] - lines[1]) ** 2))


def unit_directions(key: Array, count: int, dim: int) -> Array:
    """Directions [count, dim], uniform on the sphere."""
    z = jax.random.normal(key, (count, dim))
    return z / jnp.linalg.norm(z, axis=-1, keepdims=True)


def _mean_distance(x: Array, y: Array) -> Array:
    return jnp.mean(jax.lax.map(lambda point: jnp.mean(_distances(point[None], y)), x, batch_size=64))


def _distances(x: Array, y: Array) -> Array:
    square = jnp.sum((x - y) ** 2, -1)
    same = square == 0  # double where: the slope of a square root at 0
    return jnp.where(same, 0.0, jnp.sqrt(jnp.where(same, 1.0, square)))
