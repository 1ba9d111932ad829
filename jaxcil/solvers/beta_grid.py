"""Grids of networks that were trained on a table of T betas: DDPM, Stable Diffusion.

    abar_i = (1 - beta_0) ... (1 - beta_i),    alpha = sqrt(abar),    lam = sqrt((1 - abar) / abar)

and time i = 0 .. T - 1. A run visits some of these times, in one of three spacings and in the manner of one of
diffusers' schedulers, or any noise levels at all, with fractional times between (`beta_nodes`). Tables are
numpy arrays, computed on the host in float64.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxcil.solvers.grid import Grid, as_floats, check_steps

# What diffusers' scheduler classes assume where a config does not hold `timestep_spacing`.
_DEFAULT_SPACING = {"ddim": "leading", "dpm": "linspace", "euler": "linspace"}
# Options that change the nodes in ways `scheduler_grid` does not follow, with the values that change nothing.
_UNSUPPORTED = {
    "use_dynamic_shifting": False,
    "sigma_data": None,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "use_flow_sigmas": False,
    "use_lu_lambdas": False,
    "interpolation_type": "linear",
    "timestep_type": "discrete",
    "lambda_min_clipped": -math.inf,
}
# abar in place of 0 where lam must be finite, as in diffusers: the smallest positive number of float16.
_LEAST_ABAR = 2.0**-24


def beta_schedule(name: str, count: int = 1000, start: float = 1e-4, end: float = 0.02) -> np.ndarray:
    """The betas [T] that networks are commonly trained with.

        "linear"         from start to end
        "scaled_linear"  sqrt(beta) from sqrt(start) to sqrt(end); Stable Diffusion, 0.00085 to 0.012
        "cosine"         min(1 - f((i + 1) / T) / f(i / T), 0.999),    f(t) = cos((t + 0.008) / 1.008 pi / 2)^2

    Args:
      name: one of the three; diffusers calls the last squaredcos_cap_v2.
      count: T >= 1.
      start: first beta of the linear ones, in (0, 1).
      end: last beta of the linear ones, in [start, 1).

    Raises:
      ValueError: an unknown name, or betas that would not lie in (0, 1).

    References:
      Ho, Jain and Abbeel, arXiv:2006.11239, section 4; Nichol and Dhariwal, arXiv:2102.09672, equation 17.
    """
    if count < 1 or not 0 < start <= end < 1:
        raise ValueError(f"expected count >= 1 and 0 < start <= end < 1, got {count}, {start} and {end}.")
    if name == "linear":
        return np.linspace(start, end, count)
    if name == "scaled_linear":
        return np.linspace(start**0.5, end**0.5, count) ** 2
    if name == "cosine":
        f = np.cos((np.arange(count + 1) / count + 0.008) / 1.008 * np.pi / 2) ** 2
        return np.minimum(1 - f[1:] / f[:-1], 0.999)
    raise ValueError(f"a beta schedule is 'linear', 'scaled_linear' or 'cosine', got {name!r}.")


def zero_terminal_snr(betas: ArrayLike) -> np.ndarray:
    """Betas [T] whose last alpha is 0: sqrt(abar) shifted and scaled, its first value kept.

    The last beta is then 1. A network that predicts epsilon says nothing about x0 there.

    References:
      Lin, Liu, Li and Yang, arXiv:2305.08891, algorithm 1.
    """
    alpha = np.sqrt(_abar(betas))
    abar = ((alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])) ** 2
    return 1 - np.append(abar[0], abar[1:] / abar[:-1])


def scheduler_betas(scheduler_config: Mapping[str, Any]) -> np.ndarray:
    """The betas [T] that a diffusers `scheduler_config.json` defines.

    Args:
      scheduler_config: the file as a mapping. Read are num_train_timesteps, beta_schedule, beta_start, beta_end,
        trained_betas and rescale_betas_zero_snr; absent ones have diffusers' defaults.

    Raises:
      ValueError: an unknown schedule.
    """
    if scheduler_config.get("trained_betas") is not None:
        betas = np.asarray(scheduler_config["trained_betas"], np.float64)
    else:
        name = scheduler_config.get("beta_schedule", "linear")
        betas = beta_schedule(
            "cosine" if name == "squaredcos_cap_v2" else name,
            scheduler_config.get("num_train_timesteps", 1000),
            scheduler_config.get("beta_start", 1e-4),
            scheduler_config.get("beta_end", 0.02),
        )
    return zero_terminal_snr(betas) if scheduler_config.get("rescale_betas_zero_snr") else betas


def beta_grid(
    betas: ArrayLike, steps: int, spacing: str = "leading", *, steps_offset: int = 0, final: str = "zero"
) -> Grid:
    """The grid of a table of betas, at whole times.

    Args:
      betas: [T] in (0, 1), the schedule the network was trained with; the last may be 1 (alpha = 0).
      steps: N in [1, T].
      spacing: "leading" (T // N apart, from steps_offset up), "trailing" (T / N apart, from T - 1 down) or
        "linspace" (from T - 1 to 0, rounded).
      steps_offset: added to every time of the leading spacing; Stable Diffusion has 1.
      final: the last node. "zero": lam = 0, the last step denoises fully. "sigma_min": the noise
        level of time 0, which leaves a little noise in the result.

    Returns:
      A grid with N + 1 nodes; `time` is the position in `betas`.

    Raises:
      ValueError: betas outside (0, 1), an unknown option, or more steps than fit.
    """
    table = _lam(_abar(betas))
    times = _called_times(len(table), steps, spacing, steps_offset, "ddim")
    return _vp_grid(times, table[times.astype(int)], _final_lam(final, table), 0)


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

    The two last end as the file's `final_sigmas_type` says, at lam = 0 where it is absent. With
    `use_karras_sigmas` they take the noise levels of `karras_grid`, rho 7: "dpm" between the ends of the whole
    table, with whole times, "euler" between the first and the last of its own levels, with fractional times.
    With `rescale_betas_zero_snr` the last training time has alpha = 0 for "ddim" and abar = 2^-24 for the others.

    Args:
      scheduler_config: the file as a mapping. Read are the keys of `scheduler_betas`, timestep_spacing,
        steps_offset, set_alpha_to_one, final_sigmas_type, use_karras_sigmas, sigma_min and sigma_max (of Karras
        levels); absent ones have diffusers' defaults. Others, such as prediction_type, do not move the nodes.
      steps: N >= 1.
      convention: "ddim", "dpm" or "euler".
      final: the last node, whatever the file says. "zero": lam = 0, the last step denoises fully.
        "sigma_min": the noise level of time 0. None: the convention's own rule, above.

    Raises:
      ValueError: an option that this function does not follow, such as exponential sigmas.
    """
    _check_followed(scheduler_config, convention)
    abar = _abar(scheduler_betas(scheduler_config))
    table = _lam(abar if convention == "ddim" else np.where(abar == 0, _LEAST_ABAR, abar))
    spacing = scheduler_config.get("timestep_spacing") or _DEFAULT_SPACING[convention]
    times = _called_times(len(table), steps, spacing, scheduler_config.get("steps_offset", 0), convention)
    lam = np.interp(times, np.arange(len(table)), table)
    if scheduler_config.get("use_karras_sigmas"):
        times, lam = _karras(scheduler_config, table, lam, convention)
    below = 0.0  # the network's time at the last node
    if final is not None:
        last = _final_lam(final, table)
    elif convention == "ddim":
        below = times[-1] - len(table) // steps
        last = table[int(below)] if below >= 0 else 0.0
        if below < 0 and not scheduler_config.get("set_alpha_to_one", True):
            last = table[0]
    else:
        last = _final_lam(scheduler_config.get("final_sigmas_type", "zero"), table)
    return _vp_grid(times, lam, last, max(below, 0.0))


def beta_nodes(betas: ArrayLike, lam: ArrayLike) -> Grid:
    """The grid of any noise levels for a network that was trained on a table of betas.

    alpha^2 + sigma^2 = 1, and the time is interpolated linearly in log lam over the table. So Stable Diffusion
    runs on other levels than its own:

        beta_nodes(scheduler_betas(config), karras_grid(20, 0.03, 14.6).sigma)

    Args:
      betas: [T] in (0, 1), values and not traced; the last may be 1.
      lam: [N + 1] sigma / alpha; differentiable, and may be traced. The first may be infinite, the last 0.

    Returns:
      A grid whose `time` is a fractional position in `betas`, 0 and T - 1 beyond the table's ends.

    Raises:
      ValueError: betas outside (0, 1).
    """
    abar = _abar(betas)
    table = _lam(np.where(abar == 0, _LEAST_ABAR, abar))
    (lam,) = as_floats(lam)
    noise_only = jnp.isinf(lam)
    finite = jnp.where(noise_only, 1.0, lam)  # double where
    alpha = 1 / jnp.hypot(1.0, finite)
    log_lam = jnp.log(jnp.clip(lam, table[0].item(), table[-1].item()))
    time = jnp.interp(log_lam, jnp.asarray(np.log(table), lam.dtype), jnp.arange(len(table), dtype=lam.dtype))
    return Grid(
        time=time,
        alpha=jnp.where(noise_only, 0.0, alpha),
        sigma=jnp.where(noise_only, 1.0, finite * alpha),
    )


def _abar(betas: ArrayLike) -> np.ndarray:
    betas = np.asarray(betas, np.float64)
    if betas.ndim != 1 or not (np.all((betas > 0) & (betas <= 1)) and np.all(betas[:-1] < 1)):
        raise ValueError(
            f"betas must be [T] in (0, 1), the last at most 1, got shape {betas.shape} from {betas.min()} to "
            f"{betas.max()}."
        )
    return np.cumprod(1 - betas)


def _lam(abar: np.ndarray) -> np.ndarray:
    return np.sqrt(np.divide(1, abar, out=np.full_like(abar, np.inf), where=abar > 0) - 1)


def _called_times(count: int, steps: int, spacing: str, offset: int, convention: str) -> np.ndarray:
    """The N times at which a scheduler calls the network, high to low, as float64."""
    check_steps(steps)
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


def _karras(
    config: Mapping[str, Any], table: np.ndarray, called: np.ndarray, convention: str
) -> tuple[np.ndarray, np.ndarray]:
    """Times and noise levels of N calls; `called` [N] are the levels without Karras'."""
    ends = table[[-1, 0]] if convention == "dpm" else called[[0, -1]]
    high, low = (
        end if config.get(name) is None else config[name]
        for name, end in zip(("sigma_max", "sigma_min"), ends)
    )
    lam = np.linspace(high ** (1 / 7), low ** (1 / 7), len(called)) ** 7
    times = np.interp(np.log(lam), np.log(table), np.arange(len(table)))
    if convention == "dpm":
        # diffusers rounds but for this schedule, and casts to whole numbers after all
        cut = config.get("beta_schedule") == "squaredcos_cap_v2"
        times = np.floor(times) if cut else np.round(times)
    return times, lam


def _final_lam(final: str, table: np.ndarray) -> float:
    if final == "zero":
        return 0.0
    if final == "sigma_min":
        return float(table[0])
    raise ValueError(f"final must be 'zero' or 'sigma_min', got {final!r}.")


def _vp_grid(times: np.ndarray, lam: np.ndarray, last: float, last_time: float) -> Grid:
    lam = np.append(lam, last)
    alpha = 1 / np.sqrt(1 + lam**2)
    sigma = np.multiply(lam, alpha, out=np.ones_like(lam), where=np.isfinite(lam))
    return Grid(jnp.asarray(np.append(times, float(last_time))), jnp.asarray(alpha), jnp.asarray(sigma))


def _check_followed(config: Mapping[str, Any], convention: str) -> None:
    if convention not in _DEFAULT_SPACING:
        raise ValueError(f"convention must be one of {', '.join(_DEFAULT_SPACING)}, got {convention!r}.")
    scheduler = str(config.get("_class_name", ""))
    if scheduler.startswith(("FlowMatch", "EDM")) or config.get("shift") not in (None, 1.0):
        raise ValueError(
            f"the config is that of {scheduler or 'a flow model'}, which has no table of betas. "
            "Take flow_grid(steps, shift) for a flow model, karras_grid(steps, sigma_min, sigma_max) for EDM."
        )
    for option, harmless in _UNSUPPORTED.items():
        if config.get(option) not in (None, harmless):
            raise ValueError(
                f"the scheduler config sets {option}, which scheduler_grid does not follow. "
                "Remove it, or build the nodes with beta_nodes."
            )
    if convention == "ddim" and config.get("use_karras_sigmas"):
        raise ValueError(
            "the scheduler config sets use_karras_sigmas, which DDIM does not know. "
            "Take convention 'dpm' or 'euler', remove it, or build the nodes with beta_nodes."
        )
