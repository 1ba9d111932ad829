"""DDIM, the implicit and the stochastic one (Song, Meng and Ermon, arXiv:2010.02502)."""

from jax.typing import ArrayLike

from jaxcil.solvers.ancestral import ancestral
from jaxcil.solvers.grid import Grid, check_scalar
from jaxcil.solvers.plan import Plan


def ddim(grid: Grid, eta: ArrayLike = 0.0) -> Plan:
    """DDIM as a table: first order, one denoiser call a step.

    In y = x / alpha and lam = sigma / alpha, a step from lam_s to lam_t is

        y_t = D + (sqrt(lam_t^2 - q) / lam_s) (y_s - D) + sqrt(q) z,
        q   = eta^2 lam_t^2 (lam_s^2 - lam_t^2) / lam_s^2,                                  (1)

    with D the x0 prediction: the map of `ancestral`, for which eta <= 1 needs no cap. eta = 0 is the
    probability-flow ODE by Euler's method, so it is Euler's sampler of EDM and of flow models too, and
    DPM-Solver++ of order 1. A last node with lam = 0 returns D.

    diffusers' scheduler steps to t - T // N and not to the next time it calls; here a step ends at the next node.

    Args:
      grid: N + 1 nodes, noisy first. The first may have alpha = 0 where eta = 0, as in `ancestral`.
      eta: scalar in [0, 1], a leaf; 1 is DDPM's posterior.

    Returns:
      A plan with N rows and a history of length 1.

    Raises:
      ValueError: eta outside [0, 1], a grid whose lam does not fall, or a noisy first step from alpha = 0.

    References:
      Song, Meng and Ermon, arXiv:2010.02502, equations 12 and 16.
    """
    check_scalar("eta", eta, 1.0, advice=" More noise than that: ancestral(grid, eta).")
    return ancestral(grid, eta)
