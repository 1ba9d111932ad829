import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.solvers import (
    GaussianMixture,
    Grid,
    Node,
    grid_from_sigmas,
    heun,
    karras_grid,
    log_grid,
    pad,
    sample,
)


@pytest.fixture
def mixture():
    return GaussianMixture(
        jnp.asarray([0.4, 0.6]), jnp.asarray([[1.0, -1.0], [0.5, 2.0]]), jnp.asarray([0.3, 0.5])
    )


def test_equals_diffusers(golden, check_against_diffusers, x64, strict_dtypes):
    check_against_diffusers(golden("samplers/heun_leading10.npz"), heun)


def test_equals_diffusers_in_float32(golden, check_against_diffusers, strict_dtypes):
    check_against_diffusers(golden("samplers/heun_leading10.npz"), heun)


def test_output_std_on_gaussian_data_is_the_known_one(output_std, x64):
    # Values of an independent covariance recursion, to six digits.
    found = [output_std(pad(heun(karras_grid(steps)), 159)) for steps in (10, 20, 40, 80)]
    np.testing.assert_allclose(found, [0.609810, 0.521834, 0.504887, 0.501155], rtol=0, atol=1e-6)


def test_order_of_convergence_on_the_ode_is_2(ode_error, x64):
    errors = [ode_error(heun(log_grid(steps, 20.0, 0.05))) for steps in (160, 320, 640)]
    np.testing.assert_allclose(np.log2(np.divide(errors[:-1], errors[1:])), 2, atol=0.1)


def test_weak_order_with_churn_is_2(output_std, x64):
    # Second moments of a linear denoiser, without sampling; the noise of all steps together stays the same.
    plans = (heun(log_grid(steps, 20.0, 0.05), 5.0) for steps in (80, 160, 320))
    errors = [output_std(plan) - np.hypot(0.5, 0.05) for plan in plans]
    np.testing.assert_allclose(np.log2(np.divide(errors[:-1], errors[1:])), 2, atol=0.1)


def edm_algorithm_2(x, sigmas, denoise, noises, churn=0.0, s_tmin=0.0, s_tmax=math.inf, s_noise=1.0):
    """EDM's sampler as its paper writes it, from x at the first raised noise level on."""
    steps = len(sigmas) - 1
    for i, (sigma, following) in enumerate(itertools.pairwise(sigmas)):
        gamma = min(churn / steps, math.sqrt(2) - 1) if s_tmin <= sigma <= s_tmax else 0.0
        raised = sigma * (1 + gamma)
        if i > 0:
            x = x + math.sqrt(raised**2 - sigma**2) * s_noise * noises[i - 1]
        slope = (x - denoise(x, raised)) / raised
        euler = x + (following - raised) * slope
        if following == 0:
            return euler
        second = (euler - denoise(euler, following)) / following
        x = x + (following - raised) * (slope + second) / 2
    return x


@pytest.mark.parametrize("final_zero", [True, False], ids=["to-zero", "open"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"churn": 2.0},
        {"churn": 40.0, "s_tmin": 0.05, "s_tmax": 50.0, "s_noise": 1.003},
    ],
    ids=["no-churn", "churn", "churn-in-a-window"],
)
def test_equals_algorithm_2_of_edm(settings, final_zero, x64, mixture, strict_dtypes):
    grid = karras_grid(10, final_zero=final_zero)
    plan = heun(grid, **settings)
    assert plan.rows == (19 if final_zero else 20)
    x = 80 * jax.random.normal(jax.random.key(0), (3, 2))
    noises = jax.random.normal(jax.random.key(1), (plan.rows, 3, 2))

    def denoise(x, sigma):
        sigma = jnp.asarray(sigma)
        return np.asarray(mixture.denoiser(jnp.asarray(x), Node(sigma, jnp.ones_like(sigma), sigma)))

    expected = edm_algorithm_2(
        np.asarray(x), np.asarray(grid.sigma).tolist(), denoise, np.asarray(noises)[1::2], **settings
    )
    found = sample(plan, mixture.denoiser, x, noises=noises)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def vp_nodes(lam):
    """Nodes of a VP process whose network's time is -log lam."""
    alpha = 1 / jnp.sqrt(1 + lam**2)
    return Grid(time=-jnp.log(jnp.where(lam > 0, lam, 1e-3)), alpha=alpha, sigma=lam * alpha)


def test_churn_on_a_vp_grid_is_churn_in_lam(x64, mixture):
    # A VP run is alpha times the VE run on the same lam, if the denoiser's time at a raised node is right.
    ve = karras_grid(6)
    vp_plan, ve_plan = heun(vp_nodes(ve.lam), 2.0, at=vp_nodes), heun(ve, 2.0)
    np.testing.assert_allclose(vp_plan.time[:-1], -jnp.log(ve_plan.sigma[:-1]), rtol=1e-12, atol=1e-14)
    x = 80 * jax.random.normal(jax.random.key(0), (3, 2))
    noises = jax.random.normal(jax.random.key(1), (11, 3, 2))
    _, expected, _ = sample(ve_plan, mixture.denoiser, x, noises=noises, trajectory=True)
    _, found, _ = sample(vp_plan, mixture.denoiser, vp_plan.alpha[0] * x, noises=noises, trajectory=True)
    np.testing.assert_allclose(found / vp_plan.alpha[:, None, None], expected, rtol=0, atol=1e-11)


