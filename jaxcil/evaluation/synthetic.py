"""What a synthetic image set is worth: recognised by real data, useful for real data, and not copied.

Three questions, each with a small residual network as the judge:

- Do the images show what their labels say? Accuracy on them of a classifier trained on real images.
- Do they teach it? Accuracy on real test images of a classifier trained on them.
- Are they copies? Distances to the nearest image that the generator was trained on, beside those of real images
  that it never saw: a copying machine lies closer than reality does.
"""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcil import convolution, files, heads, keys
from jaxcil.data import augment
from jaxcil.data.datasets import ImageSet
from jaxcil.data.png import png
from jaxcil.errors import InputError, unknown_name
from jaxcil.extractors.resnet_cifar import ResNetCIFAR
from jaxcil.learners.fpcil import FPCIL, ExtractorState, Images
from jaxcil.training import loop
from jaxcil.training.optimizer import SGD
from jaxcil.training.state import Task

SHOWN, GAP = 20, 2  # pairs on the sheet, and white pixels around each image


class Judge(NamedTuple):
    """How the classifiers are trained."""

    blocks: int
    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    shift: int
    seed: int


class Classifier(NamedTuple):
    """A trained judge: two functions of uint8 images [N, H, W, 3]."""

    features: Callable[[jax.Array], jax.Array]  # [N, D], what the linear layer sees
    labels: Callable[[jax.Array], jax.Array]  # [N], predicted


def evaluate(
    synthetic: ImageSet, train: ImageSet, test: ImageSet, seen: ImageSet, judge: Judge
) -> dict[str, Any]:
    """The three answers.

    Args:
      synthetic: images to judge; their class names must all be among those of the real ones.
      train: real images to train a classifier on.
      test: real images to test classifiers on.
      seen: the real images that the generator was trained on.
      judge: how the classifiers are trained.

    Returns:
      Accuracies as fractions with the number of images that they are over, and quantiles of the distances.
    """
    synthetic, test = (_joined(data, train.class_names) for data in (synthetic, test))
    for name, data in (("synthetic", synthetic), ("test", test), ("seen", seen)):
        if data.images.shape[1:] != train.images.shape[1:]:
            raise InputError(
                f"{name} images are {data.images.shape[1:3]} pixels, training images {train.images.shape[1:3]}; "
                "bring them to the same size"
            )
    by_real, by_synthetic = (train_classifier(data, judge) for data in (train, synthetic))
    synthetic_distances, _ = nearest(synthetic.images, seen.images)
    real_distances, _ = nearest(test.images, seen.images)
    return {
        "synthetic_images": len(synthetic.labels),
        "real_test_images": len(test.labels),
        "recognised": _accuracy(by_real, synthetic),
        "real_test_accuracy_trained_on_real": _accuracy(by_real, test),
        "real_test_accuracy_trained_on_synthetic": _accuracy(by_synthetic, test),
        "distance_to_nearest_training_image": {
            "synthetic": _quantiles(synthetic_distances),
            "real_test": _quantiles(real_distances),
            "synthetic_closer_than_all_real": float((synthetic_distances < real_distances.min()).mean()),
        },
    }


def train_classifier(data: ImageSet, judge: Judge) -> Classifier:
    """A residual network trained on labelled images.

    Args:
      data: at least a batch of images.
      judge: how it is trained.

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
        optimizer=SGD(judge.learning_rate, judge.weight_decay),
        num_classes=len(data.class_names),
        network=ResNetCIFAR(judge.blocks, convolution=convolution.conv_general_dilated),
        steps=judge.steps,
        shift=judge.shift,
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
        chunk=min(100, judge.steps),
    )

    variables, linear = jax.tree.map(lambda leaf: leaf[0], (state.variables, state.classifier))

    @jax.jit
    def features(images: jax.Array) -> jax.Array:
        return learner.features(variables, augment.to_float(images))

    @jax.jit
    def labels(images: jax.Array) -> jax.Array:
        return (features(images) @ linear[:-1] + linear[-1:]).argmax(-1)

    return Classifier(features, labels)


def nearest(images: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Root mean square distance [N] of uint8 images [N, H, W, 3] to the nearest of seen [M, H, W, 3], and its number.

    The distance is in grey levels of 0 to 255, per pixel.
    """
    flat, other = (array.reshape(len(array), -1).astype(np.float64) for array in (images, seen))
    squares = (flat**2).sum(1)[:, None] - 2 * flat @ other.T + (other**2).sum(1)[None]
    number = squares.argmin(1)
    return np.sqrt(np.maximum(squares.min(1), 0) / flat.shape[1]), number


def nearest_sheet(synthetic: ImageSet, seen: ImageSet, path: str | pathlib.Path, zoom: int = 4) -> None:
    """A PNG with 20 synthetic images, spread over the classes, each above the nearest training image."""
    chosen = np.linspace(0, len(synthetic.labels) - 1, SHOWN).round().astype(int)
    order = np.argsort(synthetic.labels, kind="stable")[chosen]
    images = synthetic.images[order]
    _, number = nearest(images, seen.images)
    pairs = np.stack([images, seen.images[number]])  # [2, 20, H, W, 3]
    pairs = pairs.repeat(zoom, axis=2).repeat(zoom, axis=3)
    framed = np.pad(pairs, ((0, 0), (0, 0), (GAP, GAP), (GAP, GAP), (0, 0)), constant_values=255)
    rows = [np.concatenate(list(row), axis=1) for row in framed]
    files.write(path, png(np.concatenate(rows, axis=0)))


def _joined(synthetic: ImageSet, class_names: tuple[str, ...]) -> ImageSet:
    """Labels as positions in the real class names."""
    for name in synthetic.class_names:
        if name not in class_names:
            raise unknown_name("class name", name, class_names)
    positions = np.array([class_names.index(name) for name in synthetic.class_names], np.int32)
    return ImageSet(synthetic.images, positions[synthetic.labels], class_names)


def _accuracy(classifier: Classifier, data: ImageSet) -> float:
    return float((np.asarray(classifier.labels(jnp.asarray(data.images))) == data.labels).mean())


def _quantiles(distances: np.ndarray) -> dict[str, float]:
    return {name: float(np.quantile(distances, q)) for name, q in (("min", 0), ("median", 0.5), ("max", 1))}
