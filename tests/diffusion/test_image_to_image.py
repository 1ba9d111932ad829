"""Images changed by a prompt."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcil.diffusion as sd
from jaxcil import solvers
from jaxcil.errors import InputError

SD1 = pathlib.Path(__file__).parents[1] / "golden/stable_diffusion/sd1"


@pytest.fixture(autouse=True)
def _full_precision():
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture(scope="module")
def model():
    return sd.load(SD1)


def test_images_are_those_of_diffusers(model, golden):
    """StableDiffusionImg2ImgPipeline of diffusers 0.42.1 on sd1: DDIM, 5 steps, strength 0.7, guidance 7.5.

    Its posterior gave the mean, and the noise was given: both are stored with the images that came out.
    """
    stored = golden("stable_diffusion/image_to_image.npz")
    plan = solvers.ddim(solvers.scheduler_grid(model.scheduler_config, 5))
    assert list(sd.shortened(plan, 0.7).time[:-1]) == list(stored["times"])
    run = jax.jit(functools.partial(sd.image_to_image, strength=0.7))
    images = run(
        model,
        plan,
        stored["images"],
        model.tokenize(["a photo of a cat", "two trucks"]),
        start_noise=stored["noise"],
        guidance_scale=7.5,
        negative_ids=model.tokenize(["blurry"]),
    )
    # The tolerance of the text-to-image arrays: ten times what float64 differs from float32
    assert np.abs(images / 2 + 0.5 - stored["result"]).max() < 1e-4


@pytest.mark.parametrize(
    "solver",
    [
        solvers.ddim,
        solvers.ancestral,
        solvers.dpmpp_2m,
        solvers.sde_dpmpp_2m,
        functools.partial(solvers.er_sde, order=1),
        functools.partial(solvers.er_sde, order=2),
    ],
    ids=["ddim", "ancestral", "dpmpp_2m", "sde_dpmpp_2m", "er_sde_1", "er_sde_2"],
)
def test_a_shortened_plan_is_the_plan_of_the_shortened_grid(solver):
    grid = solvers.log_grid(10, 10.0, 0.1)
    rest = jax.tree.map(lambda leaf: leaf[-7:], grid)
    shortened, expected = sd.shortened(solver(grid), 0.6), solver(rest)
    for name in ("time", "alpha", "sigma", "keep", "history", "noise"):
        # Coefficients of float32 rows that were computed in other places of a vector
        np.testing.assert_allclose(
            getattr(shortened, name), getattr(expected, name), rtol=1e-5, atol=1e-6, err_msg=name
        )


@pytest.mark.parametrize("strength", [0.1, 0.5, 1.0])
def test_every_shortened_plan_is_exact_for_data_at_a_point(strength):
    # D = mu whatever x: x = alpha mu + sigma z ends at the last node's alpha mu + sigma z.
    plan = sd.shortened(solvers.er_sde(solvers.log_grid(10, 10.0, 0.1), solvers.ode(), order=3), strength)
    mu, z = jnp.float32(0.7), jnp.full((1, 1), 1.3)
    x = plan.alpha[0] * mu + plan.sigma[0] * z
    end = solvers.sample(plan, lambda x, node: jnp.full_like(x, mu), x)
    np.testing.assert_allclose(end, plan.alpha[-1] * mu + plan.sigma[-1] * z, rtol=1e-5)


def test_strength_1_runs_the_whole_plan(model):
    plan = solvers.er_sde(solvers.scheduler_grid(model.scheduler_config, 3, final="zero"))
    whole = sd.shortened(plan, 1)
    assert jax.tree.all(jax.tree.map(np.array_equal, whole, plan))


def test_the_rows_run_are_those_of_diffusers(model):
    """min(int(steps * strength), steps), counted by hand; 50 * 0.58 is 28.999999999999996 in floating point."""
    plan = solvers.ddim(solvers.scheduler_grid(model.scheduler_config, 50))
    assert [sd.shortened(plan, strength).rows for strength in (0.02, 0.5, 0.58, 0.999, 1.0)] == [
        1,
        25,
        28,
        49,
        50,
    ]


def test_an_image_depends_on_its_own_key_image_and_prompt_alone(model):
    plan = solvers.ancestral(solvers.scheduler_grid(model.scheduler_config, 4))
    images = jnp.tanh(jax.random.normal(jax.random.key(3), (3, 16, 24, 3)))
    ids, keys = model.tokenize(["a cat", "a dog", "a fox"]), jax.random.split(jax.random.key(1), 3)
    run = jax.jit(lambda *batch: sd.image_to_image(model, plan, *batch, 0.5))
    one, two = run(images, ids, keys), run(images[::-1], ids[::-1], keys[::-1])
    assert one.shape == images.shape
    np.testing.assert_allclose(one, two[::-1], atol=1e-5)  # other places in a batch: other sums
    assert np.abs(one[0] - one[1]).max() > 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strength": 0.1}, r"leave one of the plan's 4 rows, got 0\.1"),
        ({"strength": 1.5}, "must lie in"),
        ({"keys": None}, "keys, or start_noise"),
        ({"images": np.zeros((1, 16, 18, 3), np.float32)}, "sides divisible by 4, got 16 x 18"),
        ({"images": np.zeros((1, 16, 16, 3), np.uint8)}, "got uint8"),
    ],
    ids=["no row", "strength", "keys", "sides", "uint8"],
)
def test_what_cannot_be_run_is_refused(model, changes, message):
    plan = solvers.ddim(solvers.scheduler_grid(model.scheduler_config, 4))
    arguments = {
        "images": np.zeros((1, 16, 16, 3), np.float32),
        "ids": model.tokenize(["a cat"]),
        "keys": jax.random.key(0),
        "strength": 0.5,
    }
    with pytest.raises(InputError, match=message):
        sd.image_to_image(model, plan, **arguments | changes)


def test_a_traced_strength_is_refused_with_the_way_out(model):
    plan = solvers.ddim(solvers.scheduler_grid(model.scheduler_config, 4))
    with pytest.raises(InputError, match="static_argnames"):
        jax.jit(sd.shortened)(plan, 0.5)
