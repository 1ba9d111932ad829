"""Samplers on a text-to-image model: how far their images are from real ones, and from the model's own limit.

The distance to real images is mostly the model's, whatever sampler draws. The distance to images of the same model by
very many calls is the sampler's alone. Both are Fréchet distances of features of a judge that was trained on real
images; precision and recall are those to real images. Images are drawn without guidance, so that the limit is one
distribution, the model's.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil import keys
from jaxcil.data import datasets
from jaxcil.diffusion.model import StableDiffusion
from jaxcil.diffusion.pipeline import text_to_image
from jaxcil.errors import InputError
from jaxcil.evaluation.samplers.compared import SAMPLERS, plans_of
from jaxcil.evaluation.samplers.settings import DigitsSettings
from jaxcil.evaluation.worth.feature_distances import precision_and_recall
from jaxcil.evaluation.worth.frechet import Moments, frechet_distance, moments
from jaxcil.evaluation.worth.judge import Judge, train_judge
from jaxcil.solvers import Plan
from jaxcil.synthesis.dataset import prompts
from jaxcil.synthesis.drawing.models import load_model
from jaxcil.synthesis.drawing.plans import model_grid


class Drawing(NamedTuple):
    """What is drawn, and who judges it: labels in turn, and templates in turn in each class."""

    model: StableDiffusion
    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    batch_size: int
    judge: Judge


def judged(settings: DigitsSettings) -> tuple[Drawing, np.ndarray, np.ndarray]:
    """Loads the model and the real images, and trains the judge.

    Returns:
      What is drawn; features [N, D] of real images that neither model nor judge was trained on; and of other real ones,
      that the model was trained on.
    """
    model = load_model(settings.model)
    train, test, seen = (
        datasets.load(settings.dataset, split, data_dir=settings.data_dir)
        for split in ("train", "test", settings.generator_split)
    )
    side, shape = model.unet.sample_size or 0, test.images.shape[1:3]
    size = np.broadcast_to(np.asarray(side), 2) * model.vae.factor
    if shape != tuple(size):
        raise InputError(f"the model draws images of {size} pixels, the real ones have {shape}")
    judge = train_judge(train, settings.judge)
    real, others = (np.asarray(judge.features(jnp.asarray(data.images))) for data in (test, seen))
    drawing = Drawing(model, test.class_names, settings.templates, settings.batch_size, judge)
    return drawing, real, others


def image_features(names: Sequence[str], nfe: int, seed: int, images: int, drawing: Drawing) -> np.ndarray:
    """Features [samplers, images, D] of images that samplers draw from the same noise.

    Args:
      names: of `SAMPLERS`.
      nfe: denoiser calls, on the grid of `jaxcil generate`: trailing times, and a last step that denoises.
      seed: of all noise.
      images: a multiple of the batch size.
      drawing: what is drawn.
    """
    plans = plans_of((SAMPLERS[name] for name in names), functools.partial(model_grid, drawing.model), nfe)
    batches = [
        jnp.stack(
            [drawing.judge.features(pixels) for pixels in _pixels(drawing.model, plans, ids, image_keys)]
        )
        for ids, image_keys in _batches(drawing, seed, images)
    ]
    return np.concatenate(batches, axis=1)


def image_quality(features: np.ndarray, real: np.ndarray, limit: Moments) -> dict[str, float]:
    """The measures of one sampler's images.

    Args:
      features: [N, D] of its images.
      real: [M, D] of real images that the model never saw.
      limit: of features of the model's images by very many calls.
    """
    precision, recall = precision_and_recall(jnp.asarray(real), jnp.asarray(features))
    own = moments(features)
    return {
        "frechet_to_limit": frechet_distance(own, limit),
        "frechet_to_real": frechet_distance(own, moments(real)),
        "precision": float(precision),
        "recall": float(recall),
    }


def _batches(drawing: Drawing, seed: int, images: int) -> Iterator[tuple[np.ndarray, Array]]:
    """Token ids [B, L] and keys [B]."""
    root = keys.root_key(seed)
    for start in range(0, images, drawing.batch_size):
        numbers = np.arange(start, start + drawing.batch_size)
        labels, indices = numbers % len(drawing.class_names), numbers // len(drawing.class_names)
        texts = [
            prompts.prompt(drawing.templates, drawing.class_names[label], int(index))
            for label, index in zip(labels, indices)
        ]
        image_keys = keys.image_keys(root, jnp.asarray(labels, jnp.uint32), jnp.asarray(indices, jnp.uint32))
        yield drawing.model.tokenize(texts), image_keys


@jax.jit  # one program per number of calls: a plan is a leaf
def _pixels(model: StableDiffusion, plans: Plan, ids: Array, image_keys: Array) -> Array:
    """Images [samplers, B, H, W, 3] uint8."""

    def drawn(plan: Plan) -> Array:
        images = text_to_image(model, plan, ids, image_keys, guidance_scale=None)
        return jnp.round((images / 2 + 0.5) * 255).astype(jnp.uint8)

    return jax.lax.map(drawn, plans)  # as fast as vmap on a CPU, in the memory of one
