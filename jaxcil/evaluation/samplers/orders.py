"""How fast the error of a sampler falls with the number of calls, in float64: grid doubling.

Three cases. The ODE on Gaussian data, where y / sqrt(s^2 + lam^2) is constant; the ODE on a mixture, against a very
fine run; and the weak error with noise (phi 7) on Gaussian data, which is that of the output's standard deviation.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil.evaluation.samplers.compared import SAMPLERS, Sampler, output_std, plans_of
from jaxcil.solvers import GaussianMixture, Grid, Plan, log_grid, sample

FINE = 10_240  # calls of the mixture's reference, whose error is 1e-3 of the least one measured


def order_errors(case: str, names: Sequence[str], nfe: Sequence[int]) -> dict[str, list[float]]:
    """Relative errors by sampler, one per number of calls.

    Args:
      case: "gaussian_ode" and "gaussian_weak", log grid 20 to 0.05, s = 0.5; or "mixture_ode", 5 to 0.02.
      names: of samplers; those without an order in this case are left out.
      nfe: even numbers, since Heun's method takes two per step.
    """
    samplers = _samplers(case, names)
    with jax.enable_x64(True):
        errors = [np.asarray(CASES[case].errors(samplers.values(), count)) for count in nfe]
    return dict(zip(samplers, np.stack(errors, axis=1).tolist()))


def has_orders(case: str, names: Sequence[str]) -> bool:
    """Whether any of these samplers has an order in a case."""
    return bool(_samplers(case, names))


def fitted_order(nfe: Sequence[int], errors: Sequence[float]) -> float | None:
    """Minus the slope of log error over log calls, on the last three points; None without an error to fit."""
    last = np.log(np.maximum(errors[-3:], np.finfo(float).tiny))
    if len(last) < 2 or min(errors[-3:]) == 0:
        return None
    return -float(np.polyfit(np.log(nfe[-3:]), last, 1)[0])


def order_results(nfe: Sequence[int], parts: Mapping[str, dict[str, list[float]]]) -> list[dict[str, Any]]:
    """One entry per case and sampler, with the fitted order."""
    return [
        {
            "case": case,
            "sampler": name,
            "nfe": list(nfe),
            "errors": values,
            "order": fitted_order(nfe, values),
        }
        for case, errors in parts.items()
        for name, values in errors.items()
    ]


def _samplers(case: str, names: Sequence[str]) -> dict[str, Sampler]:
    chosen = {name: SAMPLERS[name] for name in names}
    if CASES[case].noisy:
        return {name: sampler for name, sampler in chosen.items() if sampler.weak}
    return {name: sampler._replace(solver=sampler.ode) for name, sampler in chosen.items() if sampler.ode}


def _gaussian_errors(samplers: Iterable[Sampler], nfe: int) -> Array:
    plans = plans_of(samplers, lambda steps: log_grid(steps, 20.0, 0.05), nfe)
    return jax.jit(jax.vmap(_gaussian_error))(plans)


def _gaussian_error(plan: Plan) -> Array:
    std = jnp.full(1, 0.5)
    exact = jnp.hypot(plan.alpha[-1] * std[0], plan.sigma[-1])
    return jnp.abs(output_std(plan, std)[0] / exact - 1)


def _mixture_errors(samplers: Iterable[Sampler], nfe: int) -> Array:
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
    squares = jnp.mean((outputs(plans_of(samplers, grid, nfe)) - exact) ** 2, axis=(1, 2))
    return jnp.sqrt(squares / jnp.mean(exact**2))


class Case(NamedTuple):
    """A problem with a known solution."""

    title: str
    errors: Callable[[Iterable[Sampler], int], Array]
    noisy: bool = False


CASES = {
    "gaussian_ode": Case("ODE, Gaussian", _gaussian_errors),
    "mixture_ode": Case("ODE, mixture", _mixture_errors),
    "gaussian_weak": Case("SDE (phi 7), Gaussian: weak error", _gaussian_errors, noisy=True),
}
