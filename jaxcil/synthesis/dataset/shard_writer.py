"""Writes shards in a thread of its own, while the devices draw.

Encoding, checksums and waiting for the disk leave Python's lock, so that drawing hardly notices. What goes wrong in
the thread is raised in the one that draws, at its next step.
"""

import concurrent.futures
import queue
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

# How long a full queue, or a shard that is being written, goes without a look for errors and interrupts.
SECONDS_PER_LOOK = 0.1


class _Abandoned(Exception):
    """The images of a shard end before it does."""


class ShardWriter:
    """Hands images to a thread that writes their shards; a context manager, which leaves no thread behind."""

    def __init__(self, write: Callable[[int, Iterable[np.ndarray]], None], most: int):
        """Nothing is written yet.

        Args:
          write: writes a shard, of a number, from its images; called in the thread, for one shard at a time.
          most: images that wait to be written, at most; who gives more is held up.
        """
        self._write, self._most, self._abandoned = write, most, False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="shards")
        self._images: dict[int, queue.Queue[np.ndarray]] = {}
        self._shards: dict[int, Future[None]] = {}

    def __enter__(self) -> "ShardWriter":
        """Itself."""
        return self

    def __exit__(self, *exception: Any) -> None:
        """Waits for the shard in hand, if it is whole; one that lacks images is left, and its aside deleted."""
        self._abandoned = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def give(self, shard: int, image: np.ndarray) -> None:
        """Takes the next image of a shard; images of a shard come in their order, all before those of the next.

        Raises:
          Exception: whatever a write raised since the last call.
        """
        if shard not in self._images:
            self._images[shard] = queue.Queue(self._most)
            self._shards[shard] = self._pool.submit(self._write, shard, self._given(self._images[shard]))
        while True:
            self._raise()
            try:
                return self._images[shard].put(image, timeout=SECONDS_PER_LOOK)
            except queue.Full:
                continue

    def wait(self, shard: int) -> None:
        """Waits until a shard stands, all images of which were given.

        Raises:
          Exception: whatever a write raised since the last call.
        """
        if shard in self._shards:
            concurrent.futures.wait([self._shards[shard]])
        self._raise()

    def _raise(self) -> None:
        """Raises what a write raised, and forgets those that are done."""
        for shard in [shard for shard, job in self._shards.items() if job.done()]:
            del self._images[shard]
            self._shards.pop(shard).result()

    def _given(self, images: queue.Queue[np.ndarray]) -> Iterator[np.ndarray]:
        """The images of a shard as they come."""
        while True:
            try:
                yield images.get(timeout=SECONDS_PER_LOOK)
            except queue.Empty:
                if self._abandoned:
                    raise _Abandoned from None
