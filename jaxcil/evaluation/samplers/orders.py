"""How fast the error of a sampler falls with the number of calls, in float64: grid doubling.

Three cases. The ODE on Gaussian data, where y / sqrt(s^2 + lam^2) is constant; the ODE on a mixture, against a very
fine run; and the weak error with noise (phi 7) on Gaussian data, which is that of the output's standard deviation.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil.evaluation.samplers.compared import SAMPLERS, Sampler, output_std, plans_of
from jaxcil.solvers import (
    GaussianMixture,
    Grid,
    Plan,
    dpmpp_2m,
    er_sde,
    er_sde_official,
    heun,
    log_grid,
    ode,
    sample,
)

# Samplers as those of the ODE.
ODES = {
    "er_sde_1": lambda grid: er_sde(grid, ode(), 1),
    "er_sde_2": lambda grid: er_sde(grid, ode(), 2),
    "er_sde_3": lambda grid: er_sde(grid, ode(), 3),
    "er_sde_official": lambda grid: er_sde_official(grid, 1, 3),
    "er_sde_3_corrector": SAMPLERS["er_ode_3_corrector"].solver,
    "er_sde_3_log_lam": lambda grid: er_sde(
        grid, ode(), 3, derivative="corrected", start="corrector", basis="log_lam"
    ),
    "dpmpp_2m": dpmpp_2m,
    "heun": heun,
}
NOISY = (*(name for name in ODES if name.startswith("er_sde")), "euler_maruyama")
CASES = ("gaussian_ode", "mixture_ode", "gaussian_weak")
FINE = 10_240  # calls of the mixture's reference, whose error is 1e-3 of the least one measured


def order_errors(case: str, calls: Sequence[int]) -> dict[str, list[float]]:
    """Relative errors by sampler, one a number of calls.

    Args:
      case: "gaussian_ode" and "gaussian_weak", log grid 20 to 0.05, s = 0.5; or "mixture_ode", 5 to 0.02.
      calls: even numbers, since Heun's method takes two a step.
    """
    noisy = {name: SAMPLERS[name] for name in NOISY}
    without = {name: SAMPLERS[name]._replace(solver=solver) for name, solver in ODES.items()}
    samplers = noisy if case == "gaussian_weak" else without
    errors_of = _mixture_errors if case == "mixture_ode" else _gaussian_errors
    with jax.enable_x64(True):
        errors = np.stack([np.asarray(errors_of(samplers.values(), count)) for count in calls], axis=1)
    return dict(zip(samplers, errors.tolist()))


def fitted_order(calls: Sequence[int], errors: Sequence[float]) -> float | None:
    """Minus the slope of log error over log calls, on the last three points; None without an error to fit."""
    last = np.log(np.maximum(errors[-3:], np.finfo(float).tiny))
    if len(last) < 2 or min(errors[-3:]) == 0:
        return None
    return -float(np.polyfit(np.log(calls[-3:]), last, 1)[0])


def order_results(calls: Sequence[int], parts: Mapping[str, dict[str, list[float]]]) -> list[dict[str, Any]]:
    """One entry a case and sampler, with the fitted order."""
    return [
        {
            "case": case,
            "sampler": name,
            "calls": list(calls),
            "errors": values,
            "order": fitted_order(calls, values),
        }
        for case, errors in parts.items()
        for name, values in errors.items()
    ]


def _gaussian_errors(samplers: Iterable[Sampler], calls: int) -> Array:
    plans = plans_of(samplers, lambda steps: log_grid(steps, 20.0, 0.05), calls)
    return jax.jit(jax.vmap(_gaussian_error))(plans)


def _gaussian_error(plan: Plan) -> Array:
    std = jnp.full(1, 0.5)
    exact = jnp.hypot(plan.alpha[-1] * std[0], plan.sigma[-1])
    return jnp.abs(output_std(plan, std)[0] / exact - 1)


def _mixture_errors(samplers: Iterable[Sampler], calls: int) -> Array:
    """Root mean square over 64 starts, relative to that of the outputs."""
    data = GaussianMixture(
        jnp.asarray([0.5, 0.3, 0.2]),
        jax.random.normal(jax.random.key(1), (3, 6)),
        jnp.asarray([0.3, 0.5, 0.2]),
    )
    start = data.draw(jax.random.key(2), 64) + 5 * jax.random.normal(jax.random.key(3), (64, 6))

    def grid(steps: int) -> Grid:
        return log_grid(steps, 5.0, 0.02)

    @jax.jit
    def outputs(plans: Plan) -> Array:
        return jax.vmap(lambda plan: sample(plan, data.denoiser, start))(plans)

    exact = outputs(plans_of((SAMPLERS["er_ode_3_corrector"],), grid, FINE))
    squares = jnp.mean((outputs(plans_of(samplers, grid, calls)) - exact) ** 2, axis=(1, 2))
    return jnp.sqrt(squares / jnp.mean(exact**2))
