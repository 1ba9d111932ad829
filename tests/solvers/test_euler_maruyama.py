import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.solvers import (
    Grid,
    NoiseScale,
    ddim,
    euler_maruyama,
    grid_from_sigmas,
    karras_grid,
    log_grid,
    ode,
    pad,
    phi,
    power,
)


def test_output_std_on_gaussian_data_is_the_known_one(output_std, x64):
    # Values of an independent covariance recursion, to six digits.
    found = [
        output_std(pad(euler_maruyama(karras_grid(steps), power(1.0)), 80)) for steps in (10, 20, 40, 80)
    ]
    np.testing.assert_allclose(found, [0.641604, 0.506424, 0.498526, 0.498311], rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [power(0.5), phi(7)], ids=["half-the-noise", "phi7"])
def test_weak_order_is_1(scale, output_std, x64):
    # Second moments of a linear denoiser, without sampling. (With h = g the error of first order nearly vanishes.)
    exact = np.hypot(0.5, 0.1)
    errors = [
        output_std(euler_maruyama(log_grid(steps, 2.0, 0.1), scale)) - exact for steps in (160, 320, 640)
    ]
    np.testing.assert_allclose(np.log2(np.divide(errors[:-1], errors[1:])), 1, atol=0.1)


def test_without_noise_it_is_euler_s_method():
    # On a linear equation the exponential step of order 1 and Euler's step are the same for the ODE.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
        euler_maruyama(karras_grid(8), ode()),
        ddim(karras_grid(8)),
    )


def test_step_follows_drift_and_diffusion_of_the_sde():
    # lam 3 to 2 with h^2 = 0.5 g^2: drift (1 + 0.5) (2 - 3) / 3 = -0.5, variance 0.5 (9 - 4) = 2.5.
    plan = euler_maruyama(grid_from_sigmas(jnp.asarray([3.0, 2.0, 1.0])), power(0.5))
    np.testing.assert_allclose(
        [plan.keep[0], plan.history[0, 0], plan.noise[0] ** 2], [0.5, 0.5, 2.5], rtol=1e-6
    )


@pytest.mark.parametrize("scale", [phi(n) for n in range(1, 8)], ids=range(1, 8))
@pytest.mark.parametrize("steps", [3, 300])
def test_coefficients_are_right_in_float32(scale, steps, strict_dtypes):
    single = euler_maruyama(karras_grid(steps), scale)
    with jax.enable_x64(True):
        exact = euler_maruyama(grid_from_sigmas(np.asarray(single.sigma, np.float64)), scale)
    np.testing.assert_allclose(single.history, exact.history, rtol=2e-6)
    # keep is a difference, whose error is that of its terms; noise of type 3 vanishes at low lam
    np.testing.assert_allclose(single.keep, exact.keep, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(single.noise, exact.noise, rtol=2e-6, atol=1e-12)


def test_gradient_in_the_noise_scale_is_that_of_finite_differences(x64):
    def total(eta):
        plan = euler_maruyama(karras_grid(6), power(eta))
        return jnp.sum(plan.keep) + 2 * jnp.sum(plan.history) + 3 * jnp.sum(plan.noise)

    slope = jax.jit(jax.grad(total))
    np.testing.assert_allclose(slope(0.6), (total(0.6 + 1e-6) - total(0.6 - 1e-6)) / 2e-6, rtol=1e-7)
    assert np.isfinite(slope(0.0))


def test_first_step_from_pure_noise_must_be_without_noise():
    grid = Grid(jnp.arange(3.0)[::-1], jnp.asarray([0.0, 0.3, 1.0]), jnp.asarray([0.9, 0.7, 0.0]))
    plan = euler_maruyama(grid, ode())
    np.testing.assert_allclose([plan.keep[0], plan.history[0, 0], plan.noise[0]], [7 / 9, 0.3, 0], rtol=1e-6)
    with pytest.raises(ValueError, match="first-sigma rule"):
        euler_maruyama(grid, power(0.5))


def test_noise_scale_that_is_not_legal_names_the_step():
    valley = NoiseScale(lambda parameters, log_lam: abs(log_lam - math.log(20.0)))
    with pytest.raises(ValueError, match=r"step 1, from lam 10 to 1: .* got -1 at its start"):
        euler_maruyama(grid_from_sigmas(jnp.asarray([30.0, 10.0, 1.0])), valley)
    with pytest.raises(ValueError, match=r"step 0, from lam 5000 to 3000"):
        euler_maruyama(grid_from_sigmas(jnp.asarray([5000.0, 3000.0, 1500.0])), phi(6))
