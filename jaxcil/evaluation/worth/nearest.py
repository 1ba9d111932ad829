"""Nearest neighbours of images, in pixels or in features, and which of them are copies.

The distance of two images is in grey levels of 0 to 255: the root mean square over pixels and channels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

ROWS = 256  # points whose distances to all others are in memory at once
# picked by a difference of squares, which rounding spoils; the nearest of them by the square of a difference
CANDIDATES = 8


class Neighbours(NamedTuple):
    """For each of N points, the nearest one of another set."""

    distance: np.ndarray  # [N] float32
    number: np.ndarray  # [N] int32, in the other set


def nearest(points: np.ndarray, others: np.ndarray) -> Neighbours:
    """The nearest of M other points to each of N points.

    Args:
      points: [N, D].
      others: [M, D], M > 0.

    Returns:
      Euclidean distances and numbers: of the nearest of 8 candidates, which are picked to the rounding of float32.
    """
    return _nearest(points, others, np.full(len(points), -1))


def nearest_within(points: np.ndarray) -> Neighbours:
    """The nearest other point of the same set [N, D], N > 1, to each."""
    return _nearest(points, points, np.arange(len(points)))


def flat(images: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, 3] as points float32 [N, D], whose Euclidean distance is the distance of images."""
    rows = images.reshape(len(images), -1).astype(np.float32)
    return rows / np.float32(np.sqrt(rows.shape[1]))


def repeated(images: np.ndarray) -> int:
    """How many images [N, H, W, 3] have the pixels of an earlier one."""
    return len(images) - len({image.tobytes() for image in images})


def copied(images: np.ndarray, seen: np.ndarray) -> int:
    """How many images [N, H, W, 3] have the pixels of one of seen [M, H, W, 3]."""
    known = {image.tobytes() for image in seen}
    return sum(image.tobytes() in known for image in images)


def _nearest(points: np.ndarray, others: np.ndarray, own: np.ndarray) -> Neighbours:
    resident = jnp.asarray(others, jnp.float32)
    middle = resident.mean(0, keepdims=True)
    resident = resident - middle  # the closer to zero, the less cancels between squares
    squares = jnp.sum(resident**2, -1)
    parts = []
    for start in range(0, len(points), ROWS):
        part, itself = points[start : start + ROWS], own[start : start + ROWS]
        missing = min(ROWS, len(points)) - len(part)
        padded = np.pad(part, ((0, missing), (0, 0))), np.pad(itself, (0, missing))
        distance, number = _nearest_rows(*map(jnp.asarray, padded), middle, resident, squares)
        parts.append((np.asarray(distance)[: len(part)], np.asarray(number)[: len(part)]))
    return Neighbours(*map(np.concatenate, zip(*parts)))


@jax.jit
def _nearest_rows(
    points: Array, own: Array, middle: Array, others: Array, squares: Array
) -> tuple[Array, Array]:
    points = points - middle
    # not at the precision of TF32: neighbours are near each other
    away = squares[None] - 2 * jnp.matmul(points, others.T, precision=jax.lax.Precision.HIGHEST)
    away = jnp.where(jnp.arange(len(others))[None] == own[:, None], jnp.inf, away)
    nearness, numbers = jax.lax.top_k(-away, min(CANDIDATES, len(others)))
    distances = jnp.sqrt(jnp.sum((points[:, None] - others[numbers]) ** 2, -1))
    distances = jnp.where(nearness == -jnp.inf, jnp.inf, distances)  # the point itself
    best = distances.argmin(-1)[:, None]
    number = jnp.take_along_axis(numbers.astype(jnp.int32), best, -1)[:, 0]
    return jnp.take_along_axis(distances, best, -1)[:, 0], number
