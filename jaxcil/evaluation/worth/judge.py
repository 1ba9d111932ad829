"""The judge of images: a small residual network that learns the labels of one set."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcil import convolution, heads, keys
from jaxcil.data.augmentation import augmentation
from jaxcil.data.datasets import ImageSet
from jaxcil.errors import InputError
from jaxcil.extractors.resnet_cifar import ResNetCIFAR
from jaxcil.learners.fpcil import FPCIL, ExtractorState, Images
from jaxcil.training import loop
from jaxcil.training.learner import Task
from jaxcil.training.optimizer import sgd

CHUNK = 100  # steps between two checkpoints
BATCH = 500  # images that a network sees at once, where it only looks


class Judge(NamedTuple):
    """How a classifier is trained."""

    blocks: int
    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    shift: int
    seed: int


class Classifier(NamedTuple):
    """A trained judge: three functions of uint8 images [N, H, W, 3]."""

    features: Callable[[jax.Array], jax.Array]  # [N, D], what the linear layer sees
    scores: Callable[[jax.Array], jax.Array]  # [N, C], of the linear layer
    labels: Callable[[jax.Array], jax.Array]  # [N], predicted


def train_classifier(
    data: ImageSet,
    judge: Judge,
    checkpoints: loop.Checkpoints | None = None,
    tell: Callable[[loop.Report], None] = lambda report: None,
) -> Classifier:
    """A residual network trained on labelled images.

    Args:
      data: at least a batch of images.
      judge: how it is trained.
      checkpoints: where its training is kept, and goes on from.
      tell: called after every chunk of steps.

    Raises:
      InputError: there are fewer images than a batch holds.
    """
    if len(data.labels) < judge.batch_size:
        raise InputError(f"a classifier needs at least {judge.batch_size} images, got {len(data.labels)}")
    resident = Images(jnp.asarray(data.images), jnp.asarray(data.labels))
    learner = FPCIL(
        data=resident,
        future_rows=jnp.full(1, -1),
        head=heads.ncm(),
        optimizer=sgd(judge.learning_rate, judge.weight_decay),
        num_classes=len(data.class_names),
        network=ResNetCIFAR(judge.blocks, convolution=convolution.conv_general_dilated),
        steps=judge.steps,
        augmentation=augmentation.Augmentation(crop=judge.shift, border="edge"),
    )
    rows = jnp.arange(len(data.labels))
    every = jnp.ones(learner.num_classes, bool)
    run_keys = keys.root_key(judge.seed)[None]
    example = jnp.zeros((1, *data.images.shape[1:]))

    def begin(key: jax.Array) -> ExtractorState:
        return learner.begin(learner.init(key, example), Task(0, rows, every, every), key)

    state = loop.train(
        loop.program(learner.step),
        loop.begin(jax.vmap(begin), run_keys),
        resident,
        np.asarray(rows),
        run_keys,
        steps=judge.steps,
        batch_size=judge.batch_size,
        chunk=min(CHUNK, judge.steps),
        checkpoints=checkpoints,
        tell=tell,
    )

    variables, linear = jax.tree.map(lambda leaf: leaf[0], (state.variables, state.classifier))

    @jax.jit
    def features(images: jax.Array) -> jax.Array:
        return learner.features(variables, augmentation.to_float(images))

    @jax.jit
    def scores(images: jax.Array) -> jax.Array:
        return learner.classifier.logits(linear, features(images))

    @jax.jit
    def labels(images: jax.Array) -> jax.Array:
        return scores(images).argmax(-1)

    return Classifier(features, scores, labels)


def in_batches(function: Callable[[jax.Array], jax.Array], images: np.ndarray) -> np.ndarray:
    """A function of uint8 images, called on some at a time: [N, ...] for images [N, H, W, 3], N > 0.

    The last batch is filled up with zeros, so that one program serves all.
    """
    batch = min(BATCH, len(images))
    found = []
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        filled = np.pad(part, ((0, batch - len(part)), (0, 0), (0, 0), (0, 0)))
        found.append(np.asarray(function(jnp.asarray(filled)))[: len(part)])
    return np.concatenate(found)
