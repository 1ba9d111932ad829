"""The pool of a run: all images that it may train on, by row number, real ones first and auxiliary ones after them."""

import concurrent.futures
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil import keys
from jaxcil.data import batches, streams
from jaxcil.data.augmentation import augmentation
from jaxcil.experiment.auxiliary import AuxiliaryImages
from jaxcil.experiment.benchmark import Benchmark, Split
from jaxcil.experiment.variants import Labels, Variant
from jaxcil.parallel import mesh as meshes
from jaxcil.training.learner import Part, Task, as_they_are
from jaxcil.training.tasks import Data


class ImagePool:
    """Images on the device, or read from the disk while others are trained on; `training.tasks.Pool` for a run."""

    def __init__(
        self,
        benchmark: Benchmark,
        auxiliary: AuxiliaryImages | None,
        crop: Any = None,
        most_future: int | None = None,
        most_past: int | None = None,
    ):
        """Nothing is put on a device yet.

        Args:
          benchmark: the real images.
          auxiliary: those of the run's variants, if any; of the size of the real ones.
          crop: of streamed training images, as `streams.Crop`; None where they are in memory.
          most_future: auxiliary images of each class to come that a variant takes; None: all.
          most_past: likewise of each past class.
        """
        self.benchmark, self._auxiliary, self._crop = benchmark, auxiliary, crop
        nothing = np.zeros(0, np.int32)
        of_auxiliary = nothing if auxiliary is None else auxiliary.labels
        self.labels = Labels(benchmark.train.labels, of_auxiliary, most_future, most_past)
        self._images: Array | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that every device holds during a training."""
        if self._crop is not None:
            return 0
        height, width = self.benchmark.shape
        return len(self.labels.all) * height * width * 3

    def tasks(self, variant: Variant) -> list[Task]:
        """The tasks as a variant sees them."""
        scenario = self.benchmark.scenario
        rows = [np.flatnonzero(scenario.new(t)[self.labels.real]) for t in range(scenario.num_tasks)]
        others = [variant.rows(scenario, self.labels, t) for t in range(scenario.num_tasks)]
        return [
            Task(t, own, added, variant.labels(scenario, self.labels, t), scenario.seen(t), scenario.new(t))
            for t, (own, added) in enumerate(zip(_padded(rows), _padded(others)))
        ]

    def batches(
        self, task: Task, parts: Sequence[Part], steps: int, mesh: Any, key: Array | None = None
    ) -> Any:
        """All images as `Data`; of streamed ones, a function that reads batches."""
        if self._crop is not None:
            return _streamed(self.benchmark, self._auxiliary, task, parts, steps, self._crop, mesh, key)
        if self._images is None:
            images = jnp.asarray(self.benchmark.train.images)
            if self._auxiliary is not None:
                images = jnp.concatenate([images, jnp.asarray(self._auxiliary.images)])
            self._images = images
        auxiliary = jnp.arange(len(task.labels)) >= len(self.labels.real)
        return Data(self._images, jnp.asarray(task.labels), auxiliary)

    def features(
        self, learner: Any, state: Any, run: int, rows: np.ndarray, view: Callable[[Array], Array]
    ) -> Array:
        """Features [R', D] of real or auxiliary rows; a padding row of -1 has those of a black image."""
        del run
        real = len(self.labels.real)
        blocks = []
        for split, first, last in (
            (self.benchmark.train, 0, real),
            (self._extra(), real, len(self.labels.all)),
        ):
            here = (rows >= first) & (rows < last)
            if here.any():
                own, places = np.unique(rows[here], return_inverse=True)
                of_own = features(learner, state, split, self.benchmark.shape[0], own - first, view)
                blocks.append((here, np.asarray(of_own)[places]))
        together = np.zeros((len(rows), blocks[0][1].shape[1]), np.float32)
        for here, block in blocks:
            together[here] = block
        return jnp.asarray(together)

    def _extra(self) -> Split:
        images = None if self._auxiliary is None else self._auxiliary.images
        return Split(self.labels.auxiliary, images)


def features(
    learner: Any,
    state: Any,
    split: Split,
    side: int,
    rows: np.ndarray | None = None,
    view: Callable[[Array], Array] = as_they_are,
) -> Array:
    """Features [R, D] of the images of a split, block by block, each spread over the devices of this process.

    Args:
      learner: as `training.learner.Learner` says.
      state: of one run.
      split: of images.
      side: of streamed images.
      rows: int [R]; None: all.
      view: what is done to float32 images [B, H, W, 3] in [-1, 1] first.
    """
    rows = np.arange(len(split.labels)) if rows is None else rows
    mesh = meshes.generation_mesh()
    state = meshes.place(state, meshes.everywhere(mesh))
    blocks = split.blocks(rows, side, meshes.data_devices(mesh))
    parts = [np.asarray(_features(view, learner, state, meshes.shard_batch(mesh, block))) for block in blocks]
    return jnp.asarray(np.concatenate(parts)[: len(rows)])


@functools.partial(jax.jit, static_argnums=0)
def _features(view: Callable[[Array], Array], learner: Any, state: Any, images: Array) -> Array:
    return learner.features(state, view(augmentation.to_float(images)))


def _padded(rows: list[np.ndarray]) -> list[np.ndarray]:
    """Rows int32 of all tasks, -1 behind, to one length of at least 1."""
    room = max(1, *map(len, rows))
    return [
        np.pad(of_task, (0, room - len(of_task)), constant_values=-1).astype(np.int32) for of_task in rows
    ]


def _streamed(
    benchmark: Benchmark,
    auxiliary: AuxiliaryImages | None,
    task: Task,
    parts: Sequence[Part],
    steps: int,
    crop: streams.Crop,
    mesh: Any,
    key: Array | None,
) -> Callable[[int, int], Data]:
    """The batches of a training whose real images are streamed, the same for all runs.

    While a chunk is trained on, the next one is read; both are in host memory. Auxiliary images are spread evenly over
    a batch, so that processes that share it read about equally many real ones each.

    Args:
      benchmark: of streamed images.
      auxiliary: images of the rows after the real ones.
      task: its labels are those of all rows.
      parts: the first has rows of real images alone, the second, if any, rows of auxiliary ones.
      steps: of the training; no chunk is read ahead that begins after them.
      crop: of real training images.
      mesh: of the training; only the places of this process's devices are read.
      key: of the batches; None: one that is no seed's, since each must train as it does alone.

    Returns:
      A function (first, count) -> batches of `Data`, [count, B', ...] on the host.
    """
    size = sum(part.size for part in parts)
    is_auxiliary = np.diff(np.arange(size + 1) * (size - parts[0].size) // size).astype(bool)
    mine = meshes.places_here(mesh, size)
    before, here = is_auxiliary[: mine.start], is_auxiliary[mine.start : mine.stop]
    reals = range((~before).sum(), (~before).sum() + (~here).sum())
    others = slice(before.sum(), before.sum() + here.sum())
    key = keys.purpose_key(keys.root_key(0) if key is None else key, "batches")
    real = len(benchmark.train.labels)
    stream = streams.Stream(
        benchmark.train.records,  # type: ignore[arg-type]
        benchmark.shape[0],
        key,
        rows=parts[0].rows,
        crop=crop,
        places=reals,
    )
    other_key = keys.fold(key, 2**31)
    reader = concurrent.futures.ThreadPoolExecutor(1)
    ahead: dict[tuple[int, int], concurrent.futures.Future[Data]] = {}

    def read(first: int, count: int) -> Data:
        images = np.empty((count, len(mine), *benchmark.shape, 3), np.uint8)
        labels = np.empty((count, len(mine)), np.int32)
        for step, block in enumerate(stream.steps(first, count, parts[0].size)):
            images[step, ~here], labels[step, ~here] = block
        if auxiliary is not None and here.any():
            rows = batches.schedule(other_key, parts[1].rows, parts[1].size, first, count)[:, others]
            images[:, here], labels[:, here] = auxiliary.images[rows - real], task.labels[rows]
        on_host: Any = images, labels, np.broadcast_to(here, labels.shape)
        return Data(*on_host)

    def chunk(first: int, count: int) -> Data:
        block = (ahead.pop((first, count), None) or reader.submit(read, first, count)).result()
        if first + count < steps:
            ahead[first + count, count] = reader.submit(read, first + count, count)
        return block

    return chunk
