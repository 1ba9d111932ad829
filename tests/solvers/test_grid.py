import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.solvers import Grid, beta_grid, er_sde, grid_from_sigmas, karras_grid, log_grid, scheduler_grid

STABLE_DIFFUSION = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
}


def test_karras_grid_is_the_one_of_the_golden_files(golden, x64):
    np.testing.assert_allclose(
        karras_grid(10).sigma, golden("er_sde/ve3_phi7_edm10.npz")["sigmas"], rtol=1e-13
    )
    open_end = karras_grid(9, final_zero=False)
    np.testing.assert_allclose(open_end.sigma, karras_grid(10).sigma[:-1], rtol=1e-13)


def test_karras_grid_has_a_gradient_in_its_parameters():
    def mean_node(low, high, rho):
        return jnp.mean(karras_grid(8, low, high, rho).lam)

    assert all(np.isfinite(slope) for slope in jax.grad(mean_node, (0, 1, 2))(0.01, 50.0, 7.0))


def test_log_grid_has_equal_ratios_and_both_ends():
    lam = np.asarray(log_grid(12, 50.0, 0.02).lam)
    assert lam.shape == (13,)
    np.testing.assert_allclose(lam[1:] / lam[:-1], (0.02 / 50.0) ** (1 / 12), rtol=1e-5)
    np.testing.assert_allclose(lam[[0, -1]], [50.0, 0.02], rtol=1e-6)


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


@pytest.mark.golden
@pytest.mark.parametrize(
    ("name", "convention"),
    [
        ("ddim_eta0_leading10", "ddim"),
        ("ddim_eta1_trailing10", "ddim"),
        ("euler_leading10", "euler"),
        ("eulera_trailing15", "euler"),
        ("dpmpp2m_leading10", "dpm"),
        ("sdedpmpp2m_trailing20_sigmamin", "dpm"),
    ],
)
def test_scheduler_grid_equals_the_scheduler_s_own_nodes(name, convention, full_golden, x64):
    # The schedulers round sigma to float32.
    with np.load(full_golden / "samplers" / f"{name}.npz") as arrays:
        grid = scheduler_grid(json.loads(str(arrays["config"])), int(arrays["num_steps"]), convention)
        np.testing.assert_allclose(grid.lam, arrays["grid"], rtol=3e-7)
        np.testing.assert_array_equal(grid.time[:-1], arrays["timesteps"])


def test_beta_grid_equals_the_scheduler_grid_of_the_same_betas():
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    for spacing in ("leading", "trailing"):
        ours = beta_grid(betas, 20, spacing, steps_offset=1)
        theirs = scheduler_grid({**STABLE_DIFFUSION, "timestep_spacing": spacing}, 20, final="zero")
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize(
    ("config", "steps", "convention", "message"),
    [
        ({"use_karras_sigmas": True}, 10, "dpm", "sets use_karras_sigmas"),
        ({"beta_schedule": "sigmoid"}, 10, "ddim", "beta_schedule must be"),
        ({"timestep_spacing": "cosine"}, 10, "ddim", "spacing must be"),
        ({}, 10, "heun", "convention must be one of ddim, dpm, euler"),
        ({}, 0, "ddim", "steps must be at least 1"),
        ({}, 1000, "ddim", "Take fewer steps"),
    ],
)
def test_scheduler_grid_refuses_what_it_does_not_follow(config, steps, convention, message):
    with pytest.raises(ValueError, match=message):
        scheduler_grid({**STABLE_DIFFUSION, **config}, steps, convention)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (grid_from_sigmas([3.0, 1.0, 1.0]), "got 1.0 at node 1 and 1.0 at node 2"),
        (grid_from_sigmas([1.0, 3.0]), "noisy first"),
        (grid_from_sigmas([3.0, -1.0]), "not negative, got -1.0 at node 1"),
        (grid_from_sigmas([float("nan"), 1.0]), "finite"),
        (grid_from_sigmas([1.0]), "at least 2"),
        (
            Grid(jnp.zeros(3), jnp.asarray([0.5, 0.0, 1.0]), jnp.asarray([0.5, 1.0, 0.0])),
            "Only the first node",
        ),
        (Grid(jnp.zeros(2), jnp.ones(3), jnp.ones(3)), "same length"),
    ],
    ids=["repeated", "rising", "negative", "nan", "one-node", "alpha-zero", "lengths"],
)
def test_solvers_refuse_a_grid_that_does_not_fall(grid, message):
    with pytest.raises(ValueError, match=message):
        er_sde(grid)
