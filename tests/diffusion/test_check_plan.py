"""A plan and a model belong together: times and noise levels."""

import pathlib

import jax
import jax.numpy as jnp
import pytest

from jaxcil import diffusion
from jaxcil.errors import InputError
from jaxcil.solvers import (
    beta_nodes,
    ddim,
    dpmpp_2m,
    er_sde,
    grid_from_sigmas,
    heun,
    karras_grid,
    pad,
    scheduler_grid,
)
from jaxcil.solvers.beta_grid import scheduler_betas

SD1 = pathlib.Path(__file__).parents[1] / "golden/stable_diffusion/sd1"


@pytest.fixture(scope="module")
def model():
    return diffusion.load(SD1)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("convention", ["ddim", "dpm", "euler"])
@pytest.mark.parametrize("karras", [False, True])
def test_all_grids_of_the_model_s_own_schedule_pass(spacing, convention, karras, model):
    if karras and convention == "ddim":
        pytest.skip("DDIM knows no Karras levels")
    config = {**model.scheduler_config, "timestep_spacing": spacing, "use_karras_sigmas": karras}
    for steps in (2, 4, 23, 100):
        diffusion.check_plan(model, ddim(scheduler_grid(config, steps, convention, final="zero")))


def test_levels_of_one_s_own_pass_with_their_times(model):
    grid = beta_nodes(scheduler_betas(model.scheduler_config), karras_grid(9, 0.03, 14.6).sigma)
    for plan in (er_sde(grid), heun(grid), pad(dpmpp_2m(grid), 12)):
        diffusion.check_plan(model, plan)
    # the same levels as x = x0 + sigma epsilon
    diffusion.check_plan(model, ddim(grid.replace(alpha=jnp.ones_like(grid.alpha), sigma=grid.lam)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda plan: plan.replace(time=plan.time + 1), r"at time 1000 .*row 0.*times 0 to 999"),
        (lambda plan: plan.replace(time=plan.time.at[3].set(-2)), r"at time -2 .*row 3"),
        (lambda plan: plan.replace(alpha=plan.alpha.at[2].mul(0.5)), "row 2"),
        (lambda plan: plan.replace(alpha=plan.alpha.at[0].set(0)), "alpha 0 .row 0"),
        (
            lambda plan: er_sde(karras_grid(4)),
            "time 80 with sigma 80 and alpha 1 .row 0.* Make the grid with",
        ),
        (lambda plan: er_sde(grid_from_sigmas([14.6, 3.0, 0.0])), "time 14.6 .*or with beta_nodes"),
    ],
    ids=["late", "early", "noisier", "zero-alpha", "edm", "sigma-for-time"],
)
def test_a_plan_for_something_else_is_refused_with_the_numbers(change, message, model):
    wrong = change(er_sde(scheduler_grid({**model.scheduler_config, "timestep_spacing": "trailing"}, 4)))
    with pytest.raises(InputError, match=message):
        diffusion.check_plan(model, wrong)
    with pytest.raises(InputError, match=message):
        diffusion.text_to_image(model, wrong, model.tokenize(["a cat"]), jax.random.key(0))
