"""Gaussian blur whose width may differ from image to image."""

import jax
import jax.numpy as jnp
from jax import Array


def random_blur(keys: Array, images: Array, largest: Array | float) -> Array:
    """A blur of standard deviation uniform in [0, largest] pixels.

    Args:
      keys: [B], one an image.
      images: [B, H, W, 3] in [-1, 1].
      largest: in pixels, >= 0 and well below H and W.
    """
    return gaussian_blur(images, largest * jax.vmap(jax.random.uniform)(keys))


def gaussian_blur(images: Array, deviations: Array) -> Array:
    """Images [B, H, W, 3] in [-1, 1] blurred by standard deviations [B] in pixels, 0 for none.

    The border pixels mirror the image. The kernel is the Gaussian at whole pixels, not cut off, as a matrix over
    rows and one over columns: its size does not depend on the deviation, which may be traced.
    """
    rows, columns = (_weights(deviations, size) for size in images.shape[1:3])
    images = jnp.einsum("bij,bjkc->bikc", rows, images, precision="highest")
    images = jnp.einsum("blk,bikc->bilc", columns, images, precision="highest")
    return images.clip(-1, 1)  # which rounding may leave


def _weights(deviations: Array, size: int) -> Array:
    """[B, size, size], rows sum to 1."""
    places = jnp.arange(size, dtype=jnp.float32)
    # at 1e-3 pixels the weights of the neighbours are 0 in float32
    precisions = 0.5 / jnp.square(jnp.maximum(deviations, 1e-3))[:, None, None]

    def weights(sources: Array) -> Array:
        return jnp.exp(-precisions * jnp.square(places[:, None] - sources[None, :])[None])

    before = jnp.where(
        (places > 0)[None, None, :], weights(-places), 0
    )  # a border pixel is its own mirror image
    behind = jnp.where((places < size - 1)[None, None, :], weights(2 * (size - 1) - places), 0)
    total = weights(places) + before + behind
    return total / total.sum(axis=2, keepdims=True)
