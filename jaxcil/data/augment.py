"""Images on their way into a network: number format and random changes, inside jit."""

import jax
import jax.numpy as jnp
from jax import Array


def to_float(images: Array) -> Array:
    """uint8 [..., H, W, 3] to float32 in [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1.0


def random_shift(key: Array, images: Array, pixels: int) -> Array:
    """Shifts every image by up to `pixels` in both directions; what comes in repeats the border.

    The crop of a padded image of He et al. (2016), with the border repeated in place of zeros, which would
    be grey here.

    Args:
      key: one key; image b uses its own part of it.
      images: [B, H, W, 3].
      pixels: 0 gives the images back.
    """
    if pixels == 0:
        return images
    padded = jnp.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), mode="edge")
    offsets = jax.random.randint(key, (len(images), 2), 0, 2 * pixels + 1)

    def crop(image: Array, offset: Array) -> Array:
        return jax.lax.dynamic_slice(image, (offset[0], offset[1], 0), images.shape[1:])

    return jax.vmap(crop)(padded, offsets)
