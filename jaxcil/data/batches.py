"""Which rows of a resident data set are in which batch: a function of a key and the step number alone."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil import keys


def take(data: Any, rows: Array) -> Any:
    """The rows [B] of every leaf [N, ...] of a data set."""
    return jax.tree.map(lambda leaf: leaf[rows], data)


def steps_per_epoch(rows: np.ndarray, batch_size: int) -> int:
    """Full batches in one pass over the rows that are not padding; 1 if there are fewer rows than a batch holds."""
    return max(1, int((rows >= 0).sum()) // batch_size)


@jax.jit
def _shuffled(key: Array, rows: Array) -> Array:
    """Rows [R] in random order, the padding (-1) last."""
    order = jnp.where(rows < 0, jnp.inf, jax.random.uniform(key, rows.shape))
    return rows[jnp.argsort(order)]


def epoch_order(key: Array, rows: np.ndarray, epoch: int) -> np.ndarray:
    """The rows int32 [R] of a training in the order of one epoch, the padding (-1) last."""
    return np.asarray(_shuffled(keys.fold(key, epoch), jnp.asarray(rows, jnp.int32)))


@functools.lru_cache(maxsize=64)
def _epoch(seed: bytes, kind: str, rows: bytes, epoch: int) -> np.ndarray:
    key = jax.random.wrap_key_data(jnp.frombuffer(seed, jnp.uint32), impl=kind)
    return epoch_order(key, np.frombuffer(rows, np.int32), epoch)


def schedule(key: Array, rows: np.ndarray, batch_size: int, first: int, count: int) -> np.ndarray:
    """The batches of steps first ... first + count - 1.

    Every epoch is a new permutation of the rows; what does not fill a batch is left out, so that a batch never
    spans two epochs. With fewer rows than a batch holds, rows repeat within it.

    Args:
      key: of this training; epoch e uses fold(key, e).
      rows: int32 [R], numbers in the resident data set; -1 pads.
      batch_size: B.
      first: number of the first step.
      count: S.

    Returns:
      int32 [S, B], without padding.
    """
    rows = np.ascontiguousarray(rows, np.int32)
    valid = int((rows >= 0).sum())
    if valid == 0:
        raise ValueError("a training needs at least one row, got none")
    per_epoch = steps_per_epoch(rows, batch_size)
    seed, kind = np.asarray(jax.random.key_data(key)).tobytes(), str(jax.random.key_impl(key))
    batches = np.empty((count, batch_size), np.int32)
    for n in range(count):
        epoch, step = divmod(first + n, per_epoch)
        places = (step * batch_size + np.arange(batch_size)) % valid
        batches[n] = _epoch(seed, kind, rows.tobytes(), epoch)[places]
    return batches


def mixed_schedule(
    key: Array, rows: Sequence[np.ndarray], sizes: Sequence[int], first: int, count: int
) -> np.ndarray:
    """The batches of several parts, one behind the other in each batch: int32 [S, sum of sizes].

    Args:
      key: as `schedule` takes it; the first part has the batches that it would have alone.
      rows: int32 [R] of each part.
      sizes: of each part.
      first: number of the first step.
      count: S.
    """
    part_keys = [key, *(keys.fold(key, number) for number in range(2**31, 2**31 + len(rows) - 1))]
    return np.concatenate(
        [schedule(k, r, size, first, count) for k, r, size in zip(part_keys, rows, sizes)], axis=1
    )
