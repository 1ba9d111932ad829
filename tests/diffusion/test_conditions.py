"""What a UNet may take beside latents, time and text: class labels, and channels behind the latents."""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcil.diffusion as sd
from jaxcil import solvers
from jaxcil.diffusion import weights
from jaxcil.diffusion.unet import UNet2DCondition
from jaxcil.errors import InputError

GOLDEN = pathlib.Path(__file__).parents[1] / "golden/stable_diffusion"
NODE = solvers.Node(jnp.float32(500.0), jnp.float32(0.6), jnp.float32(0.8))


@pytest.fixture(scope="module")
def plain():
    return sd.load(GOLDEN / "sd1")


@pytest.fixture(scope="module")
def model(plain):
    """sd1 with an inpainting UNet of 5 classes, which takes text states of 8 numbers."""
    folder = GOLDEN / "unet_inpainting/unet"
    network = UNet2DCondition.from_config(json.loads((folder / "config.json").read_text()))
    shapes = jax.eval_shape(network.initial, jax.random.key(0))
    parameters = plain.parameters | {"unet": weights.read(folder, "unet", shapes)}
    return plain.replace(unet=network, parameters=parameters)


def drawn():
    keys = jax.random.split(jax.random.key(1), 4)
    shapes = (2, 8, 8, 4), (2, 6, 8), (1, 6, 8), (2, 8, 8, 5)
    return [jax.random.normal(key, shape) for key, shape in zip(keys, shapes)]


def ddim(model):
    return solvers.ddim(solvers.scheduler_grid(model.scheduler_config, 2))


LABELS = np.array([4, 1], np.int32)
KEY = jax.random.key(0)


def test_the_network_sees_labels_and_the_extra_channels_behind_the_latents(model):
    x, text, _, extra = drawn()
    raw = jax.jit(lambda latents: sd.unet(model, latents, NODE.time, text, LABELS))(
        jnp.concatenate([x, extra], -1)
    )
    # epsilon prediction: x = 0.6 x0 + 0.8 epsilon; the extra channels are not noised
    expected = (x - 0.8 * raw) / 0.6
    prediction = jax.jit(sd.denoiser(model, text, conditions=sd.Conditions(LABELS, extra)))(x, NODE)
    np.testing.assert_allclose(prediction, expected, atol=1e-5)


def test_both_halves_of_the_guidance_have_labels_and_extra_channels(model):
    # Linear in the scale, between the predictions for the text and for the negative alone
    x, text, negative, extra = drawn()
    conditions = sd.Conditions(LABELS, extra)
    run = jax.jit(
        lambda text, scale: sd.denoiser(model, text, scale, negative, conditions=conditions)(x, NODE)
    )
    plain = jax.jit(lambda text: sd.denoiser(model, text, conditions=conditions)(x, NODE))
    one, zero = plain(text), plain(jnp.broadcast_to(negative, text.shape))
    np.testing.assert_allclose(run(text, 3.0), zero + 3 * (one - zero), atol=2e-5)


def test_an_inpainting_model_draws_images_from_latents_of_the_autoencoder(model):
    _, text, negative, extra = drawn()
    plan = ddim(model)
    images = jax.eval_shape(
        lambda key: sd.draw_images(
            model, plan, text, key, negative=negative, conditions=sd.Conditions(LABELS, extra)
        ),
        jax.random.key(0),
    )
    assert images.shape == (2, 32, 32, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extra": None}, r"takes 9 channels: 4 of latents and 5 .* got none.*inpainting"),
        ({"extra": np.zeros((2, 8, 8, 4), np.float32)}, r"extra \[B, h, w, 5\], got \(2, 8, 8, 4\)"),
        ({"class_labels": None}, "trained with 5 classes"),
        ({"class_labels": np.array([0, 5])}, r"lie in \[0, 5\), got 0 to 5"),
        ({"class_labels": np.array([-1, 2])}, r"lie in \[0, 5\), got -1 to 2"),
        ({"class_labels": np.array([1])}, r"one per text, \[2\], got \(1,\)"),
    ],
    ids=["no extra", "channels", "no labels", "above", "below", "length"],
)
def test_conditions_that_are_missing_or_do_not_fit_are_refused(model, changes, message):
    _, text, _, extra = drawn()
    with pytest.raises(InputError, match=message):
        sd.denoiser(model, text, conditions=sd.Conditions(LABELS, extra).replace(**changes))


def test_conditions_are_an_argument_of_a_compiled_function_with_their_counts_static(model):
    text, plan = model.tokenize(["a cat", "a dog"]), ddim(model)
    conditions = sd.Conditions(LABELS, jnp.zeros((2, 8, 8, 5)), clip_skip=1, decode_slice=1)
    wide = model.replace(unet=model.unet.clone(cross_attention_dim=32))
    wide = wide.replace(parameters=model.parameters | {"unet": jax.eval_shape(wide.unet.initial, KEY)})
    run = jax.eval_shape(
        functools.partial(sd.text_to_image, keys=KEY), wide, plan, text, conditions=conditions
    )
    assert run.shape == (2, 32, 32, 3)


def test_a_model_without_extra_channels_or_classes_takes_none(plain):
    text = jnp.zeros((2, 77, 32))
    with pytest.raises(InputError, match="takes 4 channels: 4 of latents and 0"):
        sd.denoiser(plain, text, conditions=sd.Conditions(extra=jnp.zeros((2, 8, 8, 5))))
    with pytest.raises(InputError, match="no classes of its own"):
        sd.denoiser(plain, text, conditions=sd.Conditions(class_labels=LABELS))


def test_text_to_image_with_an_inpainting_model_names_what_is_missing(plain):
    model = plain.replace(unet=plain.unet.clone(in_channels=9))
    plan = ddim(model)
    with pytest.raises(InputError, match="5 that must come as extra"):
        sd.text_to_image(model, plan, model.tokenize(["a cat"]), jax.random.key(0))
