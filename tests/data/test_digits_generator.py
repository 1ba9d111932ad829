"""The pipeline that the package brings along."""

import pathlib

import jax
import numpy as np

from jaxcil import keys
from jaxcil.diffusion import pipeline
from jaxcil.synthesis.drawing.generate import fingerprint
from jaxcil.synthesis.drawing.models import EMBEDDED, load_model
from jaxcil.synthesis.drawing.plans import er_sde_plan

FOLDER = EMBEDDED["digits"]


def test_it_is_a_stable_diffusion_folder_of_at_most_5_mb():
    parts = {path.name for path in FOLDER.iterdir()}
    assert parts >= {"model_index.json", "tokenizer", "text_encoder", "unet", "vae", "scheduler"}
    assert sum(path.stat().st_size for path in pathlib.Path(FOLDER).rglob("*") if path.is_file()) <= 5_000_000
    assert [path.suffix for path in FOLDER.rglob("*.safetensors")] == [".safetensors"] * 3


def test_its_prompts_are_not_cut_and_its_words_differ():
    model = load_model("digits")
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    ids = model.tokenize(
        [f"a handwritten digit {name}" for name in names]
    )  # a cut would warn, which is an error
    assert len(np.unique(ids, axis=0)) == 10


def test_it_draws_images_with_ink_on_a_dark_ground():
    model = load_model("digits")
    plan = er_sde_plan(model, order=3, nfe=8)
    prompts = ["a handwritten digit zero", "a handwritten digit one"] * 4
    image_keys = keys.image_keys(keys.root_key(0), np.arange(8), np.arange(8))
    images = np.asarray(jax.jit(pipeline.text_to_image)(model, plan, model.tokenize(prompts), image_keys))
    assert images.shape == (8, 16, 16, 3)
    # digits are grey: the channels agree to a few levels of 256, which nothing but the training data asks for
    assert np.abs(images - images.mean(-1, keepdims=True)).max() < 0.25
    assert (images[:, 0, 0] < -0.8).all()  # corners are empty
    assert (images.max((1, 2, 3)) > 0.6).all()
    # a zero has a hole in its middle, a one has not
    middle = images[:, 6:10, 7:9].mean((1, 2, 3))
    assert middle[0::2].max() < middle[1::2].min()


def test_data_sets_of_the_first_version_go_on_with_its_fingerprint():
    # of version 0.1.0 before its networks had more settings: another one would refuse every set drawn till then
    expected = "9cd8da3a0668944f3199299854ae9839fd237f9e229448d17faaaa8ae4593ddd"
    assert fingerprint(load_model("digits")) == expected
