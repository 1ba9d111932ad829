"""The nodes of a sampling run, noisy first.

Every family of diffusion models is x = alpha x0 + sigma epsilon. In y = x / alpha and lam = sigma / alpha all
of them are y = x0 + lam epsilon, so a solver reads nothing but lam and the grid brings alpha, sigma and
the network's own time along:

    VE, EDM         alpha = 1,              lam = sigma
    VP, DDPM        alpha = sqrt(abar),     lam = sqrt((1 - abar) / abar)
    rectified flow  alpha = 1 - sigma,      lam = sigma / (1 - sigma)

A run of N steps has N + 1 nodes. The last may have lam = 0: the run then ends in a denoised sample. All
parameters of the makers below but the number of steps are leaves, checked where they are concrete. The grids of
networks that were trained on a table of betas are in `beta_grid.py`.
"""

import itertools
import math
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike


@flax.struct.dataclass
class Grid:
    """Nodes [N + 1] with lam strictly decreasing; alpha may be 0 at the first node, sigma at the last."""

    time: Array  # what the network calls the node: sigma of EDM, 0 .. 999 of Stable Diffusion
    alpha: Array
    sigma: Array

    @property
    def lam(self) -> Array:
        """sigma / alpha [N + 1]; infinite where alpha = 0."""
        alpha, sigma = as_floats(self.alpha, self.sigma)
        noise_only = alpha == 0  # double where: no NaN in the gradient of the division
        return jnp.where(noise_only, jnp.inf, sigma / jnp.where(noise_only, 1.0, alpha))


def grid_from_sigmas(sigmas: ArrayLike) -> Grid:
    """A VE grid (alpha = 1, time = sigma) of the noise levels [N + 1] given."""
    (sigmas,) = as_floats(sigmas)
    return Grid(time=sigmas, alpha=jnp.ones_like(sigmas), sigma=sigmas)


def karras_grid(
    steps: int,
    sigma_min: ArrayLike = 0.002,
    sigma_max: ArrayLike = 80.0,
    rho: ArrayLike = 7.0,
    *,
    final_zero: bool = True,
) -> Grid:
    """The VE grid of EDM: sigma^(1 / rho) falls linearly from sigma_max to sigma_min.

    Args:
      steps: N >= 1, the number of denoiser calls.
      sigma_min: lowest noise level > 0.
      sigma_max: first noise level.
      rho: > 0, how strongly the nodes crowd at low noise.
      final_zero: N nodes and then 0, as in EDM's sampler. Otherwise N + 1 nodes that end at sigma_min.

    Raises:
      ValueError: steps < 1, or not 0 < sigma_min < sigma_max < inf, or not 0 < rho < inf.

    References:
      Karras, Aittala, Aila and Laine, arXiv:2206.00364, equation 5.
    """
    check_steps(steps)
    _check_rising(sigma_min=sigma_min, sigma_max=sigma_max)
    _check_rising(rho=rho)
    low, high, rho = as_floats(sigma_min, sigma_max, rho)
    nodes = steps if final_zero else steps + 1
    sigmas = jnp.linspace(high ** (1 / rho), low ** (1 / rho), nodes) ** rho
    return grid_from_sigmas(jnp.pad(sigmas, (0, 1)) if final_zero else sigmas)


def log_grid(steps: int, lam_max: ArrayLike, lam_min: ArrayLike) -> Grid:
    """A VE grid of N + 1 nodes, uniform in log lam from lam_max to lam_min > 0.

    Raises:
      ValueError: steps < 1, or not 0 < lam_min < lam_max < inf.
    """
    check_steps(steps)
    _check_rising(lam_min=lam_min, lam_max=lam_max)
    high, low = as_floats(lam_max, lam_min)
    return grid_from_sigmas(jnp.geomspace(high, low, steps + 1))


