"""AutoAugment's policy for CIFAR-10 (Cubuk et al., arXiv:1805.09501, table 7).

One of 25 sub-policies an image, each of two operations; each of these is done with its probability, at its
magnitude, with a random sign. Magnitudes 0 to 9 divide the ranges of the paper's table 6 as the port does that
FOSTER, FeCAM and PyCIL use. What comes in from outside is grey, there and here; the nearest pixel is taken as in the
paper's code (the port shears with bicubic interpolation).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil.data.augmentation import operations

# operation, probability, magnitude; twice
SUB_POLICIES = (
    (("invert", 0.1, 7), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("auto_contrast", 0.5, 8), ("equalize", 0.9, 2)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 5), ("equalize", 0.5, 1)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 7), ("auto_contrast", 0.4, 8)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 3)),
    (("equalize", 0.2, 0), ("auto_contrast", 0.6, 0)),
    (("equalize", 0.2, 8), ("equalize", 0.6, 4)),
    (("color", 0.9, 9), ("equalize", 0.6, 6)),
    (("auto_contrast", 0.8, 4), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("auto_contrast", 0.9, 3)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("auto_contrast", 0.9, 2), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 8), ("invert", 0.1, 3)),
    (("translate_y", 0.7, 9), ("auto_contrast", 0.9, 1)),
)


def autoaugment(keys: Array, levels: Array) -> Array:
    """The policy on images of grey levels.

    Args:
      keys: [B], one per image.
      levels: uint8 [B, H, W, 3].

    Returns:
      uint8 [B, H, W, 3].
    """
    chosen, magnitudes = draw(keys, levels.shape[1], levels.shape[2])
    return operations.apply_in_turn(levels, chosen, magnitudes, fill=128, interpolation="nearest")


def draw(keys: Array, height: int, width: int) -> tuple[Array, Array]:
    """Operations int32 [2, B] and magnitudes [2, B] for images of height x width, as `operations.apply` takes them."""
    chosen = np.array([[operations.number(name) for name, _, _ in pair] for pair in SUB_POLICIES], np.int32)
    probabilities = np.array(
        [[probability for _, probability, _ in pair] for pair in SUB_POLICIES], np.float32
    )
    magnitudes = np.array(
        [[_magnitude(name, level / 9, height, width) for name, _, level in pair] for pair in SUB_POLICIES],
        np.float32,
    )

    def draw_one(key: Array) -> tuple[Array, Array]:
        which, whether, sign = jax.random.split(key, 3)
        row = jax.random.randint(which, (), 0, len(SUB_POLICIES))
        done = jax.random.uniform(whether, (2,)) < jnp.asarray(probabilities)[row]
        operation = jnp.where(done, jnp.asarray(chosen)[row], operations.number("identity"))
        positive = jax.random.bernoulli(sign, shape=(2,))
        return operation, operations.signed(operation, jnp.asarray(magnitudes)[row], positive)

    chosen, magnitudes = jax.vmap(draw_one)(keys)
    return chosen.T, magnitudes.T


def _magnitude(name: str, share: float, height: int, width: int) -> float:
    """The magnitude at a share in [0, 1] of an operation's range."""
    if name in operations.BLENDS:
        return 0.9 * share
    ranges = {
        "shear_y": 0.3 * share,
        "translate_x": 150 / 331 * width * share,
        "translate_y": 150 / 331 * height * share,
        "rotate": 30 * share,
        "posterize": round(8 - 4 * share),
        "solarize": 256 * (1 - share),
    }
    return ranges.get(name, 0.0)
