"""The rows of one task by class: checks, sums and row numbers that several heads need.

A label of -1 marks a padding row. Its features may hold anything, NaN included, and never reach a result.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from jaxcil.errors import InputError

LANES = 16


def task_rows(
    features: Array, labels: Array, *, like: Array | jax.ShapeDtypeStruct, masked: bool = True
) -> Array:
    """The features [B, D] of a task in the dtype of a state's array `like` [C, D].

    Args:
      features: of the task.
      labels: int32 [B]; -1: padding.
      like: gives C, D and the dtype.
      masked: whether padding rows are set to zero; leaving them as they are saves a copy.

    Raises:
      InputError: another number of features or of labels; and, where they are concrete (not under jit or vmap),
        labels outside [-1, C) or features of a true row that are not finite.
    """
    num_classes, feature_dim = like.shape
    _check_shape(features, feature_dim)
    if labels.shape != features.shape[:1]:
        raise InputError(f"expected one label per row, [{features.shape[0]}], got shape {labels.shape}.")
    if not isinstance(labels, Tracer) and labels.size:
        concrete = np.asarray(labels)
        low, high = int(concrete.min()), int(concrete.max())
        if low < -1 or high >= num_classes:
            raise InputError(
                f"labels must lie in [0, {num_classes}), -1 for padding; got {low if low < -1 else high}.\n"
                "Did you pass original class ids? Map them with `Scenario.to_contiguous` first."
            )
    features = features.astype(like.dtype)
    zeroed = _without_padding(features, labels)
    _check_finite(zeroed)
    return zeroed if masked else features


def scored_rows(features: Array, *, like: Array | jax.ShapeDtypeStruct) -> Array:
    """Features [B, D] to be scored, in the dtype of a state's array `like` [C, D].

    Raises:
      InputError: another number of features; and, where they are concrete, features that are not finite.
    """
    _check_shape(features, like.shape[1])
    _check_finite(features)
    return features.astype(like.dtype)


def known_classes_only(scores: Array, counts: Array) -> Array:
    """Scores [B, C] with -inf in the columns of classes whose count [C] is 0: they are never predicted."""
    return jnp.where((counts > 0)[None, :], scores, -jnp.inf)


def one_hot(labels: Array, num_classes: int, dtype: jnp.dtype) -> Array:
    """Targets [B, C]; a padding row is zero."""
    return (labels[:, None] == jnp.arange(num_classes, dtype=labels.dtype)[None, :]).astype(dtype)


def class_means(features: Array, labels: Array, num_classes: int) -> tuple[Array, Array]:
    """Means [C, D] and counts [C] int32 of the classes of a task; a class without rows has mean 0."""
    counts = class_counts(labels, num_classes)

    def multiplied(features: Array, labels: Array) -> Array:
        members = one_hot(labels, num_classes, features.dtype)
        return jnp.matmul(members.T, _without_padding(features, labels), precision="highest")

    sums = jax.lax.platform_dependent(
        features,
        labels,
        cpu=lambda features, labels: _sums(features, labels, num_classes),
        default=multiplied,
    )
    return sums / jnp.maximum(counts, 1).astype(features.dtype)[:, None], counts


def class_counts(labels: Array, num_classes: int) -> Array:
    """Number of rows of each class, [C] int32."""

    def compared(labels: Array) -> Array:
        return jnp.sum(
            labels[:, None] == jnp.arange(num_classes, dtype=labels.dtype)[None, :], axis=0, dtype=jnp.int32
        )

    def added(labels: Array) -> Array:
        return _sums(jnp.ones_like(labels, jnp.int32), labels, num_classes)

    return jax.lax.platform_dependent(labels, cpu=added, default=compared)


def class_bound(labels: Array, images_per_class: int | None) -> int | None:
    """The static bound on the rows of one class: `images_per_class`, or the largest class of concrete labels.

    None where neither is known, under jit or vmap. A bound that concrete labels exceed is refused.
    """
    if isinstance(labels, Tracer):
        return images_per_class
    largest = int(np.bincount(np.asarray(labels) + 1)[1:].max(initial=1))
    if images_per_class is not None and images_per_class < largest:
        raise InputError(
            f"images_per_class is {images_per_class}, but one class of this task has {largest} images.\n"
            "Give the size of the largest class of the whole run."
        )
    return images_per_class or largest


def rows_by_class(labels: Array, num_classes: int, size: int) -> Array:
    """Row numbers [C, size] of each class in order; B, which is no row, fills the rest. Further rows are cut off."""
    order = jnp.argsort(jnp.where(labels < 0, num_classes, labels), stable=True).astype(jnp.int32)
    counts = class_counts(labels, num_classes)
    places = (jnp.cumsum(counts) - counts)[:, None] + jnp.arange(size, dtype=jnp.int32)[None, :]
    real = jnp.arange(size, dtype=jnp.int32)[None, :] < counts[:, None]
    return jnp.where(real, order.at[places].get(mode="clip"), labels.shape[0])


def check_positive(name: str, value: Array | float, *, zero: bool = False) -> None:
    """Refuses a hyperparameter that is concrete and not > 0 (with `zero`: not >= 0) or not finite."""
    if isinstance(value, Tracer):
        return
    low = float(np.min(np.asarray(value)))
    if not np.isfinite(np.asarray(value)).all() or low < 0 or (low == 0 and not zero):
        raise InputError(f"{name} must be {'>= 0' if zero else '> 0'} and finite, got {value}.")


def check_fraction(name: str, value: Array | float) -> None:
    """Refuses a hyperparameter that is concrete and not in (0, 1]."""
    check_positive(name, value)
    if not isinstance(value, Tracer) and float(np.max(np.asarray(value))) > 1:
        raise InputError(f"{name} must lie in (0, 1], got {value}.")


def check_size(name: str, value: int) -> None:
    """Refuses a static size that is no whole number >= 1."""
    if not isinstance(value, int) or value < 1:
        raise InputError(f"{name} must be a whole number >= 1, got {value}.")


def _without_padding(features: Array, labels: Array) -> Array:
    return jnp.where((labels >= 0)[:, None], features, 0)


def _sums(values: Array, labels: Array, num_classes: int) -> Array:
    """Sums [C, ...] of values [B, ...] by class: on a CPU six times as fast as products; elsewhere in no fixed order.

    Rows are added one by one, which loses digits where many are alike; so they go to `LANES` sums in turn.
    """
    lane = jnp.arange(labels.shape[0], dtype=jnp.int32) % LANES
    rows = jnp.where(labels < 0, num_classes * LANES, labels * LANES + lane)
    sums = jax.ops.segment_sum(values, rows, num_classes * LANES)
    return sums.reshape(num_classes, LANES, *values.shape[1:]).sum(axis=1, dtype=values.dtype)


def _check_shape(features: Array, feature_dim: int) -> None:
    if features.ndim != 2 or features.shape[1] != feature_dim:
        raise InputError(
            f"expected features [B, {feature_dim}] as given to `init`, got shape {features.shape}.\n"
            "A head belongs to one extractor: make a new state for features of another width."
        )


def _check_finite(features: Array) -> None:
    if isinstance(features, Tracer):
        return
    with jax.ensure_compile_time_eval():  # constants of a function that is being traced are concrete too
        if bool(jnp.isfinite(features).all()):
            return
    row = int(np.flatnonzero(~np.isfinite(np.asarray(features)).all(axis=1))[0])
    raise InputError(
        f"expected finite features, got NaN or infinity in row {row}.\n"
        "Look for a training that diverged, or mark padding rows with the label -1."
    )
