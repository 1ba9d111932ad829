"""Euler-Maruyama on the extended reverse-time SDE: the plain method that exponential integrators improve on."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil.solvers.grid import Grid, check_grid, is_concrete, safe_sqrt, steps_of
from jaxcil.solvers.noise_scale import NoiseScale, check_noise_scale
from jaxcil.solvers.plan import Plan, noisy_start, plan_from_lam


def euler_maruyama(grid: Grid, noise_scale: NoiseScale) -> Plan:
    """Euler-Maruyama as a table: weak order 1, one denoiser call a step.

    In y = x / alpha and lam = sigma / alpha, a step from lam_s to lam_t with q = h^2 / g^2 = rho(lam_s) - 1 is

        y_t = y_s + (1 + q) (lam_t - lam_s) / lam_s (y_s - D) + sqrt(q (lam_s^2 - lam_t^2)) z.        (1)

    The linear part is not integrated exactly, so unlike the other solvers it does not keep the marginals even
    if D is exact, and the coefficient of y_s is negative on large steps. A last node with lam = 0 returns D.

    Args:
      grid: N + 1 nodes, noisy first. The first may have alpha = 0 where q = 0 there; under tracing, where
        that cannot be checked, such a step is one of the ODE.
      noise_scale: phi, of which q is read at the start of each step; `power(1.0)` is the reverse-time SDE.

    Returns:
      A plan with N rows and a history of length 1.

    Raises:
      ValueError: q below 0 at a node, a grid whose lam does not fall, or a noisy first step from alpha = 0.

    References:
      Song et al., arXiv:2011.13456, section 4.1, with the noise of Cui et al., arXiv:2309.06169, equation 8.
    """
    grid = check_grid(grid)
    check_noise_scale(noise_scale)
    steps = steps_of(grid)
    rate = noise_scale.excess(jnp.log(steps.high))
    _check_rate(grid, rate)
    rate = jnp.where(steps.unbounded | (rate < 0), 0.0, rate)
    width = steps.high - steps.low
    to_prediction = jnp.where(steps.final | steps.unbounded, 1.0, (1 + rate) * width / steps.high)
    share = jnp.where(steps.final, 0.0, 1 - rate * width / steps.low)
    variance = rate * width * (steps.high + steps.low)
    noise = jnp.where(steps.final, 0.0, safe_sqrt(variance))
    return plan_from_lam(grid, share, to_prediction[:, None], noise)


def _check_rate(grid: Grid, rate: Array) -> None:
    if not is_concrete(grid, rate):
        return
    lam, q = np.asarray(grid.lam), np.asarray(rate)
    wrong = np.flatnonzero(~(q >= -8 * np.finfo(q.dtype).eps))
    if wrong.size:
        i = wrong[0]
        raise ValueError(
            f"the noise scale is not legal on step {i}, from lam {lam[i]:.6g} to {lam[i + 1]:.6g}: h^2 / g^2 "
            f"must be at least 0, got {q[i]:.3g} at its start. "
            "Start at a lower lam (type 6 is legal up to lam = 1022) or take another noise scale."
        )
    if np.isinf(lam[0]) and q[0] > 0:
        raise noisy_start()
