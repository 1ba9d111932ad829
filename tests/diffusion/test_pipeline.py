"""Whole pipelines: folders, guidance, sampling."""

import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcil.diffusion as sd
from jaxcil.errors import InputError
from jaxcil.solvers import ddim, dpmpp_2m, scheduler_grid
from jaxcil.solvers.plan import Node, Plan
from jaxcil.solvers.sample import sample

SD1 = pathlib.Path(__file__).parents[1] / "golden/stable_diffusion/sd1"
NODE = Node(jnp.float32(500.0), jnp.float32(0.6), jnp.float32(0.8))


@pytest.fixture(autouse=True)
def _full_precision():
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture(scope="module")
def model():
    return sd.load(SD1)


@pytest.fixture(scope="module")
def denoise():
    """`denoiser` of three prompts at one node, compiled once for all tests."""

    @jax.jit
    def run(model, x, node, ids, scale=None, rescale=0.0):
        return sd.denoiser(model, sd.encode_text(model, ids), scale, guidance_rescale=rescale)(x, node)

    return run


@pytest.fixture(scope="module")
def inputs(model):
    x = jax.random.normal(jax.random.key(0), (3, 8, 8, 4))
    return x, NODE, model.tokenize(["a photo of a cat", "a dog", "two trucks"])


def nhwc(images):
    return np.transpose(images, (0, 2, 3, 1))


def worst(ours, theirs):
    return np.abs(np.asarray(ours) - theirs).max()


def ddim_plan(times, config):
    """DDIM with eta 0 by its own formula, x' = alpha' D + sigma' (x - alpha D) / sigma, in float64."""
    betas = (
        np.linspace(config["beta_start"] ** 0.5, config["beta_end"] ** 0.5, config["num_train_timesteps"])
        ** 2
    )
    abar = np.cumprod(1 - betas)
    times = [int(time) for time in times]
    # set_alpha_to_one is false: the last node has the noise level of time 0
    levels = np.array([abar[time] for time in times] + [abar[0]])
    alpha, sigma = np.sqrt(levels), np.sqrt(1 - levels)
    keep = sigma[1:] / sigma[:-1]
    history = (alpha[1:] - keep * alpha[:-1])[:, None]
    leaves = (np.array([*times, 0]), alpha, sigma, keep, history, np.zeros(len(keep)))
    return Plan(*(jnp.asarray(leaf, jnp.float32) for leaf in leaves))


def check_run(folder, stored):
    """The stored guided DDIM run of two prompts: latents after every step, and images."""
    model = sd.load(folder)
    plan = ddim_plan(stored["t2i/ddim/timesteps"], model.scheduler_config)
    ids = model.tokenize(json.loads(str(stored["t2i/prompts_json"])))
    negative_ids = model.tokenize([json.loads(str(stored["t2i/negative_json"]))])
    scale = float(stored["t2i/guidance_scale"])
    start = nhwc(stored["t2i/init_latents"])

    @jax.jit
    def run(model, plan, x, ids, negative_ids, scale):
        text, negative = sd.encode_text(model, ids), sd.encode_text(model, negative_ids)
        last, states, _ = sample(plan, sd.denoiser(model, text, scale, negative), x, trajectory=True)
        return states[1:], sd.decode_latents(model, last)

    states, images = run(model, plan, start, ids, negative_ids, scale)
    expected = np.transpose(stored["t2i/ddim/latents_per_step"], (0, 1, 3, 4, 2))
    # float64 is 1e-6 of the largest latent from the stored float32 run, and 2e-6 in the images
    assert worst(states, expected) < 2e-5 * np.abs(expected).max()
    assert worst(images / 2 + 0.5, stored["t2i/ddim/images"]) < 1e-4
    return model, plan, ids, negative_ids, scale, start, images


def test_a_guided_run_is_that_of_diffusers(golden):
    check_run(SD1, golden("stable_diffusion/sd1/golden.npz"))


def check_plans(folder, stored):
    """The stored guided runs by jaxcil's own plans."""
    model = sd.load(folder)
    ids = model.tokenize(json.loads(str(stored["t2i/prompts_json"])))
    negative_ids = model.tokenize([json.loads(str(stored["t2i/negative_json"]))])
    for name, solver, convention in (("ddim", ddim, "ddim"), ("dpmpp_2m", dpmpp_2m, "dpm")):
        plan = solver(scheduler_grid(model.scheduler_config, 5, convention))
        assert list(plan.time[:-1]) == list(stored[f"t2i/{name}/timesteps"])
        images = jax.jit(sd.text_to_image)(
            model,
            plan,
            ids,
            latents=nhwc(stored["t2i/init_latents"]),
            guidance_scale=float(stored["t2i/guidance_scale"]),
            negative_ids=negative_ids,
        )
        assert worst(images / 2 + 0.5, stored[f"t2i/{name}/images"]) < 1e-4


