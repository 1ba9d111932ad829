"""The counted operations against torch's count of diffusers' networks, and the rules of counting."""

import functools

import jax
import jax.numpy as jnp
import pytest

from jaxcil.diffusion import released
from jaxcil.parallel.pods import flops


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


@functools.cache
def network(name):
    sd15 = released.RELEASED["sd15"]
    sd2 = {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True}
    part, configs = {
        "unet 1.5": ("unet", sd15),
        "unet 2.x": ("unet", sd15 | {"unet": sd2}),
        "vae": ("vae", sd15),
        "text": ("text_encoder", sd15),
    }[name]
    model = released.abstract(configs)
    return getattr(model, part), {"params": model.parameters[part]}


def counted(name, *inputs, method=None):
    module, parameters = network(name)
    return flops(functools.partial(module.apply, method=method), parameters, *inputs)


# TFLOP by torch's FlopCounterMode on diffusers' and transformers' modules (meta device), to three decimals.
@pytest.mark.parametrize(
    ("side", "unet_1", "unet_2", "decode", "encode"),
    [
        (32, 0.180, 0.181, 0.622, 0.273),
        pytest.param(64, 0.803, 0.804, 2.515, 1.117, marks=pytest.mark.slow),
    ],
    ids=["256 pixels", "512 pixels"],
)
def test_counts_are_those_of_torch(side, unet_1, unet_2, decode, encode):
    latents, images = shape(1, side, side, 4), shape(1, 8 * side, 8 * side, 3)
    counts = (
        counted("unet 1.5", latents, shape(), shape(1, 77, 768)),
        counted("unet 2.x", latents, shape(), shape(1, 77, 1024)),
        counted("vae", latents, method="decode"),
        counted("vae", images, method="encode"),
    )
    # half a unit of the last decimal of what torch counted
    assert [count / 1e12 for count in counts] == pytest.approx([unet_1, unet_2, decode, encode], abs=5e-4)


def test_the_text_encoder_counts_as_in_torch():
    # torch: 0.0133 TFLOP, and it too computes the half of the products that the causal mask throws away
    assert counted("text", jax.ShapeDtypeStruct((1, 77), jnp.int32)) / 1e12 == pytest.approx(0.0133, abs=5e-5)


def test_stable_diffusion_has_the_published_numbers_of_parameters():
    sizes = {
        name: sum(leaf.size for leaf in jax.tree.leaves(network(name)[1]))
        for name in ("unet 1.5", "vae", "text")
    }
    assert sizes == {"unet 1.5": 859_520_964, "vae": 83_653_863, "text": 123_060_480}


def test_a_loop_does_its_body_as_often_as_it_runs():
    left = shape(8, 8)

    def product(x):
        return x @ x

    def loop(x):
        return jax.lax.fori_loop(0, 7, lambda _, x: product(x), x)

    assert flops(jax.jit(loop), left) == 7 * flops(product, left) == 7 * 2 * 8**3


def test_of_two_branches_the_dearer_one_counts():
    def either(condition, x):
        return jax.lax.cond(condition, lambda x: x @ x @ x, lambda x: x @ x, x)

    assert flops(either, jax.ShapeDtypeStruct((), bool), shape(4, 4)) == 2 * 2 * 4**3


def test_grouped_convolutions_do_the_work_of_their_groups_alone():
    def convolve(x, kernel, groups):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    x = shape(2, 5, 7, 12)
    whole = flops(lambda *a: convolve(*a, 1), x, shape(3, 3, 12, 8))
    grouped = flops(lambda *a: convolve(*a, 4), x, shape(3, 3, 3, 8))
    assert whole == 4 * grouped == 2 * (2 * 5 * 7 * 8) * (3 * 3 * 12)


def test_work_that_is_repeated_an_unknown_number_of_times_is_refused():
    def until_large(x):
        return jax.lax.while_loop(lambda x: x[0, 0] < 9, lambda x: x @ x, x)

    with pytest.raises(ValueError, match="how often"):
        flops(until_large, shape(2, 2))
