"""Which sampler is best for so many calls: all plans on data whose exact denoiser is known.

Gaussian data make every plan linear. With g_i = alpha_i s^2 / (alpha_i^2 s^2 + sigma_i^2) the prediction is
D_i = g_i x_i, so that v = (x_i, D_{i-1}, ..., D_{i-K+1}) has the covariance

    P <- M P M^T + noise_i^2 e e^T,     M = [[keep_i + history_{i,0} g_i, history_{i,1}, ...],
                                             [g_i, 0, ...], [0, 1, 0, ...], ...]             (1)

from P = (alpha_0^2 s^2 + sigma_0^2) e e^T, e the first unit vector: the output's standard deviation without drawing
a sample. Mixtures need samples: outputs are compared with exact draws, beside what other exact draws get.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil import keys
from jaxcil.evaluation.samplers.distances import energy_distance, sliced_wasserstein, unit_directions
from jaxcil.solvers import (
    GaussianMixture,
    Grid,
    Plan,
    ancestral,
    ddim,
    dpmpp_2m,
    er_sde,
    er_sde_comfy,
    er_sde_official,
    euler_maruyama,
    heun,
    karras_grid,
    ode,
    pad,
    phi,
    sample,
    sde_dpmpp_2m,
    stack,
)


class Sampler(NamedTuple):
    """A solver as it is compared."""

    label: str
    solver: Callable[[Grid], Plan]
    calls_per_step: int = 1


SAMPLERS = {
    "er_sde_1": Sampler("ER-SDE 1", lambda grid: er_sde(grid, order=1)),
    "er_sde_2": Sampler("ER-SDE 2", lambda grid: er_sde(grid, order=2)),
    "er_sde_3": Sampler("ER-SDE 3 published", er_sde),
    "er_sde_official": Sampler(
        "ER-SDE 3 authors' code", lambda grid: er_sde_official(grid, phi_type=7, order=3)
    ),
    "er_sde_comfy": Sampler("ER-SDE 3 ComfyUI", er_sde_comfy),
    "er_sde_3_corrected": Sampler("ER-SDE 3 corrected", lambda grid: er_sde(grid, derivative="corrected")),
    "er_sde_3_corrector": Sampler(
        "ER-SDE 3 corrected + corrector start",
        lambda grid: er_sde(grid, derivative="corrected", start="corrector"),
    ),
    "er_sde_3_log_lam": Sampler(
        "ER-SDE 3 corrected + corrector start, log lam",
        lambda grid: er_sde(grid, derivative="corrected", start="corrector", basis="log_lam"),
    ),
    "er_ode_3_corrector": Sampler(
        "ER-ODE 3 corrected + corrector start",
        lambda grid: er_sde(grid, ode(), derivative="corrected", start="corrector"),
    ),
    "ddim": Sampler("DDIM", ddim),
    "ancestral": Sampler("ancestral", ancestral),
    "euler_maruyama": Sampler("Euler-Maruyama", lambda grid: euler_maruyama(grid, phi(7))),
    "dpmpp_2m": Sampler("DPM++ 2M", dpmpp_2m),
    "sde_dpmpp_2m": Sampler("SDE-DPM++ 2M", sde_dpmpp_2m),
    "heun": Sampler("Heun (EDM)", heun, calls_per_step=2),
}

# What stands beside samplers: the best that can be reached, and beside a model reality.
BASELINES = {"exact": "exact", "limit": "the model's limit", "real": "other real images"}


def plans_of(samplers: Iterable[Sampler], grid_of: Callable[[int], Grid], calls: int) -> Plan:
    """Samplers as one stack of plans of equally many calls.

    Heun's method has 2n - 1 calls on a grid of n steps that ends at lam = 0: it gets the largest such number up to
    `calls`, and a call that is not used where that is one less.

    Args:
      samplers: what is compared.
      grid_of: the grid of a number of steps.
      calls: denoiser calls of each plan.
    """

    def plan(sampler: Sampler) -> Plan:
        return pad(sampler.solver(grid_of(-(-calls // sampler.calls_per_step))), calls)

    return stack([plan(sampler) for sampler in samplers])


def output_std(plan: Plan, std: Array) -> Array:
    """Exact standard deviations [D] of a plan's output on N(0, diag(std^2)), by (1).

    x at the first node has the variance alpha_0^2 std^2 + sigma_0^2, that of noised data. Meant for float64.

    Args:
      plan: any, of any history and alpha.
      std: [D], those of the data.
    """
    e = jnp.zeros(plan.history.shape[-1], std.dtype).at[0].set(1)

    def of_one(s: Array) -> Array:
        def row(covariance: Array, i: Array) -> tuple[Array, None]:
            alpha, sigma = plan.alpha[i], plan.sigma[i]
            g = alpha * s**2 / (alpha**2 * s**2 + sigma**2)
            new_x = plan.history[i].at[0].set(plan.keep[i] + plan.history[i, 0] * g)
            # row 1 is the prediction just made, later rows move the older ones on
            moves = jnp.concatenate([new_x[None], (g * e)[None], jnp.eye(len(e), dtype=e.dtype)[1:]])[
                : len(e)
            ]
            spread = jnp.matmul(moves, covariance, precision=jax.lax.Precision.HIGHEST)
            spread = jnp.matmul(spread, moves.T, precision=jax.lax.Precision.HIGHEST)
            return spread + plan.noise[i] ** 2 * jnp.outer(e, e), None

        start = (plan.alpha[0] ** 2 * s**2 + plan.sigma[0] ** 2) * jnp.outer(e, e)
        covariance, _ = jax.lax.scan(row, start, jnp.arange(plan.rows))
        return jnp.sqrt(covariance[0, 0])

    return jax.vmap(of_one)(std)


def gaussian_quality(names: Sequence[str], calls: int) -> dict[str, float]:
    """Exact 2-Wasserstein distances of samplers on an anisotropic Gaussian, sqrt(sum (std_out - std)^2).

    16 dimensions with standard deviations from 0.02 to 1, on EDM's grid; in float64, whatever the process has.

    Returns:
      A distance by name. "exact" is that of an exact solution down to the last node with noise, which then denoises.
    """
    with jax.enable_x64(True):
        plans = plans_of((SAMPLERS[name] for name in names), karras_grid, calls)
        std = jnp.geomspace(0.02, 1.0, 16)
        outputs = _output_stds(plans, std)
        denoised = std**2 / jnp.hypot(std, plans.sigma[0, -2])
        distances = jnp.sqrt(jnp.sum((jnp.concatenate([denoised[None], outputs]) - std[None]) ** 2, 1))
        return dict(zip(("exact", *names), np.asarray(distances).tolist()))


def ring() -> GaussianMixture:
    """Eight equal Gaussians of standard deviation 0.05 on the unit circle."""
    angles = jnp.arange(8.0) * (jnp.pi / 4)
    means = jnp.stack([jnp.cos(angles), jnp.sin(angles)], 1)
    return GaussianMixture(jnp.full(8, 1 / 8), means, jnp.full(8, 0.05))


def mixture() -> GaussianMixture:
    """Ten Gaussians in 16 dimensions, with weights from 1 to 10 and standard deviations from 0.4 to 0.04."""
    weights = jnp.arange(1.0, 11.0)
    means = jax.random.normal(jax.random.key(0), (10, 16)) / 2
    return GaussianMixture(weights / weights.sum(), means, jnp.geomspace(0.4, 0.04, 10))


MIXTURES = {"ring": ring, "mixture": mixture}


def mixture_quality(
    names: Sequence[str], data: GaussianMixture, calls: int, key: Array, *, points: int, directions: int
) -> dict[str, dict[str, float]]:
    """Sliced Wasserstein and energy distances of samplers to exact draws, on EDM's grid; one repetition.

    All samplers, at all numbers of calls, start from the same points and are compared with the same draws, so that
    their differences are less noisy than the distances. The start is noised data, so that all error is the plan's.

    Args:
      names: of the samplers.
      data: what is to be drawn.
      calls: of the denoiser.
      key: of the repetition.
      points: drawn by each sampler; the energy distance takes a quarter of them.
      directions: of the sliced Wasserstein distance.

    Returns:
      Measure -> name -> distance; "exact" is that of other exact draws.
    """
    plans = plans_of((SAMPLERS[name] for name in names), karras_grid, calls)
    distances = _mixture_distances(plans, data, key, points, directions)
    return {
        measure: dict(zip(("exact", *names), np.asarray(values).tolist()))
        for measure, values in distances.items()
    }


_output_stds = jax.jit(jax.vmap(output_std, in_axes=(0, None)))


@functools.partial(jax.jit, static_argnums=(3, 4))
def _mixture_distances(
    plans: Plan, data: GaussianMixture, key: Array, points: int, directions: int
) -> dict[str, Array]:
    """Measures [1 + plans], exact draws first."""
    exact, other, clean = (
        data.draw(keys.purpose_key(key, purpose), points) for purpose in ("exact", "other", "start")
    )
    epsilon = jax.random.normal(keys.purpose_key(key, "start noise"), clean.shape, clean.dtype)
    start = plans.alpha[0, 0] * clean + plans.sigma[0, 0] * epsilon

    def drawn(plan: Plan) -> Array:
        return sample(plan, data.denoiser, start, keys.purpose_key(key, "noise"))

    outputs = jax.lax.map(drawn, plans)  # one after the other: faster on a CPU than under vmap
    outputs = jnp.concatenate([other[None], outputs])
    rays = unit_directions(keys.purpose_key(key, "directions"), directions, clean.shape[1])
    few = points // 4
    return {
        "sliced_wasserstein": jax.vmap(lambda x: sliced_wasserstein(x, exact, rays))(outputs),
        "energy_distance": jax.vmap(lambda x: energy_distance(x[:few], exact[:few]))(outputs),
    }
