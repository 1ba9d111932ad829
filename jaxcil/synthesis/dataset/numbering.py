"""The images of a synthetic data set, numbered once and for all.

A request is (label, index): image `index` of a class, whose label is its position in the data set's list of
classes. Requests are numbered block after block, and a shard is a fixed range of numbers. A data set that gets more
classes, or more images per class, gets new blocks and shards at the end; nothing is renumbered.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np


class Block(NamedTuple):
    """Images first, first + 1, ..., first + count - 1 of one class."""

    label: int
    first: int
    count: int


class Requests(NamedTuple):
    """All requests of a data set; both lists are only ever appended to."""

    blocks: tuple[Block, ...] = ()
    shards: tuple[tuple[int, int], ...] = ()  # ranges [start, stop) of request numbers, without gaps

    @property
    def total(self) -> int:
        """The number of requests."""
        return self.shards[-1][1] if self.shards else 0

    def images_per_class(self) -> dict[int, int]:
        """The number of images by label."""
        counts: dict[int, int] = {}
        for block in self.blocks:
            counts[block.label] = counts.get(block.label, 0) + block.count
        return counts


def extended(
    requests: Requests, num_classes: int, images_per_class: int | Sequence[int], shard_size: int
) -> Requests:
    """The requests, with all that are missing appended.

    Args:
      requests: those of the data set; `Requests()` if it is new.
      num_classes: labels 0 .. num_classes - 1.
      images_per_class: images 0 .. images_per_class - 1 of each, or a number for each label; classes that have more
        keep them.
      shard_size: requests in a new shard; the last may hold fewer, and never changes afterwards.
    """
    counts = requests.images_per_class()
    asked = [images_per_class] * num_classes if isinstance(images_per_class, int) else images_per_class
    blocks = [
        Block(label, counts.get(label, 0), asked[label] - counts.get(label, 0))
        for label in range(num_classes)
        if counts.get(label, 0) < asked[label]
    ]
    start, stop = requests.total, requests.total + sum(block.count for block in blocks)
    shards = [(at, min(at + shard_size, stop)) for at in range(start, stop, shard_size)]
    return Requests((*requests.blocks, *blocks), (*requests.shards, *shards))


def located(requests: Requests, numbers: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
    """Labels [n] and indices [n], int64, of n request numbers."""
    numbers = np.fromiter(numbers, np.int64)
    counts = np.array([block.count for block in requests.blocks], np.int64)
    starts = np.cumsum(counts) - counts
    blocks = np.searchsorted(starts, numbers, side="right") - 1
    labels = np.array([block.label for block in requests.blocks], np.int64)
    firsts = np.array([block.first for block in requests.blocks], np.int64)
    return labels[blocks], firsts[blocks] + numbers - starts[blocks]


def to_json(requests: Requests) -> dict[str, Any]:
    """The two lists, for the manifest."""
    return {
        "blocks": [list(block) for block in requests.blocks],
        "shards": [list(s) for s in requests.shards],
    }


def from_json(value: dict[str, Sequence[Sequence[int]]]) -> Requests:
    """The inverse of `to_json`.

    Raises:
      TypeError: a number is not an integer.
    """
    if not all(type(number) is int for rows in value.values() for row in rows for number in row):
        raise TypeError("requests must be whole numbers")
    return Requests(
        blocks=tuple(Block(*block) for block in value["blocks"]),
        shards=tuple((start, stop) for start, stop in value["shards"]),
    )
