"""Colour changes of float images: brightness, contrast, saturation, hue, grey.

Each moves the image away from, or towards, a poorer version of itself (black, its mean grey, its grey image):

    out = image + (factor - 1) (image - poorer)                                                              (1)

written so that a factor of 1 gives the very image, and cut to [-1, 1] as Pillow and torchvision cut theirs.
"""

import jax
import jax.numpy as jnp
from jax import Array

BLACK = -1.0  # in images in [-1, 1]


def jitter_brightness(keys: Array, images: Array, strength: Array | float) -> Array:
    """Images [B, H, W, 3] times one factor each, (1) with black; see `factors`."""
    return _away_from(jnp.float32(BLACK), images, factors(keys, strength))


def jitter_contrast(keys: Array, images: Array, strength: Array | float) -> Array:
    """Images [B, H, W, 3] stretched around the mean of their grey images, (1); see `factors`."""
    return _away_from(_grey(images).mean(axis=(1, 2), keepdims=True), images, factors(keys, strength))


def jitter_saturation(keys: Array, images: Array, strength: Array | float) -> Array:
    """Images [B, H, W, 3] moved away from their grey images, (1); see `factors`."""
    return _away_from(_grey(images), images, factors(keys, strength))


def jitter_hue(keys: Array, images: Array, strength: Array | float) -> Array:
    """Hues of images [B, H, W, 3] turned by a share of the circle uniform in [-strength, strength], <= 0.5."""
    return turn_hue(images, strength * jax.vmap(lambda key: jax.random.uniform(key, minval=-1.0))(keys))


def random_grey(keys: Array, images: Array, probability: Array | float) -> Array:
    """Images [B, H, W, 3], grey with the given probability."""
    chosen = jax.vmap(jax.random.uniform)(keys) < probability
    return jnp.where(chosen[:, None, None, None], _grey(images), images)


def factors(keys: Array, strength: Array | float) -> Array:
    """Factors [B] uniform in [max(0, 1 - strength), 1 + strength], torchvision's ranges."""
    low = jnp.maximum(0.0, 1.0 - strength)
    return low + (1.0 + strength - low) * jax.vmap(jax.random.uniform)(keys)


def turn_hue(images: Array, shares: Array) -> Array:
    """Images [B, H, W, 3] with hues turned by shares [B] of the circle; value and saturation stay."""
    high = images.max(axis=-1)
    chroma = high - images.min(axis=-1)
    red, green, blue = jnp.moveaxis(images, -1, 0)
    divisor = jnp.where(chroma > 0, chroma, 1.0)  # a grey pixel has no hue: any will do
    sixths = jnp.where(
        high == red,
        (green - blue) / divisor,
        jnp.where(high == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    places = (sixths + 6 * shares[:, None, None])[..., None] + jnp.array([5.0, 3.0, 1.0])[None, None, None, :]
    places = places - 6 * jnp.floor(places / 6)
    falls = jnp.minimum(places, 4 - places).clip(0, 1)
    return (high[..., None] - chroma[..., None] * falls).clip(-1, 1)


def _grey(images: Array) -> Array:
    """Luma of ITU-R BT.601 [B, H, W, 1]."""
    grey = 0.299 * images[..., :1] + 0.587 * images[..., 1:2] + 0.114 * images[..., 2:]
    return grey.clip(-1, 1)  # which rounding may leave


def _away_from(poorer: Array, images: Array, factors: Array) -> Array:
    return (images + (factors - 1)[:, None, None, None] * (images - poorer)).clip(-1, 1)
