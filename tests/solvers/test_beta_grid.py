import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.solvers import (
    GaussianMixture,
    beta_grid,
    beta_nodes,
    beta_schedule,
    er_sde,
    karras_grid,
    prior,
    sample,
    scheduler_betas,
    scheduler_grid,
    zero_terminal_snr,
)

STABLE_DIFFUSION = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
}
ZERO_SNR = {**STABLE_DIFFUSION, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}


def alphas(betas):
    return np.sqrt(np.cumprod(1 - betas))


def test_linear_betas_are_those_of_the_authors_runs(golden):
    arrays = golden("er_sde/vp3_phi3_gdlinear15.npz")
    ours = alphas(beta_schedule("linear"))[arrays["times"].astype(int)]
    np.testing.assert_allclose(ours, arrays["alphas"], rtol=1e-12)


def test_scaled_linear_betas_end_at_the_noise_levels_of_stable_diffusion():
    lam = np.sqrt(1 / alphas(beta_schedule("scaled_linear", 1000, 0.00085, 0.012)) ** 2 - 1)
    # the sigmas that diffusers lists for time 0 and 999, in float32
    np.testing.assert_allclose(lam[[0, -1]], [0.02916716, 14.614641], rtol=2e-6)


def test_cosine_betas_are_those_of_the_authors_runs():
    # Times 909, 454 and 0 of the golden file vp3_phi2_cosine10, and the cap
    betas = beta_schedule("cosine")
    expected = [0.13980120314015237, 0.7508697650817286, 0.9999793576745362]
    np.testing.assert_allclose(alphas(betas)[[909, 454, 0]], expected, rtol=1e-12)
    assert betas[-1] == 0.999
    assert np.all(np.diff(betas) > 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sigmoid",), "'linear', 'scaled_linear' or 'cosine', got 'sigmoid'"),
        (("linear", 0), "count >= 1"),
        (("linear", 1000, 0.02, 1e-4), "0 < start <= end < 1"),
        (("linear", 1000, float("nan")), "0 < start <= end < 1"),
    ],
)
def test_unknown_schedules_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        beta_schedule(*arguments)


def test_zero_terminal_snr_is_an_affine_map_of_alpha_that_keeps_its_first_value():
    betas = scheduler_betas(STABLE_DIFFUSION)
    before, after = alphas(betas), alphas(zero_terminal_snr(betas))
    assert after[-1] == 0
    np.testing.assert_allclose(after[0], before[0], rtol=1e-14)
    np.testing.assert_allclose(
        np.diff(after) / np.diff(before), before[0] / (before[0] - before[-1]), rtol=1e-8
    )


# What the schedulers of diffusers list for Stable Diffusion's betas, and what follows the last call.
@pytest.mark.parametrize(
    ("convention", "spacing", "first", "last", "final_lam"),
    [
        ("ddim", "leading", [901, 801], [101, 1], 0.02916716),
        ("ddim", "trailing", [999, 899], [199, 99], 0.02916716),
        ("dpm", "leading", [901, 811], [181, 91], 0.0),
        ("dpm", "trailing", [999, 899], [199, 99], 0.0),
        ("euler", "linspace", [999, 888], [111, 0], 0.0),
    ],
)
def test_scheduler_grid_calls_the_scheduler_s_times(convention, spacing, first, last, final_lam):
    grid = scheduler_grid({**STABLE_DIFFUSION, "timestep_spacing": spacing}, 10, convention)
    np.testing.assert_array_equal(grid.time[:2], first)
    np.testing.assert_array_equal(grid.time[-3:-1], last)
    np.testing.assert_allclose(grid.lam[-1], final_lam, rtol=1e-6)
    np.testing.assert_allclose(grid.alpha**2 + grid.sigma**2, 1, rtol=1e-6)


def test_scheduler_grid_takes_each_scheduler_s_default_spacing():
    assert scheduler_grid(STABLE_DIFFUSION, 5, "ddim").time[:5].tolist() == [801, 601, 401, 201, 1]
    assert scheduler_grid(STABLE_DIFFUSION, 5, "dpm").time[:5].tolist() == [999, 799, 599, 400, 200]


def test_scheduler_grid_ends_as_asked():
    at_zero = {"set_alpha_to_one": True}
    assert scheduler_grid({**STABLE_DIFFUSION, **at_zero}, 10).lam[-1] == 0
    assert scheduler_grid(STABLE_DIFFUSION, 10, final="zero").lam[-1] == 0
    ends = scheduler_grid({**STABLE_DIFFUSION, "final_sigmas_type": "sigma_min"}, 10, "euler").lam
    np.testing.assert_allclose(ends[-1], 0.02916716, rtol=1e-6)
    np.testing.assert_allclose(scheduler_grid(STABLE_DIFFUSION, 10, "dpm", "sigma_min").lam[-1], ends[-1])


