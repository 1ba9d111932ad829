"""Vectors scaled to length one, with finite gradients everywhere."""

import jax.numpy as jnp
from jax import Array


def unit_rows(x: Array) -> Array:
    """Rows of x [..., D] scaled to length one; a row of zeros stays zero."""
    return x / lengths(x)


def lengths(x: Array) -> Array:
    """Length of the rows of x [..., D], as [..., 1]; 1 of a row of zeros."""
    square = jnp.square(x).sum(axis=-1, keepdims=True)
    # Double where: the gradient of the root is finite at a row of zeros
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 1)
