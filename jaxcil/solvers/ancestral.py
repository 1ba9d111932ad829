"""Ancestral sampling: a step of the ODE to a lower noise level, then fresh noise up to the next node.

k-diffusion's `sample_euler_ancestral`, which is also the map of DDIM (`ddim.py`) with any eta.
"""

import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcil.solvers.grid import Grid, check_grid, check_scalar, safe_sqrt
from jaxcil.solvers.plan import Plan, plan_from_lam


def ancestral(grid: Grid, eta: ArrayLike = 1.0) -> Plan:
    """Euler ancestral as a table: first order, one denoiser call a step.

    In y = x / alpha and lam = sigma / alpha, a step from lam_s to lam_t is

        std_up = min(lam_t, eta lam_t sqrt(lam_s^2 - lam_t^2) / lam_s),
        y_t    = D + (sqrt(lam_t^2 - std_up^2) / lam_s) (y_s - D) + std_up z.               (1)

    eta = 0 is the probability-flow ODE by Euler's method. eta = 1 is the posterior q(x_t | x_s, x0 = D) of
    DDPM, and equal to ER-SDE of order 1 with phi = lam^2. A last node with lam = 0 returns D.

    Args:
      grid: N + 1 nodes, noisy first. The first may have alpha = 0 where eta = 0; under tracing, where that
        cannot be checked, a noisy step from there is the limit of (1) for large lam_s.
      eta: scalar >= 0, a leaf. From about 1 on, the cap at lam_t replaces all noise on large steps.

    Returns:
      A plan with N rows and a history of length 1.

    Raises:
      ValueError: eta below 0, a grid whose lam does not fall, or a noisy first step from alpha = 0.

    References:
      Song, Meng and Ermon, arXiv:2010.02502, equation 12; std_up and its cap as in k-diffusion.
    """
    grid = check_grid(grid)
    check_scalar("eta", eta)
    lam = grid.lam
    eta = jnp.asarray(eta, lam.dtype)
    unbounded = jnp.isinf(lam[:-1])
    high, low = jnp.where(unbounded, 1.0, lam[:-1]), lam[1:]
    ratio = jnp.where(unbounded, 0.0, low / high)
    away = jnp.where(unbounded, 1.0, (high - low) / high)  # 1 - ratio
    # 1 - (std_up / lam_t)^2, of which eta = 1 must leave ratio^2 however small that is
    left = (1 - eta) * (1 + eta) + (eta * ratio) ** 2
    share = safe_sqrt(left)
    fresh = jnp.where(left <= 0, 1.0, eta * jnp.sqrt(away * (1 + ratio)))  # std_up / lam_t
    to_prediction = away + ratio * fresh**2 / (1 + share)  # 1 - ratio share
    return plan_from_lam(grid, share, to_prediction[:, None], low * fresh)
