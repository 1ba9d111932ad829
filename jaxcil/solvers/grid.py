"""The nodes of a sampling run, noisy first.

Every family of diffusion models is x = alpha x0 + sigma epsilon. In y = x / alpha and lam = sigma / alpha all
of them are y = x0 + lam epsilon, so a solver reads nothing but lam and the grid brings alpha, sigma and
the network's own time along:

    VE, EDM         alpha = 1,              lam = sigma
    VP, DDPM        alpha = sqrt(abar),     lam = sqrt((1 - abar) / abar)
    rectified flow  alpha = 1 - sigma,      lam = sigma / (1 - sigma)

A run of N steps has N + 1 nodes. The last may have lam = 0: the run then ends in a denoised sample.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

# What diffusers' scheduler classes assume where a config does not hold `timestep_spacing`.
_DEFAULT_SPACING = {"ddim": "leading", "dpm": "linspace", "euler": "linspace"}
# Options that change the nodes in ways `scheduler_grid` does not follow.
_UNSUPPORTED = (
    "rescale_betas_zero_snr",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "use_flow_sigmas",
    "use_lu_lambdas",
)


@flax.struct.dataclass
class Grid:
    """Nodes [N + 1] with lam strictly decreasing; alpha may be 0 at the first node, sigma at the last."""

    time: Array  # what the network calls the node: sigma of EDM, 0 .. 999 of Stable Diffusion
    alpha: Array
    sigma: Array

    @property
    def lam(self) -> Array:
        """sigma / alpha [N + 1]; infinite where alpha = 0."""
        alpha, sigma = jnp.asarray(self.alpha), jnp.asarray(self.sigma)
        noise_only = alpha == 0  # double where: no NaN in the gradient of the division
        return jnp.where(noise_only, jnp.inf, sigma / jnp.where(noise_only, 1.0, alpha))


def grid_from_sigmas(sigmas: ArrayLike) -> Grid:
    """A VE grid (alpha = 1, time = sigma) of the noise levels [N + 1] given."""
    sigmas = jnp.asarray(sigmas)
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
      rho: how strongly the nodes crowd at low noise.
      final_zero: N nodes and then 0, as in EDM's sampler. Otherwise N + 1 nodes that end at sigma_min.

    References:
      Karras, Aittala, Aila and Laine, arXiv:2206.00364, equation 5.
    """
    _check_steps(steps)
    high, low = jnp.asarray(sigma_max) ** (1 / rho), jnp.asarray(sigma_min) ** (1 / rho)
    sigmas = jnp.linspace(high, low, steps if final_zero else steps + 1) ** rho
    return grid_from_sigmas(jnp.append(sigmas, 0.0) if final_zero else sigmas)


def log_grid(steps: int, lam_max: ArrayLike, lam_min: ArrayLike) -> Grid:
    """A VE grid of N + 1 nodes, uniform in log lam from lam_max to lam_min > 0."""
    _check_steps(steps)
    return grid_from_sigmas(jnp.geomspace(lam_max, lam_min, steps + 1))


def beta_grid(
    betas: ArrayLike, steps: int, spacing: str = "leading", *, steps_offset: int = 0, final: str = "zero"
) -> Grid:
    """The grid of a discrete VP schedule; computed on the host in float64.

    Args:
      betas: [T] in (0, 1), the schedule the network was trained with.
      steps: N in [1, T].
      spacing: "leading" (T // N apart, from steps_offset up), "trailing" (T / N apart, from T - 1 down) or
        "linspace" (from T - 1 to 0, rounded).
      steps_offset: added to every time of the leading spacing; Stable Diffusion has 1.
      final: the last node. "zero": lam = 0, the last step denoises fully. "sigma_min": the noise
        level of time 0, which leaves a little noise in the result.

    Returns:
      A grid with N + 1 nodes; `time` is the position in `betas`.
    """
    abar = np.cumprod(1.0 - np.asarray(betas, np.float64))
    times = _called_times(len(abar), steps, spacing, steps_offset, "ddim")
    return _vp_grid(times, np.sqrt(1 / abar[times.astype(int)] - 1), _final_lam(final, abar))


