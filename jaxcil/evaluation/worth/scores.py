"""The scores that a classifier of real images gives to other images, for every class."""

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil.data.datasets import ImageSet
from jaxcil.errors import InputError
from jaxcil.evaluation.worth.judge import in_batches


class ImageScores(NamedTuple):
    """A classifier as a function of images on the host."""

    scores: Callable[[np.ndarray], np.ndarray]  # uint8 [N, H, W, 3] -> [N, C]; N > 0, all of one size
    sha256: str  # of its scores of its own training images: equal for classifiers that do the same


def image_scores(program: Callable[[Array], Array], data: ImageSet) -> ImageScores:
    """The scores of a compiled classifier, in batches, for images of the size that it was trained on.

    Args:
      program: uint8 images [B, H, W, 3] -> [B, C]; of `train_judge` or `on_features`.
      data: the images that it was trained on.
    """

    def scores(images: np.ndarray) -> np.ndarray:
        if images.shape[1:] != data.images.shape[1:]:
            raise InputError(
                f"the classifier was trained on images of {_size(data.images)} pixels, these have {_size(images)}. "
                "Bring the real images to their size with image_size."
            )
        return in_batches(program, images)

    own = scores(data.images)
    return ImageScores(
        scores, hashlib.sha256(f"{own.dtype} {own.shape}".encode() + own.tobytes()).hexdigest()
    )


def on_features(
    head: Any, features: Callable[[Array], Array], data: ImageSet, key: Array
) -> Callable[[Array], Array]:
    """A classifier of images: a head that is fitted to the features of labelled images.

    Args:
      head: any of `jaxcil.heads`.
      features: uint8 images [B, H, W, 3] -> [B, D], of any extractor.
      data: images of each class.
      key: for the head.

    Raises:
      InputError: a class has no images.
    """
    empty = set(range(len(data.class_names))) - set(np.unique(data.labels).tolist())
    if empty:
        raise InputError(f"there are no images of {data.class_names[min(empty)]!r} to fit the head to.")
    rows = jnp.asarray(in_batches(features, data.images))
    state = head.init(len(data.class_names), rows.shape[1], key)
    state = head.update(state, rows, jnp.asarray(data.labels), key)
    return jax.jit(lambda images: head.scores(state, features(images)))


def _size(images: np.ndarray) -> str:
    return " x ".join(str(side) for side in images.shape[1:3])
