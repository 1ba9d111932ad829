"""The judge of images: a small residual network that learns the labels of one set."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcil import convolution, keys
from jaxcil.data.augmentation import augmentation
from jaxcil.data.datasets import ImageSet
from jaxcil.errors import InputError
from jaxcil.evaluation.worth.settings import JudgeSettings
from jaxcil.extractors.by_name import make_network
from jaxcil.learners.supervised import Supervised
from jaxcil.training import loop
from jaxcil.training.learner import Task
from jaxcil.training.optimizer import sgd
from jaxcil.training.tasks import Data, as_batch
from jaxcil.workdir import interruption

CHUNK = 100  # steps between two checkpoints
BATCH = 500  # images per forward pass in evaluation


class Judge(NamedTuple):
    """A trained classifier: three functions of uint8 images [N, H, W, 3]."""

    features: Callable[[jax.Array], jax.Array]  # [N, D], what the output layer sees
    scores: Callable[[jax.Array], jax.Array]  # [N, C], of the output layer
    labels: Callable[[jax.Array], jax.Array]  # [N], predicted


def train_judge(
    data: ImageSet,
    settings: JudgeSettings,
    checkpoints: loop.Checkpoints | None = None,
    notify: Callable[[loop.Report], None] = lambda report: None,
) -> Judge:
    """A residual network trained on labelled images.

    Args:
      data: at least a batch of images.
      settings: how it is trained.
      checkpoints: where its training is saved, and resumed from.
      notify: called after every chunk of steps.

    Raises:
      InputError: there are fewer images than a batch holds.
    """
    if len(data.labels) < settings.batch_size:
        raise InputError(
            f"a judge needs at least judge.batch_size = {settings.batch_size} images, got {len(data.labels)}; "
            "lower judge.batch_size"
        )
    learner = Supervised(
        optimizer=sgd(settings.learning_rate, settings.weight_decay),
        num_classes=len(data.class_names),
        network=make_network(settings.network, "float32", convolution.conv_general_dilated),
        steps=settings.steps,
        batch_size=settings.batch_size,
        augmentation=augmentation.Augmentation(crop=settings.crop or 0, border="edge"),
    )
    rows, every = np.arange(len(data.labels)), np.ones(learner.num_classes, bool)
    task = Task(0, rows, rows[:0], data.labels, every, every)
    run_keys = keys.root_key(settings.seed)[None]
    states = loop.begin(
        jax.vmap(lambda key: learner.init(key, jnp.zeros((1, *data.images.shape[1:])))), run_keys
    )
    trained = loop.train(
        loop.program(Supervised.step, batch=as_batch),
        learner,
        loop.begin(jax.vmap(lambda state, key: learner.begin(state, task, key)), states, run_keys),
        Data(jnp.asarray(data.images), jnp.asarray(data.labels), jnp.zeros(len(rows), bool)),
        [learner.parts(states, task, run_keys[0])],
        run_keys,
        steps=settings.steps,
        chunk=min(CHUNK, settings.steps),
        checkpoints=checkpoints,
        notify=notify,
    )
    trained, before = (jax.tree.map(lambda leaf: leaf[0], tree) for tree in (trained, states))
    state = learner.end(trained, before, task)

    @jax.jit
    def features(images: jax.Array) -> jax.Array:
        return learner.features(state, augmentation.to_float(images))

    @jax.jit
    def scores(images: jax.Array) -> jax.Array:
        return learner.readings(state, features(images))["cnn"]

    @jax.jit
    def labels(images: jax.Array) -> jax.Array:
        return scores(images).argmax(-1)

    return Judge(features, scores, labels)


def in_batches(function: Callable[[jax.Array], jax.Array], images: np.ndarray) -> np.ndarray:
    """A function of uint8 images, called on a batch at a time: [N, ...] for images [N, H, W, 3], N > 0.

    The last batch is padded with zeros, so that one program serves all.
    """
    batch = min(BATCH, len(images))
    parts = []
    for start in range(0, len(images), batch):
        interruption.check()
        part = images[start : start + batch]
        padded = np.pad(part, ((0, batch - len(part)), (0, 0), (0, 0), (0, 0)))
        parts.append(np.asarray(function(jnp.asarray(padded)))[: len(part)])
    return np.concatenate(parts)
