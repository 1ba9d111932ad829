"""Optimisers whose hyperparameters are leaves, so that a sweep may vmap over them."""

from typing import NamedTuple

import flax.struct
import jax
import optax
from jax import Array


class SGD(NamedTuple):
    """Stochastic gradient descent with momentum and a cosine decay to zero.

    Weight decay is added to the gradient of every parameter before the momentum, as torch does it.
    """

    learning_rate: Array | float
    weight_decay: Array | float
    momentum: Array | float = 0.9

    def build(self, steps: int) -> optax.GradientTransformation:
        """The transformation for a training of that many steps."""
        schedule = optax.cosine_decay_schedule(1.0, steps)
        return optax.chain(
            optax.add_decayed_weights(self.weight_decay),  # type: ignore[arg-type]
            optax.trace(decay=self.momentum),  # type: ignore[arg-type]
            optax.scale_by_schedule(lambda step: -self.learning_rate * schedule(step)),
        )


@flax.struct.dataclass
class AdamW:
    """AdamW with a linear warm-up and a cosine decay to zero."""

    learning_rate: Array | float
    weight_decay: Array | float
    warmup_steps: int = flax.struct.field(pytree_node=False, default=0)

    def build(self, steps: int) -> optax.GradientTransformation:
        """The transformation for a training of that many steps."""
        schedule = optax.warmup_cosine_decay_schedule(0.0, 1.0, self.warmup_steps, steps)
        return optax.chain(
            optax.scale_by_adam(),
            optax.add_decayed_weights(self.weight_decay),  # type: ignore[arg-type]
            optax.scale_by_schedule(lambda step: -self.learning_rate * schedule(step)),
        )


def moving_average(average: optax.Params, new: optax.Params, step: Array, decay: float) -> optax.Params:
    """Exponential moving average of parameters; early steps average over what there is.

    Args:
      average: the average so far.
      new: the parameters after this step.
      step: number of steps before this one, int.
      decay: weight of the past once warmed up, in [0, 1).
    """
    weight = jax.numpy.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, b: weight * a + (1 - weight) * b, average, new)
