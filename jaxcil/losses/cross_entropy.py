"""Cross-entropy over the classes that a training knows."""

import jax
import jax.numpy as jnp
from jax import Array


def cross_entropy(
    logits: Array, labels: Array, trained: Array, smoothing: Array | float | None = None
) -> Array:
    """Cross-entropy [B] against (1 - smoothing) one-hot + smoothing / n over the n trained classes.

    Args:
      logits: [B, C], -inf for classes that are not trained.
      labels: int32 [B].
      trained: bool [C].
      smoothing: in [0, 1); None: none, at no cost.
    """
    log_p = jax.nn.log_softmax(logits)
    own = -jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]
    if smoothing is None:
        return own
    spread = -jnp.where(trained[None], log_p, 0).sum(-1) / trained.sum().astype(log_p.dtype)
    return (1 - smoothing) * own + smoothing * spread