def scheduler_grid(
    scheduler_config: Mapping[str, Any], steps: int, convention: str = "ddim", final: str | None = None
) -> Grid:
    """The nodes that a diffusers scheduler would visit, from its `scheduler_config.json`.

    One file gives other times to other schedulers, hence `convention`:

    - "ddim" (DDIM, PNDM's file): spacing "leading" unless the file names one. DDIM steps from its last time t
      to t - T // N; below 0 that is the noise level of time 0 where `set_alpha_to_one` is false (Stable
      Diffusion: the result keeps lam = 0.029) and lam = 0 where it is true. Between its times DDIM
      also steps to t - T // N, which is the next time it calls only if N divides T or the spacing is
      "leading"; a grid joins the called times in all cases.
    - "dpm" (DPM-Solver multistep): "linspace" unless named, N + 1 times of which the lowest is dropped.
    - "euler" (Euler, Euler ancestral, Heun): "linspace" unless named, with fractional times and sigma / alpha
      interpolated between the whole ones.

    The two last end as the file's `final_sigmas_type` says, at lam = 0 where it is absent.

    Args:
      scheduler_config: the file as a mapping. Read are num_train_timesteps, beta_schedule ("linear",
        "scaled_linear"), beta_start, beta_end, trained_betas, timestep_spacing, steps_offset,
        set_alpha_to_one, final_sigmas_type; absent ones have diffusers' defaults.
      steps: N >= 1.
      convention: "ddim", "dpm" or "euler".
      final: the last node, whatever the file says. "zero": lam = 0, the last step denoises fully.
        "sigma_min": the noise level of time 0. None: the convention's own rule, above.

    Raises:
      ValueError: an option that this function does not follow, such as Karras sigmas.
    """
    if convention not in _DEFAULT_SPACING:
        raise ValueError(f"convention must be one of {', '.join(_DEFAULT_SPACING)}, got {convention!r}.")
    for option in _UNSUPPORTED:
        if scheduler_config.get(option):
            raise ValueError(
                f"the scheduler config sets {option}, which scheduler_grid does not follow. "
                "Remove it, or build the nodes with karras_grid, grid_from_sigmas or Grid."
            )
    abar = np.cumprod(1.0 - _scheduler_betas(scheduler_config))
    spacing = scheduler_config.get("timestep_spacing") or _DEFAULT_SPACING[convention]
    offset = scheduler_config.get("steps_offset", 0)
    times = _called_times(len(abar), steps, spacing, offset, convention)
    table = np.sqrt(1 / abar - 1)
    if final is not None:
        last = _final_lam(final, abar)
    elif convention == "ddim":
        below = times[-1] - len(abar) // steps
        last = table[int(below)] if below >= 0 else 0.0
        if below < 0 and not scheduler_config.get("set_alpha_to_one", True):
            last = table[0]
    else:
        last = _final_lam(scheduler_config.get("final_sigmas_type", "zero"), abar)
    return _vp_grid(times, np.interp(times, np.arange(len(abar)), table), last)


