"""What the tests of several solvers share."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from jaxcil.solvers import GaussianMixture, Grid, Plan, grid_from_sigmas, sample


@pytest.fixture
def output_std() -> Callable[..., float]:
    """Exact standard deviation of a plan's output on N(0, std^2), without sampling."""
    return lambda plan, std=0.5: float(_output_std(plan, std))


@pytest.fixture
def ode_error() -> Callable[[Plan], float]:
    """Relative error of a plan without noise on N(0, 0.5^2), where y / sqrt(0.5^2 + lam^2) is constant."""
    return lambda plan: float(_ode_error(plan))


@pytest.fixture
def check_against_diffusers() -> Callable[..., None]:
    """Runs a solver on the nodes, mixture and noises of a golden file and compares it with diffusers' run.

    float64: rounding of runs that start near 15, over 20 steps. float32: four times the distance between the
    scheduler's own float32 and float64.
    """

    def check(arrays: dict[str, np.ndarray], solver: Callable[[Grid], Plan]) -> None:
        mixture = GaussianMixture(
            *(jnp.asarray(arrays[f"mix_{name}"]) for name in ("weights", "means", "stds"))
        )
        x = jnp.asarray(arrays["x_init"] * arrays["init_noise_sigma"])
        noises = jnp.asarray(arrays["noises"]) if len(arrays["noises"]) else None
        plan = solver(_grid(str(arrays["scheduler"]), arrays["grid"]))
        output, states, _ = sample(plan, mixture.denoiser, x, noises=noises, trajectory=True)
        assert output.dtype == x.dtype
        if x.dtype == jnp.float64:
            np.testing.assert_allclose(states, arrays["xs"], rtol=0, atol=1e-11)
            np.testing.assert_allclose(output, arrays["output"], rtol=0, atol=1e-11)
        else:
            np.testing.assert_allclose(output, arrays["output"], rtol=0, atol=1e-5)
            np.testing.assert_allclose(output, arrays["output_f32"], rtol=0, atol=1e-5)

    return check


def _grid(scheduler: str, nodes: np.ndarray) -> Grid:
    """The nodes of a file in the scale in which its scheduler keeps x."""
    if scheduler.startswith("FlowMatch"):
        return Grid(jnp.asarray(nodes), jnp.asarray(1 - nodes), jnp.asarray(nodes))
    if scheduler.startswith(("DDIM", "DPMSolver")):
        alpha = 1 / np.sqrt(1 + nodes**2)
        return Grid(jnp.asarray(nodes), jnp.asarray(alpha), jnp.asarray(nodes * alpha))
    return grid_from_sigmas(nodes)


@jax.jit
def _ode_error(plan: Plan) -> Array:
    data = GaussianMixture(jnp.ones(1), jnp.zeros((1, 1)), jnp.full(1, 0.5))
    x = sample(plan, data.denoiser, jnp.ones((1, 1)))[0, 0]
    scale = jnp.hypot(0.5 * plan.alpha, plan.sigma)
    return abs(x * scale[0] / scale[-1] - 1)


@jax.jit  # plans padded to the same rows share the program
def _output_std(plan: Plan, std: Array) -> Array:
    """Pushes one unit impulse a source of variance through the run, and sums their squares."""
    data = GaussianMixture(jnp.ones(1), jnp.zeros((1, 1)), jnp.full(1, std))
    sources = plan.rows + 1
    impulses = jnp.eye(sources)[..., None]  # [source, sample, 1]: the start, then the noise of each row
    out = sample(plan, data.denoiser, impulses[0], noises=impulses[1:])
    start = plan.alpha[0] ** 2 * std**2 + plan.sigma[0] ** 2
    return jnp.sqrt(jnp.sum(out[:, 0] ** 2 * jnp.ones(sources).at[0].set(start)))
