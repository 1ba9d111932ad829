import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.solvers import (
    Grid,
    dpmpp_2m,
    er_sde,
    grid_from_sigmas,
    karras_grid,
    log_grid,
    pad,
    power,
    sample,
    sde_dpmpp_2m,
)

FILES = {
    "dpmpp2m_leading10": dpmpp_2m,
    "dpmpp2m_trailing20_karras": dpmpp_2m,
    "sdedpmpp2m_leading10": sde_dpmpp_2m,
    "sdedpmpp2m_trailing20_sigmamin": sde_dpmpp_2m,
}
STORED = "sdedpmpp2m_leading10"
WEIGHTS = ["midpoint", "heun"]


def test_equals_diffusers(golden, check_against_diffusers, x64, strict_dtypes):
    check_against_diffusers(golden(f"samplers/{STORED}.npz"), FILES[STORED])


def test_equals_diffusers_in_float32(golden, check_against_diffusers, strict_dtypes):
    check_against_diffusers(golden(f"samplers/{STORED}.npz"), FILES[STORED])


@pytest.mark.golden
@pytest.mark.parametrize("double", [True, False], ids=["float64", "float32"])
@pytest.mark.parametrize("name", FILES)
def test_equals_diffusers_on_all_files(name, double, full_golden, check_against_diffusers):
    with jax.enable_x64(double), np.load(full_golden / "samplers" / f"{name}.npz") as arrays:
        check_against_diffusers(dict(arrays), FILES[name])


# Values of an independent covariance recursion, to six digits.
@pytest.mark.parametrize(
    ("solver", "expected"),
    [
        (dpmpp_2m, [0.579398, 0.524629, 0.505202, 0.501190]),
        (sde_dpmpp_2m, [0.583413, 0.555919, 0.513812, 0.503190]),
        (functools.partial(sde_dpmpp_2m, eta=0.5), [0.587184, 0.541614, 0.509330, 0.502138]),
    ],
    ids=["ode", "sde", "sde-half"],
)
def test_output_std_on_gaussian_data_is_the_known_one(solver, expected, output_std, x64):
    found = [output_std(pad(solver(karras_grid(steps)), 80)) for steps in (10, 20, 40, 80)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_without_noise_the_sde_s_solver_is_that_of_the_ode():
    jax.tree.map(np.testing.assert_array_equal, sde_dpmpp_2m(karras_grid(9), 0.0), dpmpp_2m(karras_grid(9)))


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_heun_weight_is_exact_where_the_prediction_is_linear_in_log_lam(eta, x64):
    # dy / d log lam = (1 + eta) (y - D) with D = 2 - 0.7 log lam has a closed solution; step 0 is of order 1.
    def particular(lam):
        return 2 - 0.7 * jnp.log(lam) - 0.7 / (1 + eta)

    plan = sde_dpmpp_2m(karras_grid(8, final_zero=False), eta, "heun")
    x = jnp.full((1, 1), 3.0)
    _, states, _ = sample(
        plan,
        lambda x, node: jnp.full_like(x, 2 - 0.7 * jnp.log(node.sigma)),
        x,
        noises=jnp.zeros((8, 1, 1)),
        trajectory=True,
    )
    lam, y = plan.sigma[1:], states[1:, 0, 0]
    exact = particular(lam) + (lam / lam[0]) ** (1 + eta) * (y[0] - particular(lam[0]))
    np.testing.assert_allclose(y, exact, rtol=1e-12)


@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_heun_weight_is_er_sde_of_order_2_in_log_lam(eta, x64):
    grid = karras_grid(7)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13),
        sde_dpmpp_2m(grid, eta, "heun"),
        er_sde(grid, power(eta), order=2, basis="log_lam"),
    )


@pytest.mark.parametrize("weight", WEIGHTS)
def test_order_of_convergence_on_the_ode_is_2(weight, ode_error, x64):
    errors = [ode_error(sde_dpmpp_2m(log_grid(steps, 20.0, 0.05), 0.0, weight)) for steps in (160, 320, 640)]
    np.testing.assert_allclose(np.log2(np.divide(errors[:-1], errors[1:])), 2, atol=0.1)


@pytest.mark.parametrize("weight", WEIGHTS)
def test_weak_order_with_noise_is_2(weight, output_std, x64):
    # Second moments of a linear denoiser, without sampling.
    plans = (sde_dpmpp_2m(log_grid(steps, 20.0, 0.05), 1.0, weight) for steps in (160, 320, 640))
    errors = [output_std(plan) - np.hypot(0.5, 0.05) for plan in plans]
    np.testing.assert_allclose(np.log2(np.divide(errors[:-1], errors[1:])), 2, atol=0.1)


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [3, 300])
def test_coefficients_are_right_in_float32(weight, eta, steps, strict_dtypes):
    # 300 steps have L = 0.02, where (2) as written would lose its digits.
    eta = float(np.float32(eta))
    single = sde_dpmpp_2m(karras_grid(steps), eta, weight)
    with jax.enable_x64(True):
        exact = sde_dpmpp_2m(grid_from_sigmas(np.asarray(single.sigma, np.float64)), eta, weight)
    for name in ("keep", "history", "noise"):
        np.testing.assert_allclose(getattr(single, name), getattr(exact, name), rtol=2e-6, err_msg=name)


def test_gradient_in_eta_is_that_of_finite_differences(x64):
    def total(eta):
        plan = sde_dpmpp_2m(karras_grid(6), eta, "heun")
        return jnp.sum(plan.keep) + 2 * jnp.sum(plan.history[:, 0]) + 3 * jnp.sum(plan.noise)

    slope = jax.jit(jax.grad(total))
    np.testing.assert_allclose(slope(0.6), (total(0.6 + 1e-6) - total(0.6 - 1e-6)) / 2e-6, rtol=1e-7)
    assert np.isfinite(slope(0.0))


def test_pure_noise_is_left_by_two_steps_of_order_1():
    # L of the first step is infinite, so the second has no slope either.
    grid = Grid(jnp.arange(4.0)[::-1], jnp.asarray([0.0, 0.3, 0.6, 0.9]), jnp.asarray([1.0, 0.7, 0.4, 0.1]))
    plan = dpmpp_2m(grid)
    np.testing.assert_allclose([plan.keep[0], *plan.history[0]], [0.7, 0.3, 0], rtol=1e-6)
    assert plan.history[1, 1] == 0
    assert plan.history[2, 1] < 0
    with pytest.raises(ValueError, match="first-sigma rule"):
        sde_dpmpp_2m(grid)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.0, "euler"), "solver_type must be 'midpoint' or 'heun', got 'euler'"),
        ((-1.0,), "eta must be at least 0"),
    ],
    ids=["solver_type", "eta"],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        sde_dpmpp_2m(karras_grid(4), *arguments)
