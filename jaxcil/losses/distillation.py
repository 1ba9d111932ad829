"""Distillation: a network is held to what it, or another, said before (Hinton et al., arXiv:1503.02531).

With z the logits of the network that trains, z' those of the teacher and T the temperature, over a set of columns,

    l = - sum_c softmax(z' / T)_c log softmax(z / T)_c                                          (1)
    l = 1 - <f, f'> / (|f| |f'|)                                                                (2)

(1) is the loss of LwF, iCaRL's softmax form, WA, BiC and FOSTER; some multiply it by T^2, so that its gradient does not
shrink with T. (2) compares features: LUCIR's less-forget constraint (Hou et al., CVPR 2019, equation 6) and PODNet's
POD-flat.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxcil.losses.unit import unit_rows


def distillation(
    logits: Array,
    teacher: Array,
    columns: Array,
    temperature: Array | float,
    *,
    squared: bool = False,
    weights: Array | None = None,
) -> Array:
    """Equation (1), [B].

    Args:
      logits: [B, C], finite in the columns.
      teacher: logits [B, C], finite in the columns.
      columns: bool [C], those that are compared, at least one.
      temperature: > 0.
      squared: whether the loss is multiplied by the square of the temperature.
      weights: [C], by which the target is multiplied and then scaled to sum 1: FOSTER's balanced distillation.
    """
    target = jax.nn.softmax(jnp.where(columns[None], teacher / temperature, -jnp.inf))
    if weights is not None:
        target = target * weights[None]
        target = target / target.sum(-1, keepdims=True)
    log_p = jax.nn.log_softmax(jnp.where(columns[None], logits / temperature, -jnp.inf))
    loss = -jnp.where(columns[None], target * jnp.where(columns[None], log_p, 0), 0).sum(-1)
    return loss * temperature**2 if squared else loss


def cosine_distillation(features: Array, teacher: Array) -> Array:
    """Equation (2), [B], of features [B, D] and the teacher's."""
    return 1 - (unit_rows(features) * unit_rows(teacher)).sum(-1)