# From diffusers 0.42.1: the set_timesteps of the classes named, run in float64 with numpy in the place of torch.
# They list sigma as float32, and Euler its times too.
@pytest.mark.parametrize(
    ("config", "convention", "times", "lam"),
    [
        (  # EulerDiscreteScheduler: fractional times, between its own first and last level
            {**STABLE_DIFFUSION, "use_karras_sigmas": True, "timestep_spacing": "leading"},
            "euler",
            [831.0, 654.2946, 410.48553, 153.51215, 24.649405, 1.0],
            [5.9064488, 2.7907846, 1.2051013, 0.46401039, 0.15362422, 0.041314412],
        ),
        (  # DPMSolverMultistepScheduler: whole times, and here cut off instead of rounded
            {"beta_schedule": "squaredcos_cap_v2", "use_karras_sigmas": True},
            "dpm",
            [999, 998, 998, 992, 837, 0],
            [20291.17, 5214.9189, 964.69171, 103.93801, 3.8819027, 0.0064254128],
        ),
        (  # DDIMScheduler
            ZERO_SNR,
            "ddim",
            [999, 799, 599, 399, 199],
            [np.inf, 7.4107029, 2.6048548, 1.2413749, 0.59475148],
        ),
        (  # EulerAncestralDiscreteScheduler; DPMSolverMultistepScheduler has the same
            ZERO_SNR,
            "euler",
            [999, 799, 599, 399, 199],
            [4095.9998, 7.4107027, 2.6048548, 1.2413749, 0.59475148],
        ),
    ],
    ids=["karras-euler", "karras-dpm", "zero-snr-ddim", "zero-snr-euler"],
)
def test_scheduler_grid_equals_what_diffusers_lists(config, convention, times, lam, x64):
    grid = scheduler_grid(config, len(times), convention)
    np.testing.assert_allclose(grid.time[:-1], times, atol=1e-4)
    np.testing.assert_allclose(grid.lam[:-1], lam, rtol=2e-7)


@pytest.mark.golden
@pytest.mark.parametrize(
    ("name", "convention"),
    [
        ("ddim_eta0_leading10", "ddim"),
        ("ddim_eta1_trailing10", "ddim"),
        ("euler_leading10", "euler"),
        ("euler_trailing10_v", "euler"),
        ("eulera_trailing15", "euler"),
        ("dpmpp2m_leading10", "dpm"),
        ("dpmpp2m_trailing20_karras", "dpm"),
        ("sdedpmpp2m_trailing20_sigmamin", "dpm"),
    ],
)
def test_scheduler_grid_equals_the_scheduler_s_own_nodes(name, convention, full_golden, x64):
    # The schedulers round sigma to float32.
    with np.load(full_golden / "samplers" / f"{name}.npz") as arrays:
        grid = scheduler_grid(json.loads(str(arrays["config"])), int(arrays["num_steps"]), convention)
        np.testing.assert_allclose(grid.lam, arrays["grid"], rtol=3e-7)
        np.testing.assert_array_equal(grid.time[:-1], arrays["timesteps"])


def test_karras_levels_have_the_ends_that_the_config_names():
    config = {**STABLE_DIFFUSION, "use_karras_sigmas": True, "sigma_min": 0.05, "sigma_max": 10.0}
    for convention in ("dpm", "euler"):
        np.testing.assert_allclose(
            scheduler_grid(config, 12, convention).lam, karras_grid(12, 0.05, 10.0).lam, rtol=2e-6
        )


def test_what_a_network_predicts_does_not_move_the_nodes():
    plain = scheduler_grid(STABLE_DIFFUSION, 7)
    more = {
        **STABLE_DIFFUSION,
        **{"prediction_type": "v_prediction", "thresholding": True, "a_key_of_tomorrow": [1, 2]},
        **{"use_karras_sigmas": None, "lambda_min_clipped": float("-inf"), "interpolation_type": "linear"},
    }
    jax.tree.map(np.testing.assert_array_equal, scheduler_grid(more, 7), plain)


def test_beta_grid_equals_the_scheduler_grid_of_the_same_betas():
    betas = beta_schedule("scaled_linear", start=0.00085, end=0.012)
    for spacing in ("leading", "trailing"):
        ours = beta_grid(betas, 20, spacing, steps_offset=1)
        theirs = scheduler_grid({**STABLE_DIFFUSION, "timestep_spacing": spacing}, 20, final="zero")
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)
        trained = {"trained_betas": betas.tolist(), "timestep_spacing": spacing, "steps_offset": 1}
        jax.tree.map(np.testing.assert_array_equal, ours, scheduler_grid(trained, 20))


def test_beta_grid_begins_at_alpha_zero_where_the_last_beta_is_one():
    ours = beta_grid(zero_terminal_snr(scheduler_betas(STABLE_DIFFUSION)), 5, "trailing")
    assert (ours.time[0], ours.alpha[0], ours.sigma[0]) == (999, 0, 1)
    jax.tree.map(np.testing.assert_array_equal, ours, scheduler_grid(ZERO_SNR, 5, final="zero"))


