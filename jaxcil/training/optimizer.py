"""Optimisers whose hyperparameters are leaves, so that a sweep may vmap over them."""

from typing import Literal

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxcil.errors import InputError, unknown_name

SCHEDULES = ("cosine", "step", "constant")


@flax.struct.dataclass
class SGD:
    """Stochastic gradient descent with momentum, made by `sgd`.

    With g the gradient, p the parameters and v the velocity, at first zero,

        g <- g + weight_decay p,    v <- g + momentum v,    p <- p - factor learning_rate d                      (1)

    where d is v, or g + momentum v for Nesterov's momentum. This is torch's rule: biases and batch normalisation decay
    too. Numbers are leaves, and the number of steps is an argument, so one program serves trainings of any length.
    """

    learning_rate: Array | float
    weight_decay: Array | float
    momentum: Array | float = 0.9
    decay: Array | float = 0.1
    schedule: str = flax.struct.field(pytree_node=False, default="cosine")
    milestones: tuple[int, ...] = flax.struct.field(pytree_node=False, default=())
    warmup_steps: int = flax.struct.field(pytree_node=False, default=0)
    nesterov: bool = flax.struct.field(pytree_node=False, default=False)

    def init(self, parameters: optax.Params) -> optax.Params:
        """The velocity before the first step, a tree of zeros like the parameters."""
        return jax.tree.map(jnp.zeros_like, parameters)

    def update(
        self,
        gradient: optax.Updates,
        velocity: optax.Params,
        parameters: optax.Params,
        factor: ArrayLike,
        rates: optax.Params | None = None,
    ) -> tuple[optax.Params, optax.Params]:
        """One step of (1).

        Args:
          gradient: a tree like the parameters.
          velocity: from `init` or the step before.
          parameters: before the step.
          factor: of the learning rate, from `schedule_factor`.
          rates: further factors of the learning rate, a tree like the parameters that broadcasts against them: 0 for
            the rows of a layer that do not train. None: 1 everywhere, at no cost.

        Returns:
          Parameters and velocity after the step.
        """
        decayed = jax.tree.map(lambda g, p: g + self.weight_decay * p, gradient, parameters)
        velocity = jax.tree.map(lambda g, v: g + self.momentum * v, decayed, velocity)
        direction = velocity
        if self.nesterov:
            direction = jax.tree.map(lambda g, v: g + self.momentum * v, decayed, velocity)
        rate = -self.learning_rate * jnp.asarray(factor)
        if rates is None:
            return jax.tree.map(lambda p, d: p + rate * d, parameters, direction), velocity
        return jax.tree.map(lambda p, d, own: p + rate * own * d, parameters, direction, rates), velocity

    def schedule_factor(self, step: ArrayLike, steps: ArrayLike, unit: ArrayLike = 1) -> Array:
        """The factor of the learning rate in a step, in [0, 1]. All arguments may be traced.

        A schedule that changes between epochs only takes numbers of epochs for those of steps.

        Args:
          step: number of steps before this one.
          steps: of the whole training, warm-up included.
          unit: steps that milestones and the warm-up count in: 1, or the steps of an epoch.
        """
        step, steps, warmup = jnp.asarray(step), jnp.asarray(steps), self.warmup_steps * jnp.asarray(unit)
        # quotients are products with an inverse, as XLA makes them where the length is a constant: equal bits
        if self.schedule == "cosine":
            length = jnp.maximum(steps - warmup, 1).astype(float)
            place = jnp.minimum((step - warmup).astype(float), length)
            value = 0.5 * (1 + jnp.cos(place * (jnp.pi * (1 / length))))
        elif self.schedule == "constant":
            value = jnp.ones(())
        else:
            passed = (step >= jnp.asarray(self.milestones) * unit).sum()
            value = jnp.asarray(self.decay, float) ** passed.astype(float)
        warming = (step + 1).astype(float) * (1 / (warmup + 1).astype(float))
        return jnp.where(step < warmup, warming, value)

    def build(self, steps: ArrayLike) -> optax.GradientTransformation:
        """The transformation for a training of this many steps, which may be traced."""
        return optax.chain(
            optax.add_decayed_weights(self.weight_decay),  # type: ignore[arg-type]
            optax.trace(decay=self.momentum, nesterov=self.nesterov),  # type: ignore[arg-type]
            optax.scale_by_schedule(lambda step: -self.learning_rate * self.schedule_factor(step, steps)),
        )


def sgd(
    learning_rate: Array | float,
    weight_decay: Array | float,
    *,
    momentum: Array | float = 0.9,
    schedule: Literal["cosine", "step", "constant"] = "cosine",
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
      schedule: "cosine" to zero at the last step; "step", a factor at each milestone; or "constant".
      milestones: numbers of steps (or of the unit of `schedule_factor`), increasing; for "step" only.
      decay: the factor at a milestone; a leaf.
      warmup_steps: length of a linear rise, in the same unit. The cosine begins after it; milestones count from step 0.
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
        raise InputError(f"milestones must be increasing numbers of steps, got {milestones}")
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
    number = step.astype(jnp.float32)
    weight = jnp.minimum(decay, (1 + number) / (10 + number))
    return jax.tree.map(lambda a, b: weight * a + (1 - weight) * b, average, new)