def test_guided_runs_by_solvers_of_this_library_are_those_of_diffusers(golden):
    check_plans(SD1, golden("stable_diffusion/sd1/golden.npz"))


@pytest.mark.golden
def test_guided_runs_by_solvers_of_this_library_with_v_prediction_are_too(full_golden):
    with np.load(full_golden / "stable_diffusion/sd2/golden.npz") as stored:
        check_plans(full_golden / "stable_diffusion/sd2", stored)


@pytest.mark.golden
def test_a_guided_run_with_v_prediction_is_that_of_diffusers(full_golden):
    folder = full_golden / "stable_diffusion/sd2"
    with np.load(folder / "golden.npz") as stored:
        model, plan, ids, negative_ids, scale, start, images = check_run(folder, stored)
    again = sd.text_to_image(model, plan, ids, latents=start, guidance_scale=scale, negative_ids=negative_ids)
    assert worst(again, images) < 1e-5


@pytest.mark.golden
def test_a_folder_of_the_flax_days_is_the_same_model(full_golden, model):
    flax_model = sd.load(full_golden / "stable_diffusion/sd1_flax")
    same = jax.tree.map(np.array_equal, flax_model.parameters, model.parameters)
    assert jax.tree.all(same)


def test_an_image_depends_on_its_own_key_and_prompt_alone(model):
    plan = ddim_plan([801, 401], model.scheduler_config).replace(noise=jnp.full(2, 0.1))
    keys = jax.random.split(jax.random.key(1), 4)
    ids = model.tokenize(["a photo of a cat", "a dog", "two trucks", "a house"])
    run = jax.jit(lambda ids, keys: sd.text_to_image(model, plan, ids, keys, size=(32, 48)))
    one, two = (run(ids[rows], keys[rows]) for rows in (np.array([0, 1, 2]), np.array([1, 3, 0])))
    assert one.shape == (3, 32, 48, 3)
    assert one.dtype == jnp.float32
    assert np.abs(one).max() <= 1
    # float32 sums may be cut otherwise at another place of the batch
    assert worst(one[1], two[0]) < 1e-5
    assert worst(one[0], two[2]) < 1e-5
    assert worst(one[0], one[1]) > 0.1


def test_a_run_compiles_once_for_models_loaded_twice_and_for_all_guidance_scales(model):
    traces = []

    @jax.jit
    def run(model, plan, ids, keys, scale):
        traces.append(scale)
        return sd.text_to_image(model, plan, ids, keys, guidance_scale=scale)

    plan = ddim_plan([801], model.scheduler_config)
    ids = model.tokenize(["a photo of a cat"])
    shapes = [
        jax.eval_shape(run, loaded, plan, ids, jax.random.key(seed), jnp.float32(scale))
        for loaded, seed, scale in ((model, 0, 2.0), (sd.load(SD1), 1, 7.5))
    ]
    assert shapes[0].shape == (1, 32, 32, 3)  # the size of the training, sample_size times 4
    assert len(traces) == 1


def test_a_run_lowers_for_every_platform(model):
    plan, ids = ddim_plan([801], model.scheduler_config), model.tokenize(["a photo of a cat"])

    def run(parameters, seed):
        return sd.text_to_image(model.replace(parameters=parameters), plan, ids, jax.random.key(seed))

    exported = jax.export.export(jax.jit(run), platforms=("cpu", "cuda", "tpu"))(model.parameters, 0)
    assert exported.out_avals[0].shape == (1, 32, 32, 3)


def test_encoded_texts_are_drawn_as_their_prompts_without_the_text_encoder(model):
    plan = ddim_plan([801, 401], model.scheduler_config)
    ids, empty = model.tokenize(["a photo of a cat", "a dog"]), model.tokenize([""])
    expected = jax.jit(lambda key: sd.text_to_image(model, plan, ids, key, size=16))(jax.random.key(2))
    text, negative = sd.encode_text(model, ids), sd.encode_text(model, empty)
    parts = {part: tree for part, tree in model.parameters.items() if part != "text_encoder"}
    rest = model.replace(parameters=parts)
    images = jax.jit(lambda key: sd.draw_images(rest, plan, text, key, negative=negative, size=16))(
        jax.random.key(2)
    )
    assert worst(images, expected) < 1e-5