@pytest.mark.parametrize(
    ("config", "steps", "convention", "message"),
    [
        ({"use_karras_sigmas": True}, 10, "ddim", "sets use_karras_sigmas, which DDIM does not know"),
        ({"use_exponential_sigmas": True}, 10, "dpm", "sets use_exponential_sigmas"),
        ({"use_beta_sigmas": True}, 10, "euler", "sets use_beta_sigmas"),
        ({"use_flow_sigmas": True}, 10, "dpm", "sets use_flow_sigmas"),
        ({"use_lu_lambdas": True}, 10, "dpm", "sets use_lu_lambdas"),
        ({"interpolation_type": "log_linear"}, 10, "euler", "sets interpolation_type"),
        ({"timestep_type": "continuous"}, 10, "euler", "sets timestep_type"),
        ({"lambda_min_clipped": -5.1}, 10, "dpm", "sets lambda_min_clipped"),
        ({"beta_schedule": "sigmoid"}, 10, "ddim", "got 'sigmoid'"),
        ({"trained_betas": [0.1, 1.0, 0.2]}, 2, "ddim", r"betas must be \[T\] in \(0, 1\)"),
        ({"timestep_spacing": "cosine"}, 10, "ddim", "spacing must be"),
        ({"final_sigmas_type": "none"}, 10, "dpm", "final must be 'zero' or 'sigma_min', got 'none'"),
        ({}, 10, "heun", "convention must be one of ddim, dpm, euler"),
        ({}, 0, "ddim", "steps must be at least 1"),
        ({}, 1000, "ddim", "Take fewer steps"),
    ],
)
def test_scheduler_grid_refuses_what_it_does_not_follow(config, steps, convention, message):
    with pytest.raises(ValueError, match=message):
        scheduler_grid({**STABLE_DIFFUSION, **config}, steps, convention)


@pytest.mark.parametrize("config", [STABLE_DIFFUSION, ZERO_SNR], ids=["plain", "zero-snr"])
def test_beta_nodes_finds_the_nodes_of_the_table_again(config, strict_dtypes):
    # log lam moves by 0.003 or more a training step and is right to 2e-7: 7e-5 of a step, and 999 rounds to 6e-5.
    grid = scheduler_grid(config, 50, final="zero")
    again = beta_nodes(scheduler_betas(config), grid.lam)
    np.testing.assert_allclose(again.time, grid.time, atol=3e-4)
    np.testing.assert_allclose(again.alpha, grid.alpha, rtol=5e-7)
    np.testing.assert_allclose(again.sigma, grid.sigma, rtol=5e-7)
    assert again.time.dtype == again.alpha.dtype == again.sigma.dtype == jnp.float32


def test_beta_nodes_gives_karras_levels_the_times_that_diffusers_gives_them(x64):
    config = {**STABLE_DIFFUSION, "use_karras_sigmas": True}
    theirs = scheduler_grid(config, 20, "euler")
    ours = beta_nodes(scheduler_betas(config), karras_grid(20, theirs.lam[-2], theirs.lam[0]).sigma)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), ours, theirs)


def test_beta_nodes_stays_at_the_ends_of_the_table(strict_dtypes):
    grid = beta_nodes(beta_schedule("linear"), jnp.asarray([jnp.inf, 1e30, 1000.0, 1.0, 1e-5, 0.0]))
    np.testing.assert_array_equal(grid.time[jnp.asarray([0, 1, 2, 4, 5])], [999, 999, 999, 0, 0])
    assert 0 < grid.time[3] < 999
    np.testing.assert_allclose(grid.lam[2:], [1000.0, 1.0, 1e-5, 0.0], rtol=3e-7)
    assert (grid.alpha[0], grid.sigma[0], grid.alpha[-1], grid.sigma[-1]) == (0, 1, 1, 0)


def test_beta_nodes_under_jit_and_its_gradient_are_right(x64, strict_dtypes):
    betas = beta_schedule("linear")
    lam = jnp.asarray([jnp.inf, 120.0, 3.0, 0.4, 0.05, 0.0])

    def nodes(lam):
        return beta_nodes(betas, lam)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), jax.jit(nodes)(lam), nodes(lam))
    step = 1e-6  # the time has a kink at each node of the table, none of which is that near
    high, low = nodes(lam[1:-1] + step), nodes(lam[1:-1] - step)

    def check(jacobian, high, low):
        assert np.isfinite(jacobian).all()
        # alpha' = -lam^-2 is 1e-4 of alpha at lam = 120, of which the difference keeps 4 digits
        np.testing.assert_allclose(jnp.diag(jacobian)[1:-1], (high - low) / (2 * step), rtol=1e-4)

    jax.tree.map(check, jax.jacrev(nodes)(lam), high, low)


def test_a_solver_runs_on_levels_that_the_table_does_not_hold(strict_dtypes):
    # Point mass: whatever the levels, the run ends at the mass.
    point = GaussianMixture(jnp.ones(1), jnp.asarray([[3.0, -2.0]]), jnp.zeros(1))
    grid = beta_nodes(scheduler_betas(STABLE_DIFFUSION), karras_grid(6, 0.03, 14.6).sigma)
    plan = er_sde(grid)
    x = sample(plan, point.denoiser, prior(plan, jax.random.key(0), (2, 2)), jax.random.key(0))
    np.testing.assert_allclose(x, [[3, -2]] * 2, rtol=1e-6)
