"""Optimisers whose hyperparameters are leaves, so that a sweep may vmap over them."""

from typing import Literal

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxcil.errors import InputError, unknown_name

SCHEDULES = ("cosine", "step")


@flax.struct.dataclass
class SGD:
    """Stochastic gradient descent with momentum, made by `sgd`.

    Weight decay is added to the gradient of every parameter, biases and batch normalisation included, before the
    momentum, as torch does it.
    """

    learning_rate: Array | float
    weight_decay: Array | float
    momentum: Array | float = 0.9
    decay: Array | float = 0.1
    schedule: str = flax.struct.field(pytree_node=False, default="cosine")
    milestones: tuple[int, ...] = flax.struct.field(pytree_node=False, default=())
    warmup_steps: int = flax.struct.field(pytree_node=False, default=0)
    nesterov: bool = flax.struct.field(pytree_node=False, default=False)

    def build(self, steps: int) -> optax.GradientTransformation:
        """The transformation for a training of that many steps."""
        return optax.chain(
            optax.add_decayed_weights(self.weight_decay),  # type: ignore[arg-type]
            optax.trace(decay=self.momentum, nesterov=self.nesterov),  # type: ignore[arg-type]
            optax.scale_by_schedule(lambda step: -self.learning_rate * self.share(step, steps)),
        )

    def share(self, step: ArrayLike, steps: int) -> Array:
        """The share of the learning rate that a step has, in [0, 1].

        Args:
          step: number of steps before this one.
          steps: of the whole training, warm-up included.
        """
        step = jnp.asarray(step)
        if self.schedule == "cosine":
            value = optax.cosine_decay_schedule(1.0, max(1, steps - self.warmup_steps))(
                step - self.warmup_steps
            )
        else:
            passed = (step >= jnp.asarray(self.milestones)).sum()
            value = jnp.asarray(self.decay, jnp.float32) ** passed
        warming = (step + 1) / (self.warmup_steps + 1)
        return jnp.where(step < self.warmup_steps, warming, value)


def sgd(
    learning_rate: Array | float,
    weight_decay: Array | float,
    *,
    momentum: Array | float = 0.9,
    schedule: Literal["cosine", "step"] = "cosine",
    milestones: tuple[int, ...] = (),
    decay: Array | float = 0.1,
    warmup_steps: int = 0,
    nesterov: bool = False,
) -> SGD:
    """Stochastic gradient descent.

    Args:
      learning_rate: the largest, >= 0; a leaf.
      weight_decay: a leaf.
      momentum: in [0, 1); a leaf.
      schedule: "cosine" to zero at the last step, or "step", a factor at each milestone.
      milestones: numbers of steps, growing, for "step" only.
      decay: that factor; a leaf.
      warmup_steps: steps of a linear rise before; the cosine then begins behind them, milestones count from step 0.
      nesterov: Nesterov's momentum.

    Raises:
      InputError: an unknown schedule, or milestones that do not fit it.
    """
    if schedule not in SCHEDULES:
        raise unknown_name("schedule", schedule, SCHEDULES)
    if (schedule == "step") != bool(milestones):
        raise InputError(
            f"milestones belong to the schedule 'step' and it needs them; got {schedule!r}, {milestones}"
        )
    if list(milestones) != sorted(set(milestones)) or any(milestone < 1 for milestone in milestones):
        raise InputError(f"milestones must be growing numbers of steps, got {milestones}")
    if warmup_steps < 0:
        raise InputError(f"warmup_steps must not be negative, got {warmup_steps}")
    return SGD(
        learning_rate, weight_decay, momentum, decay, schedule, tuple(milestones), warmup_steps, nesterov
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


def moving_average(
    average: optax.Params, new: optax.Params, step: Array, decay: Array | float
) -> optax.Params:
    """Exponential moving average of parameters; early steps average over what there is.

    Args:
      average: the average so far.
      new: the parameters after this step.
      step: number of steps before this one, int.
      decay: weight of the past once warmed up, in [0, 1).
    """
    weight = jax.numpy.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, b: weight * a + (1 - weight) * b, average, new)
