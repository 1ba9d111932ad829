"""DPM-Solver++ of order 2, multistep, for the ODE and the SDE.

In y = x / alpha, lam = sigma / alpha, L = log(lam_s / lam_t) and L_0 the L of the step before, with
r = e^-(1 + eta) L,

    y_t = r y_s + (1 - r) D_i + w (D_i - D_{i-1}) + std z,    std = lam_t sqrt(-expm1(-2 eta L)),     (1)
    midpoint:  w = (L / L_0) (1 - r) / 2,
    heun:      w = (L / L_0) (1 - (1 - r) / ((1 + eta) L)).                                           (2)

Order 1 is ER-SDE of order 1 with phi = lam^(1 + eta). "heun" takes D for linear in log lam and integrates that
exactly; "midpoint" replaces the integral by the middle of the step.
"""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxcil.solvers.grid import Grid, check_grid, check_scalar, gauss_legendre, safe_sqrt, steps_of
from jaxcil.solvers.plan import Plan, plan_from_lam


def dpmpp_2m(grid: Grid) -> Plan:
    """DPM-Solver++ (2M) as a table: order 2 on the ODE, one denoiser call a step, no noise.

    (1) with eta = 0 and the midpoint weight, as in diffusers and k-diffusion. The first step is of order 1, and so
    is the second one if the first starts at alpha = 0; a last node with lam = 0 returns D.

    Args:
      grid: N + 1 nodes, noisy first; the first may have alpha = 0.

    Returns:
      A plan with N rows and a history of length 2.

    References:
      Lu et al., arXiv:2211.01095, algorithm 2. Unlike diffusers' scheduler with fewer than 15 steps, the
      last step is of order 2 where the grid does not end at lam = 0.
    """
    return sde_dpmpp_2m(grid, 0.0)


def sde_dpmpp_2m(grid: Grid, eta: ArrayLike = 1.0, solver_type: str = "midpoint") -> Plan:
    """SDE-DPM-Solver++ (2M) as a table: weak order 2 (measured), one denoiser call a step.

    eta = 0 with "midpoint" is `dpmpp_2m`. The slope of a sample in eta is infinite at eta = 0: fit from above.

    Args:
      grid: N + 1 nodes, noisy first. The first may have alpha = 0 where eta = 0; under tracing, where that
        cannot be checked, a noisy step from there is taken as one from a lam 10^4 times that of its end.
      eta: scalar >= 0, a leaf: h^2 = eta g^2. diffusers has 1.
      solver_type: "midpoint" or "heun" (2), diffusers' words.

    Returns:
      A plan with N rows and a history of length 2.

    Raises:
      ValueError: an unknown solver_type, eta below 0, a grid whose lam does not fall, or a noisy first step
        from alpha = 0.

    References:
      Lu et al., arXiv:2211.01095, for eta = 1; eta as in k-diffusion's `sample_dpmpp_2m_sde`.
    """
    if solver_type not in ("midpoint", "heun"):
        raise ValueError(f"solver_type must be 'midpoint' or 'heun', got {solver_type!r}.")
    check_scalar("eta", eta)
    grid = check_grid(grid)
    steps = steps_of(grid)
    length = steps.length
    eta = jnp.asarray(eta, length.dtype)
    decay = (1 + eta) * length
    to_end = -jnp.expm1(-decay)  # 1 - r
    gain = to_end / 2 if solver_type == "midpoint" else _mean_of_decay(decay)
    before = jnp.concatenate([length[:1], length[:-1]])  # row 0 has none and does not use it
    first = jnp.where(steps.unbounded[0], 2, 1)  # the first row whose L_0 is known and finite
    second_order = (jnp.arange(len(length)) >= first) & ~steps.final
    weight = jnp.where(second_order, length / before * gain, 0.0)
    to_end = jnp.where(steps.final | steps.unbounded, 1.0, to_end)
    share = jnp.where(steps.final, 0.0, jnp.exp(-eta * length))
    noise = jnp.where(steps.final, 0.0, steps.low * safe_sqrt(-jnp.expm1(-2 * eta * length)))
    return plan_from_lam(grid, share, jnp.stack([to_end + weight, -weight], 1), noise)


def _mean_of_decay(decay: Array) -> Array:
    """1 - (1 - e^-a) / a for a = `decay` [N] > 0.

    As the mean of 1 - e^(-a u) over u in [0, 1] by 16 Gauss points, which has no difference of near numbers; its
    relative error is below 1e-12 up to a = 20.
    """
    nodes, weights = gauss_legendre(16, decay.dtype)
    return -jnp.sum(jnp.expm1(-decay[:, None] * nodes) * weights, 1)
