"""Writes shards in a separate thread while the devices draw.

Encoding, checksums and waiting for the disk release Python's lock, so drawing is hardly slowed down. An error in the
thread is raised in the one that draws, at its next step.
"""

import concurrent.futures
import queue
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

# While waiting for a full queue or a shard, errors and interrupts are checked this often.
SECONDS_PER_LOOK = 0.1


class _Abandoned(Exception):
    """The writer was closed before all images of a shard came."""


class ShardWriter:
    """Passes images to a thread that writes their shards; a context manager, which leaves no thread running."""

    def __init__(self, write: Callable[[int, Iterable[np.ndarray]], None], most: int):
        """Nothing is written yet.

        Args:
          write: writes a shard, given its number and images; called in the thread, for one shard at a time.
          most: maximum number of images waiting to be written; beyond it, `give` blocks.
        """
        self._write, self._most, self._abandoned = write, most, False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="shards")
        self._images: dict[int, queue.Queue[np.ndarray]] = {}
        self._shards: dict[int, Future[None]] = {}

    def __enter__(self) -> "ShardWriter":
        """Itself."""
        return self

    def __exit__(self, *exception: Any) -> None:
        """Waits for the current shard if it has all its images; otherwise it is abandoned and its file deleted."""
        self._abandoned = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def give(self, shard: int, image: np.ndarray) -> None:
        """Takes the next image of a shard: a shard's images in order, and all of them before those of the next.

        Raises:
          Exception: any error of a write since the last call.
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
        """Waits until a shard is complete, all images of which were given.

        Raises:
          Exception: any error of a write since the last call.
        """
        if shard in self._shards:
            concurrent.futures.wait([self._shards[shard]])
        self._raise()

    def _raise(self) -> None:
        """Raises the error of a write, and forgets writes that are done."""
        for shard in [shard for shard, job in self._shards.items() if job.done()]:
            del self._images[shard]
            self._shards.pop(shard).result()

    def _given(self, images: queue.Queue[np.ndarray]) -> Iterator[np.ndarray]:
        """The images of a shard as they arrive."""
        while True:
            try:
                yield images.get(timeout=SECONDS_PER_LOOK)
            except queue.Empty:
                if self._abandoned:
                    raise _Abandoned from None
