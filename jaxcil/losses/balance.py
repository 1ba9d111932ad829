"""What balances old classes, of which a few images are kept, against new ones."""

import jax.numpy as jnp
from jax import Array


def class_balanced_weights(counts: Array, beta: Array | float) -> Array:
    """(1 - beta) / (1 - beta^n_c), scaled so that their mean is 1 (Cui et al., CVPR 2019, equation 2): [C].

    FOSTER divides logits by them, and weights its distillation with them.

    Args:
      counts: n [C] of images of each class; one with 0 takes no part and has weight 1.
      beta: in [0, 1).
    """
    there = counts > 0
    rarity = jnp.where(there, (1 - beta) / (1 - beta ** jnp.where(there, counts, 1).astype(float)), 0)
    return jnp.where(there, rarity / rarity.sum() * there.sum().astype(rarity.dtype), 1)


def weight_alignment(weights: Array, old: Array, new: Array) -> Array:
    """Weights [C, D] whose rows of new classes are scaled to the mean length of those of old ones.

    Zhao et al., "Maintaining Discrimination and Fairness in Class Incremental Learning" (WA), CVPR 2020, equation 11.

    Args:
      weights: [C, D].
      old: bool [C]; where it is empty nothing changes.
      new: bool [C], at least one.
    """
    lengths = jnp.sqrt(jnp.square(weights).sum(-1))
    ratio = _mean(lengths, old) / _mean(lengths, new)
    return jnp.where((new & old.any())[:, None], weights * ratio, weights)


def _mean(values: Array, where: Array) -> Array:
    return jnp.where(where, values, 0).sum() / jnp.maximum(where.sum(), 1).astype(values.dtype)
