"""The operations that augmentation policies choose from, on images of grey levels, each image with its own.

They are Pillow's, whose rounding the policies were searched with (Cubuk et al., arXiv:1805.09501, table 6). A switch
over them under `vmap` would compute all fifteen for every image. They fall into three families instead, and
each image passes through one member of each, two of them the identity:

    affine   out(x, y) = in(a x + b y + c, d x + e y + f)             one gather, at pixel centres           (1)
    point    out_k = table_k[in_k], one table per channel           one gather                             (2)
    blend    out = base + factor (in - base), base grey or smooth     one product                            (3)
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

AFFINE = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
BLENDS = ("brightness", "contrast", "color", "sharpness")
POINTS = ("invert", "solarize", "posterize", "brightness", "contrast", "auto_contrast", "equalize")
UNSIGNED = ("identity", "invert", "solarize", "posterize", "auto_contrast", "equalize")
OPERATIONS = (*UNSIGNED, *AFFINE, *BLENDS)

Interpolation = Literal["nearest", "bilinear"]


def number(name: str) -> int:
    """The number by which `apply` knows an operation."""
    return OPERATIONS.index(name)


def signed(operations: Array, magnitudes: Array, positive: Array) -> Array:
    """What `apply` takes, of magnitudes as the policies' papers list them.

    Affine magnitudes get the sign; those of blends become factors 1 + magnitude or 1 - magnitude; all
    others stay as they are.

    Args:
      operations: [...] int32.
      magnitudes: [...] >= 0.
      positive: [...] bool.
    """
    turned = jnp.where(positive, magnitudes, -magnitudes)
    first_affine, first_blend = number(AFFINE[0]), number(BLENDS[0])
    turned = jnp.where(operations >= first_blend, 1 + turned, turned)
    return jnp.where(operations >= first_affine, turned, magnitudes)


def apply_in_turn(
    levels: Array, operations: Array, magnitudes: Array, fill: int, interpolation: Interpolation
) -> Array:
    """`apply`, R times: operations and magnitudes [R, B] of images [B, H, W, 3]."""

    def turn(levels: Array, chosen: tuple[Array, Array]) -> tuple[Array, None]:
        return apply(levels, *chosen, fill, interpolation), None

    return jax.lax.scan(turn, levels, (operations, magnitudes))[0]


def apply(
    levels: Array, operations: Array, magnitudes: Array, fill: int, interpolation: Interpolation
) -> Array:
    """One operation per image.

    Args:
      levels: uint8 [B, H, W, 3].
      operations: [B] int32, as `number` gives them.
      magnitudes: [B]; the coefficient b or d of (1) for shears, pixels for translations (the image moves left or up),
        degrees anticlockwise for rotations, the threshold for solarize, bits kept for posterize, the factor of (3)
        for brightness, contrast, color and sharpness. The others take none.
      fill: the level of what comes in from outside.
      interpolation: "nearest" or "bilinear", of the affine operations.

    Returns:
      uint8 [B, H, W, 3], level for level what Pillow makes, but for its rounding in auto_contrast, blends and bilinear
      sampling, which may differ by one.
    """
    affine = {"nearest": _affine_nearest, "bilinear": _affine_bilinear}[interpolation]
    batch, height, width, channels = levels.shape
    # A family that no image drew is left out. Without the branches XLA would also fuse the families, and compute
    # a table anew for every pixel that reads it
    levels = jax.lax.cond(
        _drawn(operations, AFFINE).any(),
        lambda: affine(levels, _matrices(operations, magnitudes, height, width), fill),
        lambda: levels,
    )
    tables = jax.lax.cond(
        _drawn(operations, POINTS).any(),
        lambda: _tables(levels, operations, magnitudes),
        lambda: jnp.broadcast_to(jnp.arange(256, dtype=jnp.uint8), (batch, channels, 256)),
    )
    levels = _look_up(levels, tables)
    return jax.lax.cond(
        _drawn(operations, ("color", "sharpness")).any(),
        lambda: _from_grey_or_smooth(levels, operations, magnitudes),
        lambda: levels,
    )


def _drawn(operations: Array, names: tuple[str, ...]) -> Array:
    """Whether each image's operation is one of these, [B]."""
    return jnp.isin(operations, np.array([number(name) for name in names]))