def is_concrete(*arrays: Any) -> bool:
    """Whether the values can be looked at: false for what jit, vmap and grad pass in."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(arrays))


def check_grid(grid: Grid) -> None:
    """Refuses a grid that no solver can run; looks at values only where they are concrete.

    Raises:
      ValueError: the three arrays differ in shape, hold fewer than two nodes, or lam is not finite and
        strictly decreasing (lam may be infinite, alpha 0, at the first node).
    """
    shapes = {name: jnp.shape(getattr(grid, name)) for name in ("time", "alpha", "sigma")}
    shape = shapes["alpha"]
    if len(set(shapes.values())) > 1 or len(shape) != 1 or shape[0] < 2:
        raise ValueError(
            f"a grid holds three arrays [N + 1] of the same length, at least 2, got shapes {shapes}."
        )
    if not is_concrete(grid.alpha, grid.sigma):
        return
    alpha, sigma = np.asarray(grid.alpha), np.asarray(grid.sigma)
    lam = np.divide(sigma, alpha, out=np.full_like(sigma, np.inf), where=alpha != 0)
    first = 1 if alpha[0] == 0 else 0
    bad = np.flatnonzero(~(np.isfinite(lam[first:]) & (lam[first:] >= 0))) + first
    if bad.size:
        raise ValueError(
            f"lam = sigma / alpha must be finite and not negative, got {lam[bad[0]]} at node {bad[0]}. "
            "Only the first node may have alpha = 0."
        )
    rising = np.flatnonzero(lam[1:] >= lam[:-1])
    if rising.size:
        i = rising[0]
        raise ValueError(
            f"lam must fall from node to node, got {lam[i]} at node {i} and {lam[i + 1]} at node {i + 1}. "
            "Nodes are given noisy first; drop repeated ones, or end a scheduler's grid with final='zero'."
        )


class Steps(NamedTuple):
    """The N steps of a grid in lam, with stand-ins where lam is infinite or 0.

    Logarithms and their gradients see the stand-ins; a solver overwrites those rows afterwards (the double
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


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}.")


def _scheduler_betas(config: Mapping[str, Any]) -> np.ndarray:
    if config.get("trained_betas") is not None:
        return np.asarray(config["trained_betas"], np.float64)
    count = config.get("num_train_timesteps", 1000)
    start, end = config.get("beta_start", 0.0001), config.get("beta_end", 0.02)
    schedule = config.get("beta_schedule", "linear")
    if schedule == "linear":
        return np.linspace(start, end, count)
    if schedule == "scaled_linear":
        return np.linspace(start**0.5, end**0.5, count) ** 2
    raise ValueError(f"beta_schedule must be 'linear' or 'scaled_linear', got {schedule!r}. Use beta_grid.")


def _called_times(count: int, steps: int, spacing: str, offset: int, convention: str) -> np.ndarray:
    """The N times at which a scheduler calls the network, high to low, as float64."""
    _check_steps(steps)
    extra = 1 if convention == "dpm" else 0  # a time more, of which the lowest is dropped
    if spacing == "leading":
        times = count // (steps + extra) * np.arange(steps + extra)[::-1][:steps] + float(offset)
    elif spacing == "trailing":
        times = np.round(count - np.arange(steps) * (count / steps)) - 1
    elif spacing == "linspace":
        times = np.linspace(0, count - 1, steps + extra)[::-1][:steps]
        times = times if convention == "euler" else np.round(times)
    else:
        raise ValueError(f"spacing must be 'leading', 'trailing' or 'linspace', got {spacing!r}.")
    if times[0] > count - 1 or len(np.unique(times)) < steps:
        raise ValueError(
            f"{steps} steps with {spacing!r} spacing and offset {offset} do not fit into {count} training "
            f"steps: the times would run from {times[0]:g} to {times[-1]:g}. Take fewer steps."
        )
    return times


def _final_lam(final: str, abar: np.ndarray) -> float:
    if final == "zero":
        return 0.0
    if final == "sigma_min":
        return float(np.sqrt(1 / abar[0] - 1))
    raise ValueError(f"final must be 'zero' or 'sigma_min', got {final!r}.")


def _vp_grid(times: np.ndarray, lam: np.ndarray, last: float) -> Grid:
    lam = np.append(lam, last)
    alpha = 1 / np.sqrt(1 + lam**2)
    return Grid(
        time=jnp.asarray(np.append(times, 0.0)), alpha=jnp.asarray(alpha), sigma=jnp.asarray(lam * alpha)
    )