def test_the_empty_prompt_is_encoded_once_for_all_images(model, monkeypatch):
    shapes, encode = [], type(model.text_encoder).__call__
    monkeypatch.setattr(
        type(model.text_encoder),
        "__call__",
        lambda self, ids, *rest: shapes.append(ids.shape) or encode(self, ids, *rest),
    )
    plan, ids = ddim_plan([801], model.scheduler_config), model.tokenize(["a cat", "a dog", "a fox"])
    jax.eval_shape(lambda key: sd.text_to_image(model, plan, ids, key), jax.random.key(0))
    assert sorted(shapes) == [(1, 77), (3, 77)]


@pytest.mark.slow
def test_skipped_layers_change_the_prompts_alone_as_in_diffusers(model):
    plan = ddim_plan([801], model.scheduler_config)
    ids, negative_ids = model.tokenize(["a photo of a cat"]), model.tokenize(["a dog"])
    text, negative = sd.encode_text(model, ids, 1), sd.encode_text(model, negative_ids)
    settings = {"size": 16, "guidance_scale": 2.0}
    skipped, drawn = (
        jax.jit(run)(jax.random.key(0))
        for run in (
            lambda key: sd.text_to_image(
                model,
                plan,
                ids,
                key,
                negative_ids=negative_ids,
                conditions=sd.Conditions(clip_skip=1),
                **settings,
            ),
            lambda key: sd.draw_images(model, plan, text, key, negative=negative, **settings),
        )
    )
    assert worst(skipped, drawn) < 1e-5
    assert worst(sd.encode_text(model, ids), text) > 1e-3


def test_pooled_texts_and_their_projections_are_those_of_transformers(model, golden):
    """CLIPTextModelWithProjection of transformers 5.23 with sd1's text encoder and a random projection.

    With eos_token_id 2 the largest id marks the end; with 500, which the texts hold earlier, its first place.
    """
    stored = golden("stable_diffusion/sd1/golden.npz")
    assert worst(sd.pooled_text(model, stored["text/ids"]), stored["text/pooled"]) < 1e-5
    stored = golden("stable_diffusion/text_projection.npz")
    for eos in (2, 500):
        with_eos = model.replace(text_encoder=dataclasses.replace(model.text_encoder, eos_token_id=eos))
        embeds = sd.pooled_text(with_eos, stored["ids"], stored["kernel"])
        # Sums of 32 terms of states that are 1e-5 from transformers'
        assert worst(embeds, stored[f"embeds_{eos}"]) < 3e-5


def test_guidance_of_one_is_no_guidance(model, denoise, inputs):
    plain = denoise(model, *inputs)
    guided = denoise(model, *inputs, jnp.ones(3))
    assert worst(guided, plain) < 1e-5


def test_guidance_is_linear_in_the_scale_of_each_sample(model, denoise, inputs):
    scales = jnp.array([0.0, 1.0, 3.0])
    zero, one, mixed = (denoise(model, *inputs, scale) for scale in (jnp.zeros(3), jnp.ones(3), scales))
    expected = zero + scales[:, None, None, None] * (one - zero)
    assert worst(mixed, expected) < 1e-5


def test_full_rescaling_gives_the_guided_noise_the_deviation_of_the_plain_one(model, denoise, inputs):
    x, node, _ = inputs
    deviations = [
        np.std((x - node.alpha * x0) / node.sigma, axis=(1, 2, 3))
        for x0 in (
            denoise(model, *inputs),
            denoise(model, *inputs, jnp.full(3, 9.0), 1.0),
            denoise(model, *inputs, jnp.full(3, 9.0), 0.0),
        )
    ]
    np.testing.assert_allclose(deviations[1], deviations[0], rtol=1e-4)
    assert np.all(np.abs(deviations[2] / deviations[0] - 1) > 1e-3)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_prediction_does_not_depend_on_how_the_noise_level_is_written(model, denoise, inputs, prediction):
    # x0 + sigma epsilon in place of alpha x0 + sigma epsilon: the same sample times 1 / alpha
    model = model.replace(scheduler=json.dumps(model.scheduler_config | {"prediction_type": prediction}))
    x, node, ids = inputs
    other = Node(node.time, jnp.float32(1.0), node.sigma / node.alpha)
    assert worst(denoise(model, x / node.alpha, other, ids), denoise(model, x, node, ids)) < 2e-5


