import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.solvers import Grid, ancestral, ddim, grid_from_sigmas, karras_grid

FILES = ["eulera_leading10", "eulera_trailing15"]


def test_equals_diffusers(golden, check_against_diffusers, x64, strict_dtypes):
    check_against_diffusers(golden(f"samplers/{FILES[0]}.npz"), ancestral)


def test_equals_diffusers_in_float32(golden, check_against_diffusers, strict_dtypes):
    check_against_diffusers(golden(f"samplers/{FILES[0]}.npz"), ancestral)


@pytest.mark.golden
@pytest.mark.parametrize("double", [True, False], ids=["float64", "float32"])
@pytest.mark.parametrize("name", FILES)
def test_equals_diffusers_on_all_files(name, double, full_golden, check_against_diffusers):
    with jax.enable_x64(double), np.load(full_golden / "samplers" / f"{name}.npz") as arrays:
        check_against_diffusers(dict(arrays), ancestral)


def test_is_ddim_up_to_eta_1():
    grid = karras_grid(12)
    for eta in (0.0, 0.4, 1.0):
        jax.tree.map(np.testing.assert_array_equal, ancestral(grid, eta), ddim(grid, eta))


def test_noise_is_capped_at_the_level_of_the_node():
    # 3 to 0.1 asks for 1.3 lam_t at eta 1.3, 0.1 to 0.09 for 0.57 lam_t: the first step starts anew.
    plan = ancestral(grid_from_sigmas(jnp.asarray([3.0, 0.1, 0.09])), 1.3)
    np.testing.assert_allclose([plan.keep[0], plan.history[0, 0], plan.noise[0]], [0, 1, 0.1], rtol=1e-6)
    assert 0 < plan.noise[1] < 0.09
    np.testing.assert_allclose(
        (plan.keep * plan.sigma[:-1]) ** 2 + plan.noise**2, plan.sigma[1:] ** 2, rtol=1e-5
    )


@pytest.mark.parametrize("eta", [0.3, 0.999, 1.0, 1.3])
@pytest.mark.parametrize("steps", [2, 6, 300])
def test_coefficients_are_right_in_float32(eta, steps, strict_dtypes):
    # 80 to 0.002 in one step leaves 6e-10 of x, and 300 steps 0.96 of it: both must be right.
    eta = float(np.float32(eta))
    single = ancestral(karras_grid(steps), eta)
    with jax.enable_x64(True):
        exact = ancestral(grid_from_sigmas(np.asarray(single.sigma, np.float64)), eta)
    for name in ("keep", "history", "noise"):
        np.testing.assert_allclose(getattr(single, name), getattr(exact, name), rtol=2e-6, err_msg=name)


def test_noisy_step_from_pure_noise_is_refused_or_the_limit_of_a_large_lam():
    grid = Grid(jnp.arange(3.0)[::-1], jnp.asarray([0.0, 0.3, 1.0]), jnp.asarray([1.0, 0.7, 0.0]))
    with pytest.raises(ValueError, match="first-sigma rule"):
        ancestral(grid)
    near = Grid(grid.time, jnp.asarray([1e-6, 0.3, 1.0]), grid.sigma)
    for eta in (0.5, 1.0):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
            jax.jit(ancestral)(grid, eta),
            ancestral(near, eta),
        )


def test_gradient_is_finite_on_both_sides_of_the_cap():
    def total(eta):
        plan = ancestral(karras_grid(6), eta)
        return jnp.sum(plan.keep) + jnp.sum(plan.history) + jnp.sum(plan.noise)

    assert np.isfinite(jax.vmap(jax.grad(total))(jnp.asarray([0.0, 0.5, 1.0, 1.01, 1.5]))).all()


def test_negative_eta_is_refused():
    with pytest.raises(ValueError, match=r"eta must be at least 0 and finite, got -0.5"):
        ancestral(karras_grid(4), -0.5)
