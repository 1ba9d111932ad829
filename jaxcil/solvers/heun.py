"""EDM's sampler: Heun's method with churn (Karras et al., arXiv:2206.00364, algorithm 2), as a table.

In lam, step i first raises the noise from lam_i to s_i = (1 + gamma_i) lam_i, then takes an Euler step to
lam_{i+1} and averages the two slopes. With D the prediction at s_i and D' the one at lam_{i+1} after the Euler step,
the second slope enters as a difference of predictions:

    predictor, called at s_i:         y' = q y + (1 - q) D,              q = lam_{i+1} / s_i            (1)
    corrector, called at lam_{i+1}:   y_{i+1} = y' + h (D' - D),         h = (s_i - lam_{i+1}) / (2 lam_{i+1})
                                      y = y_{i+1} + s_noise sqrt(s_{i+1}^2 - lam_{i+1}^2) z             (2)

so that each step is two rows, and the noise of the next step is that of the corrector's row.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxcil.solvers.grid import Grid, check_grid, check_scalar, is_concrete, safe_sqrt, steps_of
from jaxcil.solvers.plan import Plan, plan_from_lam


def heun(
    grid: Grid,
    churn: ArrayLike = 0.0,
    s_tmin: ArrayLike = 0.0,
    s_tmax: ArrayLike = math.inf,
    s_noise: ArrayLike = 1.0,
    *,
    at: Callable[[Array], Grid] | None = None,
    final_zero: bool | None = None,
) -> Plan:
    """Heun's method with churn as a table: order 2, weak order 2 with churn (measured); two denoiser calls per step.

    gamma_i = min(churn / n, sqrt(2) - 1) where s_tmin <= lam_i <= s_tmax, else 0, for n steps. x lives at the
    plan's first node s_0, so the noise of the first churn is the caller's (`prior` draws it). Rows alternate
    between (1) and (2). The step to a last node with lam = 0 has no corrector and returns D. From a first node
    with alpha = 0 the step is Euler's, and its corrector row has no effect.

    Args:
      grid: n + 1 nodes, noisy first.
      churn: scalar >= 0, EDM's S_churn; a leaf. The slope of a sample in churn is infinite at 0.
      s_tmin: lowest lam that is churned; a leaf.
      s_tmax: highest lam that is churned; a leaf.
      s_noise: factor of the noise; a leaf. The marginals are kept at 1 only.
      at: lam [n] -> Grid of nodes [n] with those lam, for the network's time at s_i: of a table of betas,
        functools.partial(beta_nodes, betas). None is enough without churn, and where alpha = 1 and time = sigma.
        s_tmax keeps s_i below the highest lam that the network knows.
      final_zero: whether the grid ends at lam = 0, which decides the number of rows. None reads it from the grid;
        under jit, vmap and grad over the grid it must be given.

    Returns:
      A plan with 2n - 1 rows where the grid ends at lam = 0, else 2n, and a history of length 2.

    Raises:
      ValueError: churn below 0, or above 0 on a grid that is not VE without `at`; a grid whose lam does not
        fall; final_zero missing under tracing, or not what the grid says.

    References:
      Karras, Aittala, Aila and Laine, arXiv:2206.00364, algorithm 2.
    """
    for name, value in (("churn", churn), ("s_tmin", s_tmin), ("s_noise", s_noise)):
        check_scalar(name, value)
    final_zero = _ends_at_zero(grid, final_zero)
    if at is None:
        _check_ve(grid, churn)
    grid = check_grid(grid)
    steps = steps_of(grid)
    dtype = steps.length.dtype
    churn, s_tmin, s_tmax, s_noise = (jnp.asarray(a, dtype) for a in (churn, s_tmin, s_tmax, s_noise))
    churned = (s_tmin <= steps.high) & (steps.high <= s_tmax) & ~steps.unbounded
    gamma = jnp.where(churned, jnp.minimum(churn / len(steps.length), math.sqrt(2) - 1), 0.0)
    starts = _starts(grid, gamma, steps.high, at)

    distance = steps.high - steps.low + gamma * steps.high  # s_i - lam_{i+1}
    to_prediction = jnp.where(steps.final | steps.unbounded, 1.0, distance / (steps.high * (1 + gamma)))
    h = jnp.where(steps.final | steps.unbounded, 0.0, distance / (2 * steps.low))
    next_gamma = jnp.append(gamma[1:], jnp.zeros_like(gamma[:1]))
    noise = s_noise * steps.low * safe_sqrt(next_gamma * (2 + next_gamma))  # of sqrt(s^2 - lam^2)
    nothing = jnp.zeros_like(h)

    nodes = jax.tree.map(
        lambda start, own: jnp.append(_alternate(start, own[1:]), own[-1:]),
        starts,
        grid,
    )
    rows = 2 * len(h) - 1 if final_zero else 2 * len(h)
    return plan_from_lam(
        jax.tree.map(lambda leaf: leaf[: rows + 1], nodes),
        _alternate(jnp.where(steps.final, 0.0, jnp.ones_like(h)), 1 / (1 + next_gamma))[:rows],
        jnp.stack([_alternate(to_prediction, h), _alternate(nothing, -h)], 1)[:rows],
        _alternate(nothing, noise)[:rows],
    )


def _ends_at_zero(grid: Grid, final_zero: bool | None) -> bool:
    if not is_concrete(grid.sigma):
        if final_zero is None:
            raise ValueError(
                "heun has 2n - 1 rows where the grid ends at lam = 0 and 2n elsewhere, but the grid's values are not "
                "known under jit, vmap or grad: pass final_zero=True or False."
            )
        return final_zero
    actual = bool(np.asarray(grid.sigma)[-1] == 0)
    if final_zero not in (None, actual):
        raise ValueError(f"final_zero is {final_zero}, but the grid ends at sigma = {grid.sigma[-1]}.")
    return actual


def _check_ve(grid: Grid, churn: ArrayLike) -> None:
    """Refuses churn, also a traced one, where the network's time at a raised noise level is not known."""
    if not is_concrete(grid) or (is_concrete(churn) and np.asarray(churn) == 0):
        return
    time, alpha, sigma = (np.asarray(leaf) for leaf in (grid.time, grid.alpha, grid.sigma))
    if np.any(alpha != 1) or np.any(time != sigma):
        raise ValueError(
            "churn calls the network between the nodes, where its time is known only if alpha = 1 and time = sigma. "
            "Pass at, a function from lam [n] to the Grid of those nodes (functools.partial(beta_nodes, betas) for "
            "a table of betas), or churn=0."
        )


def _starts(grid: Grid, gamma: Array, high: Array, at: Callable[[Array], Grid] | None) -> Grid:
    """The nodes [n] at which the steps start, lam = (1 + gamma) lam_i."""
    own = jax.tree.map(lambda leaf: leaf[:-1], grid)
    raised = 1 + gamma
    if at is not None:
        # the grid's own nodes where nothing is raised: a look-up may round
        return jax.tree.map(lambda new, old: jnp.where(gamma > 0, new, old), at(high * raised), own)
    return Grid(own.time * raised, own.alpha, own.sigma * raised)


def _alternate(first: Array, second: Array) -> Array:
    """[n] and [n] as [2n]: first_0, second_0, first_1, ..."""
    return jnp.stack([first, second], 1).reshape(-1)
