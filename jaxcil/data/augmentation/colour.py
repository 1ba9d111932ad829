"""Changes of the pixels of float images: brightness, contrast, saturation, hue, grey, blur.

Each of the first three moves the image away from, or towards, a poorer version of itself (black, its mean grey, its
grey image):

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


def random_blur(keys: Array, images: Array, largest: Array | float) -> Array:
    """A blur of standard deviation uniform in [0, largest] pixels.

    Args:
      keys: [B], one per image.
      images: [B, H, W, 3] in [-1, 1].
      largest: in pixels, >= 0 and well below H and W.
    """
    return gaussian_blur(images, largest * jax.vmap(jax.random.uniform)(keys))


def gaussian_blur(images: Array, deviations: Array) -> Array:
    """Images [B, H, W, 3] in [-1, 1] blurred by standard deviations [B] in pixels, 0 for none.

    The border pixels mirror the image. The kernel is the Gaussian at whole pixels, not cut off, as a matrix over
    rows and one over columns: its size does not depend on the deviation, which may be traced.
    """
    rows, columns = (_blur_weights(deviations, size) for size in images.shape[1:3])
    images = jnp.einsum("bij,bjkc->bikc", rows, images, precision="highest")
    images = jnp.einsum("blk,bikc->bilc", columns, images, precision="highest")
    return images.clip(-1, 1)  # which rounding may leave


def _grey(images: Array) -> Array:
    """Luma of ITU-R BT.601 [B, H, W, 1]."""
    grey = 0.299 * images[..., :1] + 0.587 * images[..., 1:2] + 0.114 * images[..., 2:]
    return grey.clip(-1, 1)  # which rounding may leave


def _away_from(poorer: Array, images: Array, factors: Array) -> Array:
    return (images + (factors - 1)[:, None, None, None] * (images - poorer)).clip(-1, 1)


def _blur_weights(deviations: Array, size: int) -> Array:
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
