"""Images of several samplers through one program, and the measures of their features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil import keys
from jaxcil.diffusion.pipeline import text_to_image
from jaxcil.evaluation.samplers.drawn import Drawing, image_features, image_quality
from jaxcil.evaluation.worth.frechet import moments
from jaxcil.evaluation.worth.judge import Judge
from jaxcil.solvers import ddim, scheduler_grid
from jaxcil.synthesis.drawing import models


def test_images_are_those_that_the_model_draws_for_class_and_number():
    model = models.load_model("digits")
    seen = []

    def features(images):  # the pixels themselves, and a record of them
        seen.append(np.asarray(images))
        return images.reshape(len(images), -1).astype(jnp.float32)

    judge = Judge(features, features, features)
    drawing = Drawing(model, ("zero", "one"), ("{}", "the digit {}"), 2, judge)
    drawn = image_features(["ddim", "er_sde_3"], 2, 5, 4, drawing)
    assert drawn.shape == (2, 4, 16 * 16 * 3)
    assert [images.shape[0] for images in seen] == [2] * 4  # two batches of two samplers

    config = {**model.scheduler_config, "timestep_spacing": "trailing"}
    plan = ddim(scheduler_grid(config, 2, final="zero"))
    # labels in turn, and templates in turn within each class
    ids = model.tokenize(["zero", "one", "the digit zero", "the digit one"])
    image_keys = keys.image_keys(keys.root_key(5), jnp.array([0, 1, 0, 1]), jnp.array([0, 0, 1, 1]))
    images = jax.jit(text_to_image)(model, plan, ids, image_keys, guidance_scale=None)
    expected = (np.asarray(images).reshape(4, -1) / 2 + 0.5) * 255
    # rounding to whole grey levels, and float32 in batches of another size
    np.testing.assert_allclose(drawn[0], expected, atol=0.51)


def test_features_of_real_images_are_real_and_of_the_limit_at_the_limit():
    real, limit = np.random.default_rng(0).normal(size=(2, 50, 4)).astype(np.float32)
    at_limit, at_real = image_quality(limit, real, moments(limit)), image_quality(real, real, moments(limit))
    assert at_limit["frechet_to_limit"] == pytest.approx(0, abs=1e-9)
    assert at_real["frechet_to_real"] == pytest.approx(0, abs=1e-9)
    assert at_real["frechet_to_limit"] == pytest.approx(at_limit["frechet_to_real"], rel=1e-9)
    assert at_real["precision"] == at_real["recall"] == 1.0
