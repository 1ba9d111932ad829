"""Fits the parameters of a solver to a denoiser, by gradient through the sampler.

    def loss(parameters, key):
        plan = er_sde(grid, power(parameters["eta"]))
        return objective(sample(plan, denoiser, prior(plan, key, shape), key))

    fit = calibrate(loss, {"eta": 0.1}, jax.random.key(0), steps=100, learning_rate=0.05)

A plan has few parameters (noise scale, rho of a grid, guidance), so gradients are taken in forward mode. Their
memory is that of one more batch a parameter, whatever the number of calls, since no trajectory is kept; and no
convolution is differentiated backwards inside a loop, where stock convolutions are 30 times slower on a CPU. A
network whose convolutions have a `custom_vjp` does not pass forward mode: give it `jax.lax.conv_general_dilated`.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.tree_util import Partial

# (parameters, key) -> scalar
Loss = Callable[[Any, Array], Array]


class Calibration(NamedTuple):
    """A fit that came to its end."""

    parameters: Any  # those after the last step, in the structure of the first; arrays > 0
    losses: Array  # [steps], each before its step


def calibrate(
    loss: Loss,
    parameters: Any,
    key: Array,
    *,
    steps: int,
    learning_rate: float,
    notify: Callable[[int, float], None] = lambda done, loss: None,
) -> Calibration:
    """Minimises E[loss(parameters, key)] over positive parameters with Adam, one draw per step.

    Adam moves their logarithms, at a rate that falls to zero as a cosine. A parameter of 0 stays out of reach: the
    slope of a sample in a strength of noise is infinite there. One program is compiled for all steps.

    Args:
      loss: pure and differentiable in forward mode. Arrays of a `jax.tree_util.Partial` are arguments of the
        compiled program; those of a closure become constants of it, which is no way to pass a large network.
      parameters: pytree of numbers > 0 to start from.
      key: step n calls loss with fold_in(key, n).
      steps: at least 1.
      learning_rate: > 0; about the change of a logarithm in each of the first steps.
      notify: called after every step with the number of steps done and the loss.

    Raises:
      ValueError: there are no parameters or one is not positive, or steps or learning_rate is of no use.
      FloatingPointError: a loss or a gradient is not finite.

    References:
      Kingma and Ba, arXiv:1412.6980, algorithm 1.
    """
    _check(parameters, steps, learning_rate)
    loss = loss if isinstance(loss, Partial) else Partial(loss)
    logs = jax.tree.map(lambda value: jnp.log(jnp.asarray(value, jnp.result_type(float))), parameters)
    moments = optax.scale_by_adam().init(logs)
    losses = []
    for n in range(steps):
        rate = learning_rate * (1 + math.cos(math.pi * n / steps)) / 2
        new, moments, value, gradient = _step(loss, logs, moments, jax.random.fold_in(key, n), rate)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((value, gradient))):
            raise FloatingPointError(
                f"at step {n} the loss is {value} and its gradient by the logarithms {gradient}, with parameters "
                f"{jax.tree.map(jnp.exp, logs)}. Start elsewhere, or lower the learning rate."
            )
        logs = new
        losses.append(value)
        notify(n + 1, float(value))
    return Calibration(jax.tree.map(jnp.exp, logs), jnp.stack(losses))


@jax.jit
def _step(loss: Partial, logs: Any, moments: Any, key: Array, rate: Array) -> tuple[Any, Any, Array, Any]:
    def of_logs(logs: Any) -> tuple[Array, Array]:
        value = loss(jax.tree.map(jnp.exp, logs), key)
        return value, value

    gradient, value = jax.jacfwd(of_logs, has_aux=True)(logs)
    updates, moments = optax.scale_by_adam().update(gradient, moments)
    return jax.tree.map(lambda log, update: log - rate * update, logs, updates), moments, value, gradient


def _check(parameters: Any, steps: int, learning_rate: float) -> None:
    leaves = jax.tree.leaves(parameters)
    if not leaves:
        raise ValueError("there is nothing to fit: parameters must be a pytree of one number or more.")
    if not all(np.all(np.asarray(leaf) > 0) for leaf in leaves):
        raise ValueError(
            f"parameters must be positive, got {parameters}. To fit one from 0, start a little above: the "
            "slope at 0 is infinite."
        )
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}.")
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate must be positive and finite, got {learning_rate}.")
