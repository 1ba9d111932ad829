"""TrivialAugment with the wide ranges (Mueller and Hutter, arXiv:2103.10158, section 3 and table 1).

One operation per image, each of the fourteen with the same probability, at one of 31 magnitudes with the same
probability, with a random sign. Ranges, truncated pixels and black borders are those of torchvision's
`TrivialAugmentWide`. Its default takes the nearest pixel where an image is moved; the analytic-learning codes (ACIL,
DS-AL) interpolate between four.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil.data.augmentation import operations

MAGNITUDES = 31


def trivial_augment(keys: Array, levels: Array, interpolation: operations.Interpolation = "nearest") -> Array:
    """The policy on images of grey levels.

    Args:
      keys: [B], one per image.
      levels: uint8 [B, H, W, 3].
      interpolation: "nearest" or "bilinear", of shears, translations and rotations.

    Returns:
      uint8 [B, H, W, 3].
    """
    return operations.apply(levels, *draw(keys), fill=0, interpolation=interpolation)


def draw(keys: Array) -> tuple[Array, Array]:
    """Operations int32 [B] and magnitudes [B], as `operations.apply` takes them."""
    table = _ranges()
    numbers = np.array([operations.number(name) for name in table], np.int32)
    magnitudes = np.array(list(table.values()), np.float32)

    def draw_one(key: Array) -> tuple[Array, Array]:
        which, how_much, sign = jax.random.split(key, 3)
        row = jax.random.randint(which, (), 0, len(numbers))
        column = jax.random.randint(how_much, (), 0, MAGNITUDES)
        operation = jnp.asarray(numbers)[row]
        magnitude = jnp.asarray(magnitudes)[row, column]
        return operation, operations.signed(operation, magnitude, jax.random.bernoulli(sign))

    return jax.vmap(draw_one)(keys)


def _ranges() -> dict[str, np.ndarray]:
    """The magnitudes of every operation, [31] each."""
    share = np.linspace(0, 1, MAGNITUDES)
    none = np.zeros(MAGNITUDES)
    return {
        **dict.fromkeys(("identity", "auto_contrast", "equalize"), none),
        **dict.fromkeys(("shear_x", "shear_y", *operations.BLENDS), 0.99 * share),
        **{name: np.floor(32 * share) for name in ("translate_x", "translate_y")},
        "rotate": 135 * share,
        "posterize": 8 - np.round(6 * share),
        "solarize": 255 * (1 - share),
    }
