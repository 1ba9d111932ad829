"""Images of sets too large for a device, read during the computation: Grain's threads decode, resize and crop.

The batches are those of `batches.schedule`: which image is in which is a function of the key and the step number
alone, and the same as where the set lies on the device. A process of several reads its places of every batch and
nothing else; joined, they are the batch of a single process, to the bit. A random crop has a seed of its own for every
place in that sequence, and is cut here, on the host, because images come in all sizes; what keeps the shape (flip,
colour) is left to the device.
"""

import functools
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import numpy as np
from jax import Array

from jaxcil.data import batches
from jaxcil.data.decoding import centre_crop, decoded, random_resized_crop, whole
from jaxcil.data.records import Records, check_size
from jaxcil.errors import InputError, unknown_name

Crop = Literal["random", "centre", "whole"]
# Grain's own number. Decoders leave Python's lock, so that no worker processes are needed; with those, a state would
# depend on how many they are.
THREADS = 16
# More steps than any training has: Grain asks how long a sequence is that never ends.
ENDLESS = 2**60


class Block(NamedTuple):
    """Images that are read together."""

    images: np.ndarray  # uint8 [B, H, W, 3]
    labels: np.ndarray  # int32 [B]; -1 pads


class Stream:
    """The shuffled batches of a training, from any step on."""

    def __init__(
        self,
        records: Records,
        size: int,
        key: Array,
        *,
        rows: np.ndarray | None = None,
        crop: Crop = "random",
        places: range | None = None,
    ):
        """A stream at its first step; nothing is read yet.

        Args:
          records: out of `datasets.open_records`.
          size: side of the images, H = W.
          key: of this training; epoch e uses fold(key, e).
          rows: int32 [R] of the records, as of the classes of task 0; -1 pads. None: all.
          crop: "random" is `random_resized_crop`, "centre" `centre_crop`, "whole" none.
          places: of every batch, those that are read here; None: all.

        Raises:
          InputError: there are no rows, or no such crop.
        """
        rows = np.arange(len(records), dtype=np.int32) if rows is None else np.asarray(rows, np.int32)
        _check(records, size, crop)
        if not (rows >= 0).any() or rows.max() >= len(records):
            raise InputError(f"a stream needs rows in [0, {len(records)}), got {len(rows)}: {rows[:5]} ...")
        self._places = functools.partial(_Places, key, rows)
        self._image = functools.partial(_image, records, size, crop, np.asarray(jax.random.key_data(key)))
        self._size, self._mine = size, places
        self._batch_size = 0
        self._iterator: Any = None

    def steps(self, first: int, count: int, batch_size: int) -> Iterator[Block]:
        """The batches of steps first ... first + count - 1.

        Continuing where the last steps ended uses what was read ahead; from any other step that is discarded.

        Args:
          first: number of the first step.
          count: S.
          batch_size: B over all processes; B' of its places are read here.

        Yields:
          S times images [B', size, size, 3] and labels [B'].

        Raises:
          InputError: the batch does not have the places, or an image cannot be read.
        """
        if not self._mine_of(batch_size):
            nothing = Block(np.zeros((0, self._size, self._size, 3), np.uint8), np.zeros(0, np.int32))
            yield from [nothing] * count
            return
        if self._batch_size != batch_size:
            self._iterator, self._batch_size = self.iterator(batch_size), batch_size
        state = {"next_index": first * len(self._mine_of(batch_size))}
        if self._iterator.get_state() != state:
            self._iterator.set_state(state)
        for _ in range(count):
            yield next(self._iterator)

    def iterator(self, batch_size: int) -> Any:
        """Grain's iterator over the blocks of single steps, without end.

        Its `get_state` is all that resuming needs, and Orbax keeps it through `grain.checkpoint.CheckpointSave`.

        Args:
          batch_size: B over all processes.
        """
        mine = self._mine_of(batch_size)
        read = _read(self._places(batch_size, mine), self._image, ahead=2 * len(mine))
        return iter(read.batch(len(mine), batch_fn=_stacked))

    def _mine_of(self, batch_size: int) -> range:
        mine = range(batch_size) if self._mine is None else self._mine
        if batch_size < 1 or mine.start < 0 or mine.stop > batch_size:
            raise InputError(f"a batch of {batch_size} images has no places {mine.start} to {mine.stop - 1}")
        return mine


def in_order(records: Records, size: int, batch_size: int, *, crop: Crop = "centre") -> Iterator[Block]:
    """All images of a split in their order, in blocks of one size, for features of sets that memory does not hold.

    Args:
      records: out of `datasets.open_records`; N images.
      size: side of the images, H = W.
      batch_size: B; the last block is filled up with black images of the label -1.
      crop: "centre" or "whole".

    Yields:
      ceil(N / B) blocks of B images.
    """
    _check(records, size, crop)
    if crop == "random":
        raise InputError("images in their order are not cut at random; crop must be 'centre' or 'whole'")
    image = functools.partial(_image, records, size, crop, np.zeros(0, np.uint32))
    rows = iter(_read([(row, row) for row in range(len(records))], image, ahead=2 * batch_size))
    for first in range(0, len(records), batch_size):
        count = min(batch_size, len(records) - first)
        block = _stacked([next(rows) for _ in range(count)])
        missing = batch_size - count
        yield Block(
            np.pad(block.images, ((0, missing), (0, 0), (0, 0), (0, 0))),
            np.pad(block.labels, (0, missing), constant_values=-1),
        )


class _Places:
    """The rows of an endless training, one after the other, for one process: Grain's source."""

    def __init__(self, key: Array, rows: np.ndarray, batch_size: int, mine: range):
        self._batch_size, self._mine = batch_size, mine
        self._valid = int((rows >= 0).sum())
        self._an_epoch = batches.steps_per_epoch(rows, batch_size)
        self._lock = threading.Lock()
        # two: images of the next epoch are read while the last of this one are requested
        self._order = functools.lru_cache(maxsize=2)(functools.partial(batches.epoch_order, key, rows))

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> tuple[int, int]:
        """Row and place in the sequence of all processes."""
        step, number = divmod(index, len(self._mine))
        epoch, within = divmod(step, self._an_epoch)
        place = self._mine[number]
        with self._lock:  # or every thread would compute the order of a new epoch
            order = self._order(epoch)
        row = order[(within * self._batch_size + place) % self._valid]
        return int(row), step * self._batch_size + place


def _read(places: Any, image: Any, ahead: int) -> Any:
    import grain  # here, since it takes a second and sets in memory do without

    options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=max(THREADS, ahead))
    return grain.MapDataset.source(places).map(image).to_iter_dataset(options)


def _image(
    records: Records, size: int, crop: Crop, seed: np.ndarray, place: tuple[int, int]
) -> tuple[np.ndarray, np.int32]:
    row, number = place
    opened = decoded(records.read(row), records.where(row))
    if crop == "random":
        image = random_resized_crop(opened, size, np.random.default_rng([*seed.tolist(), number]))
    else:
        image = {"centre": centre_crop, "whole": whole}[crop](opened, size)
    return image, records.labels[row]


def _stacked(rows: Sequence[tuple[np.ndarray, np.int32]]) -> Block:
    return Block(np.stack([image for image, _ in rows]), np.array([label for _, label in rows], np.int32))


def _check(records: Records, size: int, crop: str) -> None:
    if crop not in get_args(Crop):
        raise unknown_name("crop", crop, get_args(Crop))
    if crop == "whole" or size < 1:
        check_size(records, size)