def vp_grid(
    steps: int,
    beta_min: ArrayLike = 0.1,
    beta_max: ArrayLike = 20.0,
    *,
    t_max: ArrayLike = 1.0,
    t_min: ArrayLike = 1e-3,
    final_zero: bool = True,
) -> Grid:
    """The grid of the continuous VP process with a linear beta(t), uniform in t.

        log alpha = -t^2 (beta_max - beta_min) / 4 - t beta_min / 2,    sigma^2 = 1 - alpha^2

    Args:
      steps: N >= 1, the number of denoiser calls.
      beta_min: beta at t = 0, > 0.
      beta_max: beta at t = 1, > beta_min.
      t_max: first time; lam = 152 at 1 and the default betas.
      t_min: lowest time > 0 that is called, or reached without `final_zero`; lam = 0.0105 at 0.001.
      final_zero: N nodes and then alpha = 1, sigma = 0, time 0. Otherwise N + 1 nodes that end at t_min.

    Returns:
      A grid whose `time` is t; networks that count to 1000 multiply it.

    Raises:
      ValueError: steps < 1, or not 0 < beta_min < beta_max < inf, or not 0 < t_min < t_max < inf.

    References:
      Song, Sohl-Dickstein, Kingma, Kumar, Ermon and Poole, arXiv:2011.13456, appendix C.
    """
    check_steps(steps)
    _check_rising(beta_min=beta_min, beta_max=beta_max)
    _check_rising(t_min=t_min, t_max=t_max)
    beta_min, beta_max, t_max, t_min = as_floats(beta_min, beta_max, t_max, t_min)
    t = _falling(t_max, t_min, steps if final_zero else steps + 1)
    log_alpha = -(t**2) * (beta_max - beta_min) / 4 - t * beta_min / 2
    grid = Grid(time=t, alpha=jnp.exp(log_alpha), sigma=jnp.sqrt(-jnp.expm1(2 * log_alpha)))
    return _with_zero(grid) if final_zero else grid


def vp_cosine_grid(
    steps: int,
    offset: ArrayLike = 0.008,
    *,
    t_max: ArrayLike = 0.9946,
    t_min: ArrayLike = 1e-3,
    final_zero: bool = True,
) -> Grid:
    """The grid of the continuous VP process with the cosine schedule, uniform in t.

        alpha = cos((t + offset) / (1 + offset) pi / 2) / cos(offset / (1 + offset) pi / 2)

    alpha falls to 0 at t = 1, so where to begin is a choice. The default is the one of DPM-Solver's code
    (arXiv:2206.00927), lam = 119; the discrete schedule begins at lam = 20291, since it cuts its last beta off
    at 0.999. t_max = 1 itself, lam infinite, is legal where the first step draws no noise and the network
    does not predict epsilon.

    Args:
      steps: N >= 1, the number of denoiser calls.
      offset: > 0, keeps sigma from rising too slowly at t = 0.
      t_max: first time, <= 1.
      t_min: lowest time > 0 that is called, or reached without `final_zero`; lam = 0.0064 at 0.001.
      final_zero: N nodes and then alpha = 1, sigma = 0, time 0. Otherwise N + 1 nodes that end at t_min.

    Returns:
      A grid whose `time` is t; networks that count to 1000 multiply it.

    Raises:
      ValueError: steps < 1, or not 0 < offset < inf, or not 0 < t_min < t_max <= 1.

    References:
      Nichol and Dhariwal, arXiv:2102.09672, equation 17.
    """
    check_steps(steps)
    _check_rising(offset=offset)
    _check_rising(1.0, t_min=t_min, t_max=t_max)
    offset, t_max, t_min, rest_min, rest_max = as_floats(offset, t_max, t_min, 1 - t_max, 1 - t_min)
    nodes = steps if final_zero else steps + 1
    t, rest = _falling(t_max, t_min, nodes), jnp.linspace(rest_min, rest_max, nodes)
    # sin(pi / 2 - a) for cos(a), and (cos b)^2 - (cos a)^2 = sin(a - b) sin(a + b): nothing cancels
    turn = math.pi / 2 / (1 + offset)
    scale = jnp.cos(offset * turn)
    sigma = jnp.sqrt(jnp.sin(t * turn) * jnp.sin((t + 2 * offset) * turn)) / scale
    grid = Grid(time=t, alpha=jnp.sin(rest * turn) / scale, sigma=sigma)
    return _with_zero(grid) if final_zero else grid