def test_nodes_that_are_not_raised_stay_the_grid_s_own(x64):
    def rounded(lam):
        return vp_nodes(lam * 1.01)

    grid = vp_nodes(karras_grid(6).lam)
    plain, partly = heun(grid), heun(grid, 2.0, 0.1, 10.0, at=rounded)
    raised = np.repeat((np.asarray(grid.lam[:-1]) >= 0.1) & (np.asarray(grid.lam[:-1]) <= 10), 2)
    same = np.asarray(partly.sigma) == np.asarray(plain.sigma)
    np.testing.assert_array_equal(same[::2], ~raised[::2])
    assert same[1::2].all()


def test_from_pure_noise_the_first_step_is_euler_s(strict_dtypes):
    grid = Grid(jnp.arange(4.0)[::-1], jnp.asarray([0.0, 0.3, 0.6, 1.0]), jnp.asarray([0.9, 0.7, 0.4, 0.0]))
    plan = heun(grid)
    assert plan.rows == 5
    np.testing.assert_allclose([plan.keep[0], *plan.history[0], plan.noise[0]], [7 / 9, 0.3, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal([plan.keep[1], *plan.history[1], plan.noise[1]], [1, 0, 0, 0])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(plan))


@pytest.mark.parametrize("churn", [0.0, 3.0, 1e4], ids=["none", "some", "most"])
@pytest.mark.parametrize("steps", [3, 300])
def test_coefficients_are_right_in_float32(churn, steps, strict_dtypes):
    grid = karras_grid(steps)
    single = heun(grid, churn)
    with jax.enable_x64(True):
        exact = heun(grid_from_sigmas(np.asarray(grid.sigma, np.float64)), churn)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6), single, exact)


def test_gradient_in_churn_is_that_of_finite_differences(x64):
    grid = karras_grid(6)

    def total(churn, s_noise):
        plan = heun(grid, churn, s_noise=s_noise)
        return jnp.sum(plan.keep) + 2 * jnp.sum(plan.history[:, 0]) + 3 * jnp.sum(plan.noise * plan.time[1:])

    slope = jax.jit(jax.grad(total, (0, 1)))
    numeric = (
        (total(1.0 + 1e-6, 1.1) - total(1.0 - 1e-6, 1.1)) / 2e-6,
        (total(1.0, 1.1 + 1e-6) - total(1.0, 1.1 - 1e-6)) / 2e-6,
    )
    np.testing.assert_allclose(slope(1.0, 1.1), numeric, rtol=1e-7)
    assert np.isfinite(slope(0.0, 1.0)).all()


def test_a_sweep_over_churn_equals_a_loop(mixture):
    grid = karras_grid(5)
    churns = jnp.asarray([0.0, 1.0, 5.0])
    x = 80 * jax.random.normal(jax.random.key(0), (3, 2))

    def run(churn):
        return sample(heun(grid, churn), mixture.denoiser, x, jax.random.key(1))

    looped = jnp.stack([run(churn) for churn in churns])
    # corrector coefficients reach 15 here, so float32 states keep about five digits
    np.testing.assert_allclose(jax.vmap(run)(churns), looped, rtol=1e-4, atol=1e-4)


def test_under_jit_the_end_of_the_grid_must_be_said():
    with pytest.raises(ValueError, match="pass final_zero=True or False"):
        jax.jit(heun)(karras_grid(4))
    told = functools.partial(heun, final_zero=True)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
        jax.jit(told)(karras_grid(4)),
        heun(karras_grid(4)),
    )
    with pytest.raises(ValueError, match="final_zero is False, but the grid ends at sigma = 0"):
        heun(karras_grid(4), final_zero=False)


@pytest.mark.parametrize(
    ("grid", "churn", "message"),
    [
        (karras_grid, -1.0, "churn must be at least 0 and finite, got -1"),
        (lambda steps: vp_nodes(karras_grid(steps).lam), 1.0, "only if alpha = 1 and time = sigma. Pass at"),
    ],
    ids=["negative", "vp-without-at"],
)
def test_bad_churn_is_refused(grid, churn, message):
    with pytest.raises(ValueError, match=message):
        heun(grid(4), churn)


def test_a_swept_churn_needs_the_network_s_times_too():
    grid = vp_nodes(karras_grid(4).lam)
    with pytest.raises(ValueError, match="Pass at"):
        jax.vmap(lambda churn: heun(grid, churn).time)(jnp.asarray([0.0, 10.0]))
