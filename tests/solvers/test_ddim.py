import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.solvers import Grid, ddim, er_sde, karras_grid, log_grid, ode, pad, power

STOCHASTIC = functools.partial(ddim, eta=1.0)
FILES = {
    "ddim_eta0_leading10": ddim,
    "ddim_eta1_trailing10": STOCHASTIC,
    "euler_leading10": ddim,
    "euler_trailing10_v": ddim,
    "flowmatch_shift3_12": ddim,
}
STORED = ["ddim_eta1_trailing10", "flowmatch_shift3_12"]


@pytest.mark.parametrize("name", STORED)
def test_equals_diffusers(name, golden, check_against_diffusers, x64, strict_dtypes):
    check_against_diffusers(golden(f"samplers/{name}.npz"), FILES[name])


@pytest.mark.parametrize("name", STORED)
def test_equals_diffusers_in_float32(name, golden, check_against_diffusers, strict_dtypes):
    check_against_diffusers(golden(f"samplers/{name}.npz"), FILES[name])


@pytest.mark.golden
@pytest.mark.parametrize("double", [True, False], ids=["float64", "float32"])
@pytest.mark.parametrize("name", FILES)
def test_equals_diffusers_on_all_files(name, double, full_golden, check_against_diffusers):
    with jax.enable_x64(double), np.load(full_golden / "samplers" / f"{name}.npz") as arrays:
        check_against_diffusers(dict(arrays), FILES[name])


# Values of an independent covariance recursion, to six digits.
@pytest.mark.parametrize(
    ("eta", "expected"),
    [(0.0, [0.365220, 0.430546, 0.464860, 0.482330]), (1.0, [0.301883, 0.378281, 0.432175, 0.464103])],
    ids=["deterministic", "stochastic"],
)
def test_output_std_on_gaussian_data_is_the_known_one(eta, expected, output_std, x64):
    found = [output_std(pad(ddim(karras_grid(steps), eta), 80)) for steps in (10, 20, 40, 80)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("eta", "scale"), [(0.0, ode()), (1.0, power(1.0))], ids=["ode", "reverse-sde"])
def test_is_er_sde_of_order_1(eta, scale, x64):
    grid = karras_grid(12)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14),
        ddim(grid, eta),
        er_sde(grid, scale, order=1),
    )


def test_order_of_convergence_on_the_ode_is_1(ode_error, x64):
    errors = [ode_error(pad(ddim(log_grid(steps, 20.0, 0.05)), 640)) for steps in (160, 320, 640)]
    np.testing.assert_allclose(np.log2(np.divide(errors[:-1], errors[1:])), 1, atol=0.1)


def test_gradient_in_eta_is_that_of_finite_differences(x64):
    def total(eta):
        plan = ddim(karras_grid(6), eta)
        return jnp.sum(plan.keep) + 2 * jnp.sum(plan.history) + 3 * jnp.sum(plan.noise)

    slope = jax.jit(jax.grad(total))
    numeric = (total(0.6 + 1e-6) - total(0.6 - 1e-6)) / 2e-6
    np.testing.assert_allclose(slope(0.6), numeric, rtol=1e-7)
    assert np.isfinite([slope(0.0), slope(1.0)]).all()


def test_first_step_from_pure_noise_starts_at_the_prediction():
    # alpha = 0: y is infinite and x is all noise, so x_1 = alpha_1 D + sigma_1 / sigma_0 x_0.
    grid = Grid(jnp.arange(3.0)[::-1], jnp.asarray([0.0, 0.3, 1.0]), jnp.asarray([0.9, 0.7, 0.0]))
    plan = ddim(grid)
    np.testing.assert_allclose([plan.keep[0], plan.history[0, 0], plan.noise[0]], [7 / 9, 0.3, 0], rtol=1e-6)
    with pytest.raises(ValueError, match="first-sigma rule"):
        ddim(grid, 0.5)


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
def test_eta_outside_the_unit_interval_is_refused(eta):
    with pytest.raises(ValueError, match=r"eta must lie in \[0, 1\], got"):
        ddim(karras_grid(4), eta)
