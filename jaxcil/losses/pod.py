"""POD: distillation of pooled maps (Douillard et al., ECCV 2020, section 3.1).

A map h [H, W, D] of a stage is squared, summed over some axes, made a vector p of length one, and compared with the
teacher's by the Euclidean distance

    l = |p - p'|                                                                                (1)

    spatial    the sums over W, [H, D], and over H, [W, D], one behind the other: the published choice
    width      over H        height   over W        gap   the mean over both        channels   over D
    pixels     over nothing

and the losses of the stages are averaged. POD-flat, of the features, is `distillation.cosine_distillation`.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from jaxcil.losses.unit import lengths, unit_rows

POOLINGS = ("spatial", "width", "height", "gap", "channels", "pixels")


def pod(maps: Sequence[Array], teacher: Sequence[Array], pooling: str = "spatial") -> Array:
    """The mean over the stages of (1), [B].

    Args:
      maps: of each stage, [B, H, W, D].
      teacher: likewise.
      pooling: one of POOLINGS.
    """
    losses = [_distance(pooled(own, pooling), pooled(other, pooling)) for own, other in zip(maps, teacher)]
    return jnp.stack(losses).mean(0)


def pooled(stage: Array, pooling: str) -> Array:
    """p [B, n] of a stage's maps [B, H, W, D]."""
    squared = jnp.square(stage)
    flat = {
        "spatial": lambda: jnp.concatenate([_flat(squared.sum(2)), _flat(squared.sum(1))], axis=-1),
        "width": lambda: _flat(squared.sum(1)),
        "height": lambda: _flat(squared.sum(2)),
        "gap": lambda: squared.mean((1, 2)),
        "channels": lambda: _flat(squared.sum(3)),
        "pixels": lambda: _flat(squared),
    }[pooling]()
    return unit_rows(flat)


def _flat(x: Array) -> Array:
    return x.reshape(len(x), -1)


def _distance(a: Array, b: Array) -> Array:
    """Lengths [B] of a - b; the gradient of a zero is zero."""
    same = (a == b).all(-1, keepdims=True)
    return jnp.where(same, 0, lengths(jnp.where(same, 1, a - b)))[:, 0]
