"""AugMix (Hendrycks et al., arXiv:1912.02781, algorithm 1) as FeTrIL's official code trains with it.

With w ~ Dirichlet(1, 1, 1), m ~ Beta(1, 1) and three chains of seven random operations each,

    out = (1 - m) image + m sum_i w_i chain_i(image)                                                         (1)

Ranges, bilinear interpolation and black borders are those of torchvision's `AugMix(severity=5, chain_depth=7)`, which
that code calls; the mixture is not rounded to grey levels here. The consistency loss of the paper is no part of
that recipe.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil.data.augmentation import operations

WIDTH = 3
DEPTH = 7
SEVERITY = 5  # of 10: magnitudes are drawn from the lower half of each range


def augmix(keys: Array, levels: Array) -> Array:
    """The mixture (1) of images of grey levels.

    Args:
      keys: [B], one an image.
      levels: uint8 [B, H, W, 3].

    Returns:
      float32 [B, H, W, 3] in [0, 255].
    """
    chosen, magnitudes, weights = draw(keys, levels.shape[1], levels.shape[2])
    chains = operations.apply_in_turn(
        jnp.tile(levels, (WIDTH, 1, 1, 1)),
        chosen.reshape(DEPTH, -1),
        magnitudes.reshape(DEPTH, -1),
        fill=0,
        interpolation="bilinear",
    )
    parts = jnp.concatenate([levels[None], chains.reshape(WIDTH, *levels.shape)]).astype(jnp.float32)
    return (weights[..., None, None, None] * parts).sum(axis=0)


def draw(keys: Array, height: int, width: int) -> tuple[Array, Array, Array]:
    """Operations and magnitudes [7, 3, B] as `operations.apply` takes them; weights [4, B], the image's own first."""
    table = _ranges(height, width)
    numbers = np.array([operations.number(name) for name in table], np.int32)
    magnitudes = np.array(list(table.values()), np.float32)

    def draw_one(key: Array) -> tuple[Array, Array, Array]:
        which, how_much, sign, shares, mixing = jax.random.split(key, 5)
        row = jax.random.randint(which, (DEPTH, WIDTH), 0, len(numbers))
        column = jax.random.randint(how_much, (DEPTH, WIDTH), 0, SEVERITY)
        operation = jnp.asarray(numbers)[row]
        positive = jax.random.bernoulli(sign, shape=(DEPTH, WIDTH))
        magnitude = operations.signed(operation, jnp.asarray(magnitudes)[row, column], positive)
        # shares of independent exponentials are Dirichlet(1, 1, 1), and Beta(1, 1) is uniform
        share = jax.random.exponential(shares, (WIDTH,))
        mixed = jax.random.uniform(mixing, (1,))
        return operation, magnitude, jnp.concatenate([1 - mixed, mixed * share / share.sum()])

    chosen, magnitudes, weights = jax.vmap(draw_one, out_axes=-1)(keys)
    return chosen, magnitudes, weights


def _ranges(height: int, width: int) -> dict[str, np.ndarray]:
    """The ten magnitudes of every operation's range, [10] each."""
    share = np.linspace(0, 1, 10)
    return {
        **{name: np.zeros(10) for name in ("auto_contrast", "equalize")},
        **dict.fromkeys(("shear_x", "shear_y"), 0.3 * share),
        **dict.fromkeys(operations.BLENDS, 0.9 * share),
        "translate_x": np.floor(width / 3 * share),
        "translate_y": np.floor(height / 3 * share),
        "rotate": 30 * share,
        "posterize": 4 - np.round(4 * share),
        "solarize": 255 * (1 - share),
    }
