"""What is compared: the samplers, the measures and the data sets, and quality on data whose exact denoiser is known.

Gaussian data make every plan linear. With g_i = alpha_i s^2 / (alpha_i^2 s^2 + sigma_i^2) the prediction is
D_i = g_i x_i, so that v = (x_i, D_{i-1}, ..., D_{i-K+1}) has the covariance

    P <- M P M^T + noise_i^2 e e^T,     M = [[keep_i + history_{i,0} g_i, history_{i,1}, ...],
                                             [g_i, 0, ...], [0, 1, 0, ...], ...]             (1)

from P = (alpha_0^2 s^2 + sigma_0^2) e e^T, e the first unit vector: the output's standard deviation without drawing
a sample. Mixtures need samples: outputs are compared with exact draws, and so are other exact draws.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil import keys, solvers
from jaxcil.evaluation.samplers.distances import energy_distance, sliced_wasserstein, unit_directions
from jaxcil.solvers import GaussianMixture, Grid, Plan


class Sampler(NamedTuple):
    """A solver as it is compared."""

    label: str
    style: tuple[str, str, str]  # color, marker and dashes of its line
    solver: Callable[[Grid], Plan]
    ode: Callable[[Grid], Plan] | None = None  # its form without noise, where the order of that is measured
    weak: bool = False  # whether its weak order is measured
    nfe_per_step: int = 1
    against: tuple[str, ...] = ()  # samplers whose difference to it is reported


def _er_sde(
    label: str, style: tuple[str, str, str], against: tuple[str, ...] = (), **options: Any
) -> Sampler:
    """ER-SDE with phi 7, with the orders of the ODE and of the SDE."""
    solver, ode = functools.partial(solvers.er_sde, **options), functools.partial(_er_ode, **options)
    return Sampler(label, style, solver, ode, weak=True, against=against)


def _er_ode(grid: Grid, **options: Any) -> Plan:
    return solvers.er_sde(grid, solvers.ode(), **options)


def _official(phi_type: int) -> Callable[[Grid], Plan]:
    return functools.partial(solvers.er_sde_official, phi_type=phi_type, order=3)


CORRECTED: dict[str, Any] = {"derivative": "corrected"}
CORRECTOR = CORRECTED | {"start": "corrector"}
START = "corrected + corrector start"
PEERS = ("dpmpp_2m", "sde_dpmpp_2m")
# Okabe and Ito's palette: orange and red what is corrected, blue what is published, green and grey the peers
SAMPLERS = {
    "er_sde_1": _er_sde("ER-SDE 1", ("#56b4e9", "v", ":"), order=1),
    "er_sde_2": _er_sde("ER-SDE 2", ("#56b4e9", "s", "--"), order=2),
    "er_sde_3": _er_sde("ER-SDE 3 published", ("#0072b2", "o", "-")),
    "er_sde_official": Sampler(
        "ER-SDE 3 authors' code", ("#0072b2", "x", "--"), _official(7), _official(1), weak=True
    ),
    "er_sde_comfy": Sampler("ER-SDE 3 ComfyUI", ("#0072b2", "+", ":"), solvers.er_sde_comfy),
    "er_sde_3_corrected": Sampler(
        "ER-SDE 3 corrected",
        ("#e69f00", "s", "--"),
        functools.partial(solvers.er_sde, **CORRECTED),
        against=("er_sde_3",),
    ),
    "er_sde_3_corrector": _er_sde(
        f"ER-SDE 3 {START}", ("#d55e00", "o", "-"), ("er_sde_3_corrected", "er_sde_3", *PEERS), **CORRECTOR
    ),
    "er_sde_3_log_lam": _er_sde(
        f"ER-SDE 3 {START}, log lam",
        ("#d55e00", "^", ":"),
        ("er_sde_3_corrector",),
        **CORRECTOR,
        basis="log_lam",
    ),
    "er_ode_3_corrector": Sampler(
        f"ER-ODE 3 {START}", ("#cc79a7", "D", "-"), functools.partial(_er_ode, **CORRECTOR), against=PEERS[:1]
    ),
    "ddim": Sampler("DDIM", ("#999999", "v", "-"), solvers.ddim),
    "ancestral": Sampler("ancestral", ("#999999", "P", "--"), solvers.ancestral),
    "euler_maruyama": Sampler(
        "Euler-Maruyama",
        ("#000000", "x", ":"),
        lambda grid: solvers.euler_maruyama(grid, solvers.phi(7)),
        weak=True,
    ),
    "dpmpp_2m": Sampler("DPM++ 2M", ("#009e73", "o", "-"), solvers.dpmpp_2m, solvers.dpmpp_2m),
    "sde_dpmpp_2m": Sampler("SDE-DPM++ 2M", ("#009e73", "^", "--"), solvers.sde_dpmpp_2m),
    "heun": Sampler("Heun (EDM)", ("#000000", "s", "-"), solvers.heun, solvers.heun, nfe_per_step=2),
}

# What samplers are compared with: the best that can be reached, and reality
BASELINES = {"exact": "exact", "limit": "the model's limit", "real": "other real images"}


class Measure(NamedTuple):
    """A number that samplers are compared by."""

    label: str
    axis: str | None = None  # of its panels; None: it has none
    title: str = ""  # follows that of the data set
    floors: tuple[str, ...] = ("exact",)  # baselines that are lines across its panels


MEASURES = {
    "wasserstein": Measure("Wasserstein", "Wasserstein distance"),
    "sliced_wasserstein": Measure("sliced Wasserstein", "sliced Wasserstein distance"),
    "energy_distance": Measure("energy distance"),
    "frechet_to_limit": Measure(
        "Fréchet to the model's limit", "Fréchet distance", ", against the same model's limit", ("limit",)
    ),
    "frechet_to_real": Measure(
        "Fréchet to real images", "Fréchet distance", ", against real ones", ("limit", "real")
    ),
    "precision": Measure("precision"),
    "recall": Measure("recall"),
}


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


class Data(NamedTuple):
    """What is drawn."""

    title: str
    ranked_by: str  # the measure that sorts its tables, and whose differences are reported
    mixture: Callable[[], GaussianMixture] | None = None


DATA = {
    "gaussian": Data("Gaussian, 16-D, exact", "wasserstein"),
    "ring": Data("ring of 8 Gaussians, 2-D", "energy_distance", ring),
    "mixture": Data("mixture of 10 Gaussians, 16-D", "energy_distance", mixture),
    "digits": Data("digits", "frechet_to_limit"),
}


def plans_of(samplers: Iterable[Sampler], grid_of: Callable[[int], Grid], nfe: int) -> Plan:
    """A stack of the samplers' plans, all with the same number of denoiser calls.

    Heun's method has 2n - 1 calls on a grid of n steps that ends at lam = 0: it gets the largest such number up to
    `nfe`, and a call that is not used where that is one less.

    Args:
      samplers: what is compared.
      grid_of: the grid with a number of steps.
      nfe: denoiser calls of each plan.
    """

    def plan(sampler: Sampler) -> Plan:
        return solvers.pad(sampler.solver(grid_of(-(-nfe // sampler.nfe_per_step))), nfe)

    return solvers.stack([plan(sampler) for sampler in samplers])


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
            # row 1 is the new prediction, later rows shift the older ones
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


def gaussian_quality(names: Sequence[str], nfe: int) -> dict[str, float]:
    """Exact 2-Wasserstein distances of samplers on an anisotropic Gaussian, sqrt(sum (std_out - std)^2).

    16 dimensions with standard deviations from 0.02 to 1, on EDM's grid; in float64, whatever the process's default.

    Returns:
      A distance by name. "exact" is that of an exact solution down to the last node with noise, which then denoises.
    """
    with jax.enable_x64(True):
        plans = plans_of((SAMPLERS[name] for name in names), solvers.karras_grid, nfe)
        std = jnp.geomspace(0.02, 1.0, 16)
        outputs = _output_stds(plans, std)
        denoised = std**2 / jnp.hypot(std, plans.sigma[0, -2])
        distances = jnp.sqrt(jnp.sum((jnp.concatenate([denoised[None], outputs]) - std[None]) ** 2, 1))
        return dict(zip(("exact", *names), np.asarray(distances).tolist()))


def mixture_quality(
    names: Sequence[str], data: GaussianMixture, nfe: int, key: Array, *, points: int, directions: int
) -> dict[str, dict[str, float]]:
    """Sliced Wasserstein and energy distances of samplers to exact draws, on EDM's grid; one repetition.

    All samplers, at all numbers of calls, start from the same points and are compared with the same draws, so that
    their differences are less noisy than the distances. The start is noised data, so that all error is the plan's.

    Args:
      names: of the samplers.
      data: the distribution to draw.
      nfe: denoiser calls.
      key: of the repetition.
      points: drawn by each sampler; the energy distance takes a quarter of them.
      directions: of the sliced Wasserstein distance.

    Returns:
      Measure -> name -> distance; "exact" is that of other exact draws.
    """
    plans = plans_of((SAMPLERS[name] for name in names), solvers.karras_grid, nfe)
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
        return solvers.sample(plan, data.denoiser, start, keys.purpose_key(key, "noise"))

    outputs = jax.lax.map(drawn, plans)  # one after the other: faster on a CPU than under vmap
    outputs = jnp.concatenate([other[None], outputs])
    rays = unit_directions(keys.purpose_key(key, "directions"), directions, clean.shape[1])
    few = points // 4
    return {
        "sliced_wasserstein": jax.vmap(lambda x: sliced_wasserstein(x, exact, rays))(outputs),
        "energy_distance": jax.vmap(lambda x: energy_distance(x[:few], exact[:few]))(outputs),
    }