def _matrices(operations: Array, magnitudes: Array, height: int, width: int) -> Array:
    """The coefficients a to f of (1), [B, 6] float32."""
    is_shear_x, is_shear_y, is_x, is_y, is_rotate = (operations == number(name) for name in AFFINE)
    angle = jnp.where(is_rotate, -jnp.deg2rad(magnitudes), 0.0)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    x, y = width / 2, height / 2  # a rotation leaves the centre where it is
    return jnp.stack(
        [
            cos,
            jnp.where(is_shear_x, magnitudes, sin),
            jnp.where(is_x, magnitudes, x - cos * x - sin * y),
            jnp.where(is_shear_y, magnitudes, -sin),
            cos,
            jnp.where(is_y, magnitudes, y + sin * x - cos * y),
        ],
        axis=1,
    )


def _affine_nearest(levels: Array, matrices: Array, fill: int) -> Array:
    """(1) by the nearest pixel."""
    batch, height, width, _ = levels.shape
    a, b, c, d, e, f = matrices.T
    # Pillow counts in 65536ths of a pixel: where a point falls between two pixels, only this finds the same one
    a, b, c, d, e, f = (
        jnp.floor(value * 65536 + 0.5).astype(jnp.int32)[:, None, None]
        for value in (a, b, c + 0.5 * (a + b), d, e, f + 0.5 * (d + e))
    )
    x, y = jnp.arange(width)[None, None, :], jnp.arange(height)[None, :, None]
    column, row = (c + a * x + b * y) >> 16, (f + d * x + e * y) >> 16
    shifted = levels[jnp.arange(batch)[:, None, None], row.clip(0, height - 1), column.clip(0, width - 1)]
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return jnp.where(inside[..., None], shifted, jnp.uint8(fill))


def _affine_bilinear(levels: Array, matrices: Array, fill: int) -> Array:
    """(1) between the four nearest pixels; those past the border repeat it."""
    batch, height, width, _ = levels.shape
    a, b, c, d, e, f = (value[:, None, None] for value in matrices.T)
    x, y = jnp.arange(width)[None, None, :] + 0.5, jnp.arange(height)[None, :, None] + 0.5
    column, row = a * x + b * y + c, d * x + e * y + f
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    left, top = jnp.floor(column - 0.5), jnp.floor(row - 0.5)
    right_share, low_share = (column - 0.5 - left)[..., None], (row - 0.5 - top)[..., None]
    image = jnp.arange(batch)[:, None, None]

    def pixel(row: Array, column: Array) -> Array:
        row, column = row.astype(jnp.int32).clip(0, height - 1), column.astype(jnp.int32).clip(0, width - 1)
        return levels[image, row, column].astype(jnp.float32)

    upper = pixel(top, left) + right_share * (pixel(top, left + 1) - pixel(top, left))
    lower = pixel(top + 1, left) + right_share * (pixel(top + 1, left + 1) - pixel(top + 1, left))
    blended = (upper + low_share * (lower - upper)).astype(jnp.uint8)
    return jnp.where(inside[..., None], blended, jnp.uint8(fill))