def flow_grid(steps: int, shift: ArrayLike = 1.0, *, t_max: ArrayLike = 1.0) -> Grid:
    """The grid of rectified flow, alpha = 1 - sigma, uniform before the shift.

        sigma = shift u / (1 + (shift - 1) u),    u from t_max to 0 in N equal steps

    At t_max = 1 the first node has alpha = 0, which needs a first step without noise. ER-SDE with noise begins at
    t_max = 0.9999, the first-sigma rule. (ComfyUI moves the first node alone to there. diffusers' flow-matching Euler
    calls N nodes from 1 to a minimum that it has shifted twice, and appends 0.)

    Args:
      steps: N >= 1, the number of denoiser calls.
      shift: > 0; more than 1 spends more steps at high noise, as large images need.
      t_max: first u, in (0, 1].

    Returns:
      A grid whose `time` is sigma; networks that count to 1000 multiply it.

    Raises:
      ValueError: steps < 1, or not 0 < shift < inf, or not 0 < t_max <= 1.

    References:
      Esser et al., arXiv:2403.03206, equation 23 (sqrt(m / n) there is the shift).
    """
    check_steps(steps)
    _check_rising(shift=shift)
    _check_rising(1.0, t_max=t_max)
    shift, t_max, rest = as_floats(shift, t_max, 1 - t_max)
    # 1 - u as a grid of its own: a difference would lose alpha where u is near 1
    shifted, rest = shift * _falling(t_max, 0.0, steps + 1), jnp.linspace(rest, 1.0, steps + 1)
    sigma = shifted / (rest + shifted)
    return Grid(time=sigma, alpha=rest / (rest + shifted), sigma=sigma)


