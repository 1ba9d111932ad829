"""What this library saves, loaded by torch's libraries: needs the extra "convert", and is skipped without it."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcil.diffusion as sd
from jaxcil import solvers

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
pytest.importorskip("transformers")

SD1 = pathlib.Path(__file__).parents[1] / "golden/stable_diffusion/sd1"
# Networks in float64 are 1.2e-6 (text), 6e-7 (UNet), 2e-6 (VAE encoder), 3e-6 (decoder) from torch's in float32,
# whole runs 2e-6 in images of [0, 1]; the tolerances are ten times that, and fifty for a run through many calls.
TEXT, UNET, ENCODED, DECODED, IMAGES = 1e-5, 1e-5, 2e-5, 5e-5, 1e-4

pytestmark = pytest.mark.filterwarnings("default")  # torch's libraries warn of many things of their own


@pytest.fixture(autouse=True)
def _full_precision():
    with jax.default_matmul_precision("highest"), torch.no_grad():
        yield


@pytest.fixture(scope="module")
def model():
    return sd.load(SD1)


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    """A folder that this library has written, and torch's pipeline of it."""
    folder = tmp_path_factory.mktemp("saved")
    sd.save(folder, model, "float32")
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return folder, pipeline


@pytest.fixture(scope="module")
def inputs():
    generator = np.random.default_rng(0)
    latents, images = (
        generator.standard_normal(shape).astype(np.float32) for shape in ((2, 8, 12, 4), (2, 32, 48, 3))
    )
    return latents, np.tanh(images)


@pytest.fixture(scope="module")
def run():
    """Guided runs, compiled once for all plans of one shape."""
    return jax.jit(sd.text_to_image)


def nchw(array):
    return torch.from_numpy(np.ascontiguousarray(np.transpose(array, (0, 3, 1, 2))))


def worst(ours, theirs):
    """The largest difference from a tensor of torch."""
    theirs = theirs.numpy()
    theirs = np.transpose(theirs, (0, 2, 3, 1)) if theirs.ndim == 4 else theirs
    return np.abs(np.asarray(ours) - theirs).max()


def test_torch_loads_what_is_saved_and_its_networks_give_the_same(model, saved, inputs):
    _, pipeline = saved
    latents, images = inputs
    prompts = ["a photo of a cat", "an origami tiger, close-up"]
    ids = model.tokenize(prompts)
    theirs = pipeline.tokenizer(prompts, padding="max_length", truncation=True, return_tensors="np").input_ids
    np.testing.assert_array_equal(ids, theirs)
    text = jax.jit(sd.encode_text)(model, ids)
    assert worst(text, pipeline.text_encoder(torch.from_numpy(theirs)).last_hidden_state) < TEXT
    output = pipeline.unet(nchw(latents), 500, torch.from_numpy(np.array(text))).sample
    assert worst(jax.jit(sd.unet)(model, latents, 500.0, text), output) < UNET
    posterior = pipeline.vae.encode(nchw(images)).latent_dist
    mean, log_variance = jax.jit(sd.encode_image)(model, images)
    assert worst(mean, posterior.mean) < ENCODED
    assert worst(log_variance, posterior.logvar) < ENCODED
    decoded = pipeline.vae.decode(nchw(latents / model.vae.scaling_factor)).sample
    assert worst(jax.jit(sd.decode_latents)(model, latents), decoded.clamp(-1, 1)) < DECODED


@pytest.mark.parametrize(
    ("scheduler", "place"),
    [("DDIMScheduler", 0), ("DPMSolverMultistepScheduler", 1)],
    ids=["ddim", "dpmpp_2m"],
)
def test_whole_runs_are_those_of_torch(model, saved, inputs, run, scheduler, place):
    _, pipeline = saved
    latents = inputs[0]
    prompts, negative = ["a photo of a cat", "an origami tiger"], "a blurry photo of a dog"
    pipeline.scheduler = getattr(diffusers, scheduler).from_config(pipeline.scheduler.config)
    theirs = pipeline(
        prompts,
        negative_prompt=[negative] * 2,
        num_inference_steps=5,
        guidance_scale=7.5,
        latents=nchw(latents),
        height=32,
        width=48,
        output_type="pt",
    ).images
    grids = [solvers.scheduler_grid(model.scheduler_config, 5, convention) for convention in ("ddim", "dpm")]
    plans = solvers.stack([solvers.ddim(grids[0]), solvers.dpmpp_2m(grids[1])])
    images = run(
        model,
        jax.tree.map(lambda leaf: leaf[place], plans),
        model.tokenize(prompts),
        latents=jnp.asarray(latents),
        guidance_scale=7.5,
        negative_ids=model.tokenize([negative]),
    )
    assert worst(images / 2 + 0.5, theirs) < IMAGES