def test_a_mean_latent_is_what_decoding_takes_after_scaling(model):
    # decode_latents divides by the scaling factor: the autoencoder's own reconstruction comes out, clipped
    images = jnp.tanh(jax.random.normal(jax.random.key(2), (1, 16, 24, 3)))
    mean, log_variance = sd.encode_image(model, images)
    assert mean.shape == log_variance.shape == (1, 4, 6, 4)
    reconstruction = model.vae.apply({"params": model.parameters["vae"]}, images)
    decoded = sd.decode_latents(model, mean * model.vae.scaling_factor)
    assert worst(decoded, jnp.clip(reconstruction, -1, 1)) < 1e-5


def test_importing_needs_neither_diffusers_nor_the_libraries_of_training():
    code = "import sys, jaxcil.diffusion; print(*{name.split('.')[0] for name in sys.modules})"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    heavy = {
        "diffusers",
        "huggingface_hub",
        "optax",
        "orbax",
        "torch",
        "tensorflow_datasets",
        "ml_collections",
    }
    assert not heavy & set(modules.split())


def test_the_package_offers_the_function_unet_beside_the_submodule():
    assert sd.unet.__module__ == "jaxcil.diffusion.model"
    assert sys.modules["jaxcil.diffusion.unet"].UNet2DCondition


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_saved_model_loads_bit_for_bit(model, dtype, tmp_path):
    sd.save(tmp_path, model, dtype)
    sd.save(tmp_path, model, dtype)  # over itself
    loaded = sd.load(tmp_path)
    assert jax.tree.all(jax.tree.map(np.array_equal, loaded.parameters, model.parameters))
    assert (loaded.unet, loaded.vae, loaded.text_encoder) == (model.unet, model.vae, model.text_encoder)
    assert loaded.tokenizer == model.tokenizer
    ours, theirs = loaded.scheduler_config, model.scheduler_config
    assert ours | {"_diffusers_version": ""} == theirs | {"_diffusers_version": ""}
    index = json.loads((tmp_path / "model_index.json").read_text())
    original = json.loads((SD1 / "model_index.json").read_text())
    assert index | {"_diffusers_version": ""} == original | {"_diffusers_version": ""}
    assert not list(tmp_path.rglob(".*"))


def test_half_precision_models_give_float32(model):
    half = sd.load(SD1, jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(half.parameters)} == {jnp.dtype(jnp.bfloat16)}
    plan = ddim_plan([801], half.scheduler_config)
    images = jax.eval_shape(sd.text_to_image, half, plan, half.tokenize(["a cat"]), jax.random.key(0))
    assert images.dtype == jnp.float32


def changed(folder, target, file, **values):
    """A copy of a pipeline with other values in one of its JSON files."""
    shutil.copytree(folder, target)
    path = target / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return target


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        (
            "model_index.json",
            {"unet": ["diffusers", "UNet1DModel"]},
            "unet .* must be a UNet2DConditionModel",
        ),
        ("unet/config.json", {"class_embed_type": "timestep"}, "class_embed_type: 'timestep'"),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "prediction type.*'sample'"),
        ("tokenizer/tokenizer_config.json", {"model_max_length": 99}, "99 ids"),
    ],
    ids=["class", "setting", "prediction", "length"],
)
def test_a_pipeline_that_is_not_understood_is_refused(tmp_path, file, values, message):
    with pytest.raises(InputError, match=message):
        sd.load(changed(SD1, tmp_path / "pipeline", file, **values))


def test_parts_that_do_not_fit_are_not_saved(model, tmp_path):
    wide = dataclasses.replace(model.text_encoder, hidden_size=64)
    with pytest.raises(InputError, match=r"width 32, .* returns 64"):
        sd.save(tmp_path, model.replace(text_encoder=wide))
    assert not list(tmp_path.iterdir())


def test_sampling_says_what_it_lacks(model):
    plan, ids = ddim_plan([801], model.scheduler_config), model.tokenize(["a cat"])
    with pytest.raises(InputError, match="keys"):
        sd.text_to_image(model, plan, ids)
    with pytest.raises(InputError, match="multiple of 4"):
        sd.text_to_image(model, plan, ids, jax.random.key(0), size=30)
    sizeless = model.replace(unet=dataclasses.replace(model.unet, sample_size=None))
    with pytest.raises(InputError, match="size="):
        sd.text_to_image(sizeless, plan, ids, jax.random.key(0))
