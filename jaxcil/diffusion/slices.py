"""A network over a batch, a slice at a time: a batch of large images may not fit into memory at once."""

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh

from jaxcil.errors import InputError
from jaxcil.parallel import mesh

# Per slice and device: 8 images of 512 x 512. The autoencoder holds several maps of 256 channels of that size, each
# 0.13 GB per image in bfloat16.
PIXELS = 8 * 512 * 512


def in_slices(
    function: Callable[[Array], Any], x: Array, *, on: Mesh | None, pixels: int, most: int | None = None
) -> Any:
    """function(x), its batch cut into slices that are computed one after the other.

    Slice i of n takes samples i, i + n, i + 2 n, ...: if x is spread over devices along B, each slices its own samples
    and nothing is communicated.

    Args:
      function: [S, ...] to a pytree of [S, ...], sample by sample.
      x: [B, ...].
      on: the mesh over whose devices B is spread; None: one device.
      pixels: of one image.
      most: samples per slice on one device, static; None: those that have `PIXELS`, at least one. Slices are equal, so
        they are smaller if this does not divide B.

    Raises:
      InputError: most is below 1, or not a whole number.
    """
    most = max(1, PIXELS // pixels) if most is None else _checked(most)
    batch, devices = x.shape[0], 1 if on is None else mesh.data_devices(on)
    own = batch // devices if batch % devices == 0 else batch
    count = next(n for n in range(1, own + 1) if own % n == 0 and own // n <= most)
    if count == 1:
        return function(x)
    slices = jnp.moveaxis(x.reshape(batch // count, count, *x.shape[1:]), 1, 0)
    results = jax.lax.map(function, slices)
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1).reshape(batch, *leaf.shape[2:]), results)


def _checked(most: int) -> int:
    try:
        number = operator.index(most)
    except TypeError:  # a traced number too
        number = 0
    if number < 1:
        raise InputError(
            f"a slice must have at least 1 image, a whole number that is static under jit, got {most}."
        )
    return number
