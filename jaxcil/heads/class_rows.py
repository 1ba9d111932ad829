"""The rows of one task, seen by class: checks, sums and row numbers that several heads need.

A label of -1 marks a padding row. Its features may hold anything, NaN included, and never reach a result.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from jaxcil.errors import InputError


def task_rows(features: Array, labels: Array, *, like: Array) -> Array:
    """The features [B, D] of a task in the dtype of a state's array `like` [C, D], padding rows zero.

    Shapes are always checked; that labels lie in [-1, C) only where they are concrete (not under jit or
    vmap).
    """
    num_classes, feature_dim = like.shape
    if features.ndim != 2 or features.shape[1] != feature_dim:
        raise InputError(
            f"expected features [B, {feature_dim}] as `init` was told, got shape {features.shape}."
        )
    if labels.shape != features.shape[:1]:
        raise InputError(f"expected one label a row, [{features.shape[0]}], got shape {labels.shape}.")
    if not isinstance(labels, Tracer) and labels.size:
        low, high = int(labels.min()), int(labels.max())
        if low < -1 or high >= num_classes:
            raise InputError(
                f"labels must lie in [0, {num_classes}), -1 for padding; got {low if low < -1 else high}.\n"
                "Did you pass original class ids? Map them with `Scenario.to_contiguous` first."
            )
    return jnp.where((labels >= 0)[:, None], features.astype(like.dtype), 0)


def class_means(features: Array, labels: Array, num_classes: int) -> tuple[Array, Array]:
    """Means [C, D] and counts [C] int32 of the classes of a task; a class without rows has mean 0."""
    member = labels[:, None] == jnp.arange(num_classes, dtype=labels.dtype)[None, :]
    counts = jnp.sum(member, axis=0, dtype=jnp.int32)
    # A product with the one-hot matrix: a scatter-add has no fixed order on accelerators
    sums = jnp.matmul(member.astype(features.dtype).T, features, precision="highest")
    return sums / jnp.maximum(counts, 1).astype(features.dtype)[:, None], counts


def class_bound(labels: Array, images_a_class: int | None) -> int | None:
    """The static bound on the rows of one class: `images_a_class`, or else read from concrete labels.

    None where neither says it, under jit or vmap. A bound that concrete labels exceed is refused.
    """
    if isinstance(labels, Tracer):
        return images_a_class
    largest = int(np.bincount(np.asarray(labels) + 1)[1:].max(initial=1))
    if images_a_class is not None and images_a_class < largest:
        raise InputError(
            f"images_a_class is {images_a_class}, but one class of this task has {largest} images.\n"
            "Give the size of the largest class of the whole run."
        )
    return images_a_class or largest


def rows_of_class(labels: Array, label: Array | int, size: int) -> Array:
    """Row numbers [size] of one class in order; B, which is no row, fills the rest, and more are cut off."""
    return jnp.nonzero(labels == label, size=size, fill_value=labels.shape[0])[0]


def unit_rows(x: Array) -> Array:
    """Rows of x [..., D] scaled to length one; a row of zeros stays zero."""
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), jnp.finfo(x.dtype).tiny)
