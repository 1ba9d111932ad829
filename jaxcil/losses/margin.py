"""Losses that ask for a margin between classes.

LUCIR's margin ranking (Hou et al., CVPR 2019, equation 8), of an image of an old class y, with s the cosines to the
class weights and N the K new classes of the largest ones:

    l = 1/K sum_{k in N} max(0, margin - s_y + s_k)                                             (1)

PODNet's local similarity classification (LSC; Douillard et al., ECCV 2020, section 3.2) on u = eta s:

    l = -(u_y - m) + log(1 + sum_{i != y} exp(u_i - m)),   m = max_i u_i                        (2)

(2) is what both public codes compute. The paper subtracts a margin of 0.6 from s_y, leaves y out of the sum and cuts
the loss at 0; in the codes the margin is subtracted from all scores, so that it cancels, and exp(0) stays in the sum in
place of class y. The loss is then not the same for scores that are all larger by a constant, and its derivative through
m matters.
"""

import jax
import jax.numpy as jnp
from jax import Array


def margin_ranking(
    cosines: Array, labels: Array, new: Array, margin: Array | float, hardest: int = 2
) -> Array:
    """Equation (1), [B]; it has a meaning for images of old classes alone.

    Args:
      cosines: s [B, C].
      labels: int32 [B].
      new: bool [C].
      margin: >= 0.
      hardest: K, at least 1; static. Fewer new classes than that are all taken.
    """
    own = jnp.take_along_axis(cosines, labels[:, None], axis=1)
    largest = jax.lax.top_k(jnp.where(new[None], cosines, -jnp.inf), min(hardest, cosines.shape[1]))[0]
    there = jnp.isfinite(largest)
    excess = jnp.where(there, jnp.maximum(0, margin - own + jnp.where(there, largest, 0)), 0)
    return excess.sum(-1) / jnp.maximum(there.sum(-1), 1).astype(cosines.dtype)


def lsc(scores: Array, labels: Array, classes: Array) -> Array:
    """Equation (2), [B].

    Args:
      scores: u [B, C], scaled by eta.
      labels: int32 [B].
      classes: bool [C], those that take part.
    """
    masked = jnp.where(classes[None], scores, -jnp.inf)
    u = masked - masked.max(-1, keepdims=True)
    own = _own(u, labels)
    others = jnp.where(own | ~classes[None], 0, jnp.exp(jnp.where(classes[None], u, 0))).sum(-1)
    return -jnp.where(own, u, 0).sum(-1) + jnp.log1p(others)


def _own(scores: Array, labels: Array) -> Array:
    """Whether a column of scores [B, C] is an image's own class."""
    return jnp.arange(scores.shape[1], dtype=labels.dtype)[None] == labels[:, None]