def _tables(levels: Array, operations: Array, magnitudes: Array) -> Array:
    """The tables of (2), uint8 [B, 3, 256]; the levels themselves where the operation is none of these."""
    batch = len(levels)
    ramp = jnp.arange(256)[None, None, :]
    size = magnitudes[:, None, None]
    # ImageEnhance.Contrast turns around the mean grey as an integer
    mean = jnp.floor(_grey(levels).mean(axis=(1, 2), dtype=jnp.float32) + 0.5)[:, None, None]
    counts = _histogram(levels)
    present = counts > 0
    low = jnp.argmax(present, axis=2)[..., None]
    high = 255 - jnp.argmax(present[..., ::-1], axis=2)[..., None]
    stretched = jnp.floor_divide((ramp - low) * 255, jnp.maximum(high - low, 1)).clip(0, 255)
    # ImageOps.equalize leaves the pixels of the highest level out of the step
    step = (counts.sum(axis=2) - jnp.take_along_axis(counts, high, axis=2)[..., 0])[..., None] // 255
    below = jnp.cumsum(counts, axis=2) - counts
    equal = ((step // 2 + below) // jnp.maximum(step, 1)).clip(0, 255)
    tables = jnp.broadcast_to(ramp, (batch, 3, 256))
    for name, table in (
        ("invert", 255 - ramp),
        ("solarize", jnp.where(ramp < size, ramp, 255 - ramp)),
        ("posterize", ramp & -(1 << (8 - size.astype(jnp.int32)))),
        ("brightness", _blend(jnp.float32(0), ramp, size)),
        ("contrast", _blend(mean, ramp, size)),
        ("auto_contrast", jnp.where(high > low, stretched, ramp)),
        ("equalize", jnp.where(step > 0, equal, ramp)),
    ):
        tables = jnp.where((operations == number(name))[:, None, None], table.astype(jnp.int32), tables)
    return tables.astype(jnp.uint8)


def _look_up(levels: Array, tables: Array) -> Array:
    batch, _, _, channels = levels.shape
    image, channel = jnp.arange(batch)[:, None, None, None], jnp.arange(channels)[None, None, None, :]
    return tables[image, channel, levels.astype(jnp.int32)]


def _histogram(levels: Array) -> Array:
    """How many pixels of each channel have each level, int32 [B, 3, 256]."""
    batch, _, _, channels = levels.shape
    image, channel = jnp.arange(batch)[:, None, None, None], jnp.arange(channels)[None, None, None, :]
    counts = jnp.zeros((batch, channels, 256), jnp.int32)
    return counts.at[image, channel, levels.astype(jnp.int32)].add(1)


def _from_grey_or_smooth(levels: Array, operations: Array, magnitudes: Array) -> Array:
    """Color and sharpness, (3)."""
    is_color, is_sharpness = (_drawn(operations, (name,)) for name in ("color", "sharpness"))
    base = jnp.where(is_color[:, None, None, None], _grey(levels)[..., None], _smooth(levels))
    factors = jnp.where(is_color | is_sharpness, magnitudes, 1.0)
    return _blend(base, levels, factors[:, None, None, None]).astype(jnp.uint8)


def _grey(levels: Array) -> Array:
    """Luma of ITU-R BT.601 [B, H, W] in Pillow's fixed point."""
    red, green, blue = jnp.moveaxis(levels.astype(jnp.int32), -1, 0)
    return (red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16


def _smooth(levels: Array) -> Array:
    """ImageFilter.SMOOTH: 3 x 3 pixels, the middle one weighted 5; the border stays."""
    batch, height, width, channels = levels.shape
    rows = levels.astype(jnp.int32).reshape(batch, height, width * channels)  # long rows vectorise
    inner = rows[:, 1:-1, channels:-channels]
    sums = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    sums = sums[:, :, : -2 * channels] + sums[:, :, channels:-channels] + sums[:, :, 2 * channels :]
    smooth = (2 * (sums + 4 * inner) + 13) // 26  # the mean, rounded
    return rows.at[:, 1:-1, channels:-channels].set(smooth).reshape(levels.shape)


def _blend(base: Array, levels: Array, factors: Array) -> Array:
    """(3) as Image.blend rounds it: clipped, then cut to an integer."""
    base, levels = base.astype(jnp.float32), levels.astype(jnp.float32)
    return jnp.floor((base + factors * (levels - base)).clip(0, 255))
