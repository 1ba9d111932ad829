"""Properties that every solver has; a new one is a line in SOLVERS."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.solvers import (
    GaussianMixture,
    er_sde,
    er_sde_official,
    karras_grid,
    log_grid,
    ode,
    phi,
    power,
    prior,
    sample,
    scheduler_grid,
)

SOLVERS = {
    "er_sde_1": lambda grid: er_sde(grid, order=1),
    "er_sde_2": lambda grid: er_sde(grid, order=2),
    "er_sde_3": lambda grid: er_sde(grid),
    "er_sde_3_corrected": lambda grid: er_sde(grid, derivative="corrected", start="corrector"),
    "er_sde_ode": lambda grid: er_sde(grid, ode(), derivative="corrected"),
    "er_sde_power": lambda grid: er_sde(grid, power(0.4), order=2),
    "er_sde_riemann": lambda grid: er_sde(grid, phi(3), quadrature="riemann", points=100),
    "er_sde_official": lambda grid: er_sde_official(grid, 7, 3),
}
# Presets that drop noise below a bound, and so keep variances no better than it.
CLIPPED = {"er_sde_official"}
STABLE_DIFFUSION = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def grids():
    return {
        "edm": karras_grid(8),
        "log": log_grid(8, 20.0, 0.05),
        "vp": scheduler_grid({**STABLE_DIFFUSION, "steps_offset": 1, "set_alpha_to_one": False}, 8),
    }


@pytest.fixture(params=["edm", "log", "vp"])
def grid(request):
    return grids()[request.param]


@pytest.fixture
def mixture():
    return GaussianMixture(
        jnp.asarray([0.4, 0.6]), jnp.asarray([[1.0, -1.0], [0.5, 2.0]]), jnp.asarray([0.3, 0.5])
    )


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_plan_is_finite_and_in_the_grid_s_dtype(solver, grid, strict_dtypes):
    plan = solver(grid)
    assert plan.keep.shape == plan.noise.shape == (plan.rows,)
    assert plan.history.shape[0] == plan.rows
    assert plan.time.shape == plan.alpha.shape == plan.sigma.shape == (plan.rows + 1,)
    for leaf in jax.tree.leaves(plan):
        assert leaf.dtype == jnp.float32
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize("name", SOLVERS)
def test_marginal_of_a_point_mass_is_kept(name, grid, strict_dtypes):
    # With D = mu exact, x_i ~ N(alpha_i mu, sigma_i^2): an identity of each row, to float32 rounding.
    plan = SOLVERS[name](grid)
    mean = plan.keep * plan.alpha[:-1] + plan.history.sum(1)
    np.testing.assert_allclose(mean, plan.alpha[1:], rtol=2e-5)
    variance = (plan.keep * plan.sigma[:-1]) ** 2 + plan.noise**2
    np.testing.assert_allclose(variance, plan.sigma[1:] ** 2, rtol=2e-5, atol=2e-6 if name in CLIPPED else 0)


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_plan_made_under_jit_is_the_same(solver, strict_dtypes):
    # Float32 coefficients of order one; the compiler may fuse and reorder.
    grid = grids()["vp"]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        jax.jit(solver)(grid),
        solver(grid),
    )


def test_whole_run_under_jit_is_the_same(mixture, strict_dtypes):
    key = jax.random.key(0)

    def run(grid, key):
        plan = er_sde(grid)
        return sample(plan, mixture.denoiser, prior(plan, key, (4, 2)), key)

    grid = grids()["vp"]
    np.testing.assert_allclose(jax.jit(run)(grid, key), run(grid, key), rtol=1e-5, atol=1e-6)


def test_a_sweep_over_a_leaf_equals_a_loop(mixture):
    etas = jnp.asarray([0.1, 0.7, 1.0])
    grid = grids()["edm"]

    def run(eta):
        plan = er_sde(grid, power(eta))
        return sample(plan, mixture.denoiser, prior(plan, jax.random.key(0), (3, 2)), jax.random.key(0))

    looped = jnp.stack([run(eta) for eta in etas])
    np.testing.assert_allclose(jax.vmap(run)(etas), looped, rtol=1e-5, atol=1e-5)
