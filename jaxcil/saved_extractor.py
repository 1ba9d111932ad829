"""The extractor of a finished run, for use outside it."""

import os
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxcil import files, heads, keys
from jaxcil.data import augment
from jaxcil.errors import InputError
from jaxcil.extractors.resnet_cifar import ResNetCIFAR
from jaxcil.learners.fpcil import FPCIL, ExtractorState, Images
from jaxcil.run_settings import NETWORKS
from jaxcil.training import loop
from jaxcil.training.checkpoint import Checkpoints
from jaxcil.training.optimizer import SGD
from jaxcil.training.state import Task


def load_features(folder: str | os.PathLike) -> Callable[[Array], Array]:
    """A function of uint8 images [N, H, W, 3] that gives features [N, D] of an extractor, that of the first seed.

    Args:
      folder: RUN/extractors/NAME, in the workdir of a `jaxcil run` that came to its end.

    Raises:
      InputError: there is no such extractor.
    """
    folder = pathlib.Path(folder)
    results = folder.parent.parent / "results.json"
    if folder.parent.name != "extractors" or not folder.is_dir() or not results.exists():
        raise InputError(
            f"{folder} is no extractor of a finished run; expected RUN/extractors/NAME, with RUN/results.json"
        )
    run = files.read_json(results)
    config, num_classes = run["config"], len(run["class_names"])
    learner = FPCIL(
        data=Images(jnp.zeros((1, 8, 8, 3), jnp.uint8), jnp.zeros(1, jnp.int32)),
        future_rows=jnp.full(1, -1),
        head=heads.ncm(),
        optimizer=SGD(config["extractor"]["learning_rate"], config["extractor"]["weight_decay"]),
        num_classes=num_classes,
        network=ResNetCIFAR(NETWORKS[config["extractor"]["network"]]),
        steps=config["extractor"]["steps"],
    )

    def begin(key: Array) -> ExtractorState:
        every = jnp.ones(num_classes, bool)
        task = Task(0, jnp.zeros(1, jnp.int32), every, every)
        return learner.begin(learner.init(key, jnp.zeros((1, 8, 8, 3))), task, key)

    like = loop.begin(jax.vmap(begin), jnp.stack([keys.root_key(seed) for seed in config["seeds"]]))
    with Checkpoints(folder) as checkpoints:
        restored = checkpoints.restore(like)
    if restored is None:
        raise InputError(
            f"{folder} holds no training state; give the folder of an extractor that was trained"
        )
    variables = jax.tree.map(lambda leaf: leaf[0], restored[1].variables)
    return jax.jit(lambda images: learner.features(variables, augment.to_float(images)))
