"""What a crop lets through: padded crops, random resized crops, flips and Cutout, each image with its own draw."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from jaxcil.data.augmentation.colour import BLACK

Border = Literal["black", "edge"]
PADDING = {"black": "constant", "edge": "edge"}  # the names of jnp.pad
ATTEMPTS = 10


def padded_crop(keys: Array, images: Array, pixels: int, border: Border) -> Array:
    """A window of the image's own size, anywhere in the image padded by `pixels` (He et al., arXiv:1512.03385, 4.2).

    Args:
      keys: [B], one per image.
      images: [B, H, W, 3] in [-1, 1].
      pixels: on every side.
      border: what comes in: "black", or the border's pixels ("edge").
    """
    offsets = jax.vmap(lambda key: jax.random.randint(key, (2,), 0, 2 * pixels + 1))(keys)
    return windows(pad(images, pixels, border), offsets, images.shape)


def pad(images: Array, pixels: int, border: Border) -> Array:
    """[B, H + 2 pixels, W + 2 pixels, 3]."""
    value = {"constant_values": BLACK} if border == "black" else {}
    return jnp.pad(
        images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), mode=PADDING[border], **value
    )


def windows(padded: Array, offsets: Array, shape: tuple[int, ...]) -> Array:
    """Windows of `shape` [B, H, W, 3], whose first pixels lie at the offsets [B, 2]."""

    def window(image: Array, offset: Array) -> Array:
        return jax.lax.dynamic_slice(image, (offset[0], offset[1], 0), shape[1:])

    return jax.vmap(window)(padded, offsets)


def flip(keys: Array, images: Array) -> Array:
    """Left and right exchanged, with probability 1/2."""
    flipped = jax.vmap(jax.random.bernoulli)(keys)
    return jnp.where(flipped[:, None, None, None], images[:, :, ::-1], images)


def cutout(keys: Array, images: Array, side: int) -> Array:
    """A black square around a random pixel (DeVries and Taylor, arXiv:1708.04552).

    The square may lie partly outside, as the paper has it. It is black as in FOSTER and PyCIL, which cut before they
    subtract the mean; the paper cuts after, which leaves the mean colour.

    Args:
      keys: [B], one per image.
      images: [B, H, W, 3] in [-1, 1].
      side: of the square, in pixels.
    """
    _, height, width, _ = images.shape
    centres = jax.vmap(lambda key: jax.random.randint(key, (2,), 0, jnp.array([height, width])))(keys)

    def covered(size: int, centre: Array) -> Array:
        place = jnp.arange(size)[None, :] - centre[:, None] + side // 2
        return (place >= 0) & (place < side)

    rows, columns = covered(height, centres[:, 0]), covered(width, centres[:, 1])
    return jnp.where((rows[:, :, None] & columns[:, None, :])[..., None], BLACK, images)


def resized_crop(keys: Array, images: Array) -> Array:
    """A rectangle of the image, brought back to the image's size (Szegedy et al., arXiv:1409.4842, section 6).

    Args:
      keys: [B], one per image.
      images: [B, H, W, 3].

    Returns:
      [B, H, W, 3], bilinear within the rectangle, which only ever grows: nothing is averaged away.
    """
    _, height, width, _ = images.shape
    boxes = rectangles(keys, height, width).astype(jnp.float32)
    rows = _bilinear_weights(boxes[:, 0], boxes[:, 2], height)
    columns = _bilinear_weights(boxes[:, 1], boxes[:, 3], width)
    # products of an image with two matrices: no gather, which a TPU is slow at
    images = jnp.einsum("bij,bjkc->bikc", rows, images, precision="highest")
    images = jnp.einsum("blk,bikc->bilc", columns, images, precision="highest")
    return images.clip(-1, 1)  # which rounding may leave


def rectangles(keys: Array, height: int, width: int) -> Array:
    """Top, left, height and width of random rectangles, int32 [B, 4].

    The area is uniform in [0.08, 1] of the image's, the logarithm of width over height in that of [3/4, 4/3]. The
    first of ten that lies within the image counts; where none does, the largest rectangle in the middle whose
    ratio is allowed, as torchvision does it.
    """
    low, high = 3 / 4, 4 / 3
    middle = min(height, round(width / low)), min(width, round(height * high))

    def draw_one(key: Array) -> Array:
        area_key, ratio_key, place_key = jax.random.split(key, 3)
        areas = height * width * jax.random.uniform(area_key, (ATTEMPTS,), minval=0.08, maxval=1.0)
        ratios = jnp.exp(
            jax.random.uniform(ratio_key, (ATTEMPTS,), minval=math.log(low), maxval=math.log(high))
        )
        sizes = jnp.round(jnp.stack([jnp.sqrt(areas / ratios), jnp.sqrt(areas * ratios)], 1)).astype(
            jnp.int32
        )
        fits = (sizes > 0).all(axis=1) & (sizes[:, 0] <= height) & (sizes[:, 1] <= width)
        any_fits = fits.any()
        size = jnp.where(any_fits, sizes[jnp.argmax(fits)], jnp.array(middle))
        free = jnp.array([height, width]) - size
        corner = jnp.where(any_fits, jax.random.randint(place_key, (2,), 0, free + 1), free // 2)
        return jnp.concatenate([corner, size])

    return jax.vmap(draw_one)(keys)


def _bilinear_weights(starts: Array, lengths: Array, size: int) -> Array:
    """Weights [B, size, size] of the pixels of [start, start + length) in each of `size` new ones."""
    places = (jnp.arange(size)[None, :] + 0.5) * (lengths / size)[:, None] - 0.5
    places = starts[:, None] + places.clip(0, lengths[:, None] - 1)
    return jnp.maximum(0, 1 - jnp.abs(places[..., None] - jnp.arange(size)[None, None, :]))