def is_concrete(*arrays: Any) -> bool:
    """Whether the values can be looked at: false for what jit, vmap and grad pass in."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(arrays))


def as_floats(*values: ArrayLike) -> list[Array]:
    """Arrays of one floating dtype: that of the floating arrays among the values, and float32 at least."""
    arrays = [jnp.asarray(value) for value in values]
    dtype = jnp.result_type(float, *(a for a in arrays if jnp.issubdtype(a.dtype, jnp.floating)))
    dtype = jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype
    return [array.astype(dtype) for array in arrays]


def safe_sqrt(values: Array) -> Array:
    """The square root where values > 0, else 0, with a slope of 0 there rather than an infinite one."""
    positive = values > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, values, 1.0)), 0.0)


def gauss_legendre(points: int, dtype: Any) -> tuple[Array, Array]:
    """Nodes [1, P] on [0, 1] and weights [1, P] of sum 1."""
    nodes, weights = (jnp.asarray(a[None], dtype) for a in np.polynomial.legendre.leggauss(points))
    return (nodes + 1) / 2, weights / 2


def check_scalar(name: str, value: ArrayLike, high: float = math.inf, *, advice: str = "") -> None:
    """Refuses a setting that is not one number in [0, high], or not finite."""
    if jnp.ndim(value) > 0:
        raise ValueError(
            f"{name} must be one number, got shape {jnp.shape(value)}. To sweep it, vmap the function that makes "
            "the plan."
        )
    if is_concrete(value) and not (0 <= np.asarray(value) <= high and np.isfinite(np.asarray(value))):
        allowed = "be at least 0 and finite" if high == math.inf else f"lie in [0, {high:g}]"
        raise ValueError(f"{name} must {allowed}, got {value}.{advice}")


def check_steps(steps: int) -> None:
    """Refuses a grid without a step."""
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}.")


def check_grid(grid: Grid) -> Grid:
    """The grid as arrays of one floating dtype; refuses one that no solver can run.

    Looks at values only where they are concrete.

    Raises:
      ValueError: the three arrays differ in shape or hold fewer than two nodes; one is not finite; alpha or
        sigma is negative; alpha is 0 elsewhere than at a first node with sigma > 0; or lam does not fall.
    """
    shapes = {name: np.shape(getattr(grid, name)) for name in ("time", "alpha", "sigma")}
    shape = shapes["alpha"]
    if len(set(shapes.values())) > 1 or len(shape) != 1 or shape[0] < 2:
        raise ValueError(
            f"a grid holds three arrays [N + 1] of the same length, at least 2, got shapes {shapes}."
        )
    # what the solver sees: nodes that differ in float64 may be equal there
    checked = Grid(*as_floats(grid.time, grid.alpha, grid.sigma))
    if not is_concrete(grid):  # and not `checked`, which is traced inside jit whatever it is made of
        return checked
    dtype = checked.alpha.dtype
    time, alpha, sigma = (np.asarray(leaf).astype(dtype) for leaf in (grid.time, grid.alpha, grid.sigma))
    for name, values in (("alpha", alpha), ("sigma", sigma)):
        bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
        if bad.size:
            raise ValueError(
                f"{name} must be finite and not negative, got {values[bad[0]]} at node {bad[0]}."
            )
    if not np.isfinite(time).all():
        raise ValueError(f"the network's time must be finite, got {time}.")
    no_signal = np.flatnonzero((alpha == 0) & ((np.arange(len(alpha)) > 0) | (sigma == 0)))
    if no_signal.size:
        i = no_signal[0]
        raise ValueError(
            f"alpha = 0 with sigma = {sigma[i]} at node {i}. Only the first node may have alpha = 0 (lam infinite), "
            "and sigma > 0 there."
        )
    lam = np.divide(sigma, alpha, out=np.full_like(sigma, np.inf), where=alpha != 0)
    stuck = np.flatnonzero(lam[1:] >= lam[:-1])
    if stuck.size:
        i = stuck[0]
        advice = (
            "Drop repeated nodes, or end a scheduler's grid with final='zero'."
            if lam[i + 1] == lam[i]
            else "Nodes are given noisy first."
        )
        raise ValueError(
            "lam = sigma / alpha must fall from node to node, "
            f"got {lam[i]} at node {i} and {lam[i + 1]} at node {i + 1}. {advice}"
        )
    return checked


class Steps(NamedTuple):
    """The N steps of a grid in lam, with substitutes where lam is infinite or 0.

    Logarithms and their gradients see the substitutes; a solver overwrites those rows afterwards (the double
    `where` of automatic differentiation).
    """

    high: Array  # [N] lam_s; a multiple of lam_t where it is infinite
    low: Array  # [N] lam_t; lam_s / 2 where it is 0
    length: Array  # [N] L = log(high / low)
    final: Array  # [N] bool, lam_t = 0
    unbounded: Array  # [N] bool, lam_s infinite


def steps_of(grid: Grid) -> Steps:
    """The steps of a grid, for a solver."""
    high, low = grid.lam[:-1], grid.lam[1:]
    final, unbounded = low == 0, jnp.isinf(high)
    high = jnp.where(unbounded, jnp.where(final, 1.0, 1e4 * low), high)
    low = jnp.where(final, high / 2, low)
    return Steps(high, low, jnp.log1p((high - low) / low), final, unbounded)


def _falling(high: Array, low: Array | float, nodes: int) -> Array:
    """Evenly spaced numbers from high down to low."""
    # counted from below, where rounding would show most; one node is `high`
    return jnp.linspace(low, high, max(nodes, 2))[::-1][:nodes]


def _with_zero(grid: Grid) -> Grid:
    """With a last node of alpha = 1, sigma = 0 and time 0."""
    return Grid(
        time=jnp.pad(grid.time, (0, 1)),
        alpha=jnp.pad(grid.alpha, (0, 1), constant_values=1),
        sigma=jnp.pad(grid.sigma, (0, 1)),
    )


def _check_rising(top: float = math.inf, **values: ArrayLike) -> None:
    """Refuses named values unless 0 < first < second < ... <= top; top itself only where it is finite."""
    if not is_concrete(values):
        return
    levels = [np.asarray(value) for value in (0.0, *values.values())]
    rising = all(np.all(low < high) for low, high in itertools.pairwise(levels))
    if not (rising and np.all(np.isfinite(levels[-1]) & (levels[-1] <= top))):
        expected = " < ".join(["0", *values]) + (" < inf" if top == math.inf else f" <= {top:g}")
        got = ", ".join(f"{name} = {value}" for name, value in values.items())
        raise ValueError(f"expected {expected}, got {got}.")
