"""The real images of a run and how their classes come: whole on the device, or streamed from the disk."""

import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil import keys
from jaxcil.data import batches, datasets, streams
from jaxcil.data.records import Records
from jaxcil.data.scenario import Scenario, check_images, make_scenario
from jaxcil.errors import InputError, unknown_name
from jaxcil.experiment.auxiliary import Auxiliary
from jaxcil.learners.fpcil import Images
from jaxcil.parallel import mesh as meshes

HELD_OUT_SHARE = 0.1
BLOCK = 500  # images that a network looks at together


class Split(NamedTuple):
    """Real images with labels that are places in the class order; exactly one of `images` and `records` is there."""

    labels: np.ndarray  # int32 [N]
    images: np.ndarray | None = None  # uint8 [N, H, W, 3]
    records: Records | None = None  # with the same labels
    crop: streams.Crop = "whole"  # of streamed images that are looked at in their order

    def blocks(self, side: int, multiple: int = 1) -> Iterator[np.ndarray]:
        """All images in their order, uint8 [B, H, W, 3] of one B, the last block filled up with black ones.

        Args:
          side: of streamed images.
          multiple: B is one of it.
        """
        size = -(-min(BLOCK, len(self.labels)) // multiple) * multiple
        if self.images is None:
            yield from (block.images for block in streams.in_order(self.records, side, size, crop=self.crop))  # type: ignore[arg-type]
            return
        for start in range(0, len(self.labels), size):
            part = self.images[start : start + size]
            yield np.pad(part, ((0, size - len(part)), (0, 0), (0, 0), (0, 0)))


class Benchmark(NamedTuple):
    """Real images, and how their classes come."""

    scenario: Scenario
    train: Split
    test: Split
    shape: tuple[int, int]  # of an image


def load_benchmark(config: Any) -> Benchmark:
    """The real images of a run.

    Raises:
      InputError: the splits do not fit each other, a class has no images, or the scenario cannot be.
    """
    source = (config.data_dir, config.classes)
    if config.stream is not None:
        train, test = (datasets.open_records(config.dataset, split, *source) for split in ("train", "test"))
        shape = (config.image_size, config.image_size)
    else:
        train = datasets.load(config.dataset, "train", config.image_size, *source)
        if config.evaluate_on == "held_out":  # to choose settings by, without a look at the test images
            train, test = datasets.hold_out(train, HELD_OUT_SHARE)
        else:
            test = datasets.load(config.dataset, "test", config.image_size, *source)
        if train.images.shape[1:] != test.images.shape[1:]:
            sizes = [" x ".join(str(side) for side in data.images.shape[1:3]) for data in (train, test)]
            raise InputError(
                f"training images of {config.dataset} are {sizes[0]}, test images {sizes[1]}; set image_size"
            )
        shape = train.images.shape[1:3]
    if train.class_names != test.class_names:
        raise InputError(
            f"{config.dataset} has other classes for training ({', '.join(train.class_names)}) than for testing "
            f"({', '.join(test.class_names)}); give both splits the same class folders"
        )
    scenario = scenario_of(config, train.class_names)
    for split, data in (("train", train), ("test", test)):
        check_images(data.labels, data.class_names, split=split)
    middle = config.stream == "random"
    return Benchmark(scenario, _split(train, scenario, middle), _split(test, scenario, middle), shape)


def scenario_of(config: Any, class_names: tuple[str, ...]) -> Scenario:
    """The tasks of a run."""
    settings = config.scenario
    order = settings.class_order
    if "," in order:
        names = [name.strip() for name in order.split(",")]
        for name in names:
            if name not in class_names:
                raise unknown_name("class name", name, class_names)
        order = [class_names.index(name) for name in names]
    return make_scenario(
        class_names,
        settings.first_classes,
        settings.classes_per_task,
        class_order=order,
        task_sizes=tuple(settings.task_sizes) or None,
    )


def streamed(
    benchmark: Benchmark,
    extra: Auxiliary | None,
    parts: list[batches.Part],
    steps: int,
    crop: streams.Crop,
    places: range | None = None,
) -> Callable[[int, int], Images]:
    """The batches of a first training whose real images are streamed, the same for all runs.

    While a chunk is trained on, the one behind it is read; both stand in host memory. Auxiliary images are spread
    evenly over a batch, so that processes that share it read about as many real ones each.

    Args:
      benchmark: of streamed images.
      extra: the auxiliary images.
      parts: the first has rows of real images alone, the second, if any, rows of auxiliary ones behind them.
      steps: of the training; no chunk is read ahead that begins behind them.
      crop: of real training images.
      places: of every batch, those that are read here; None: all.

    Returns:
      A function (first, count) -> images [count, B', H, W, 3] and what goes with them, on the host.
    """
    size = sum(part.size for part in parts)
    auxiliary = np.diff(np.arange(size + 1) * (size - parts[0].size) // size).astype(bool)
    mine = range(size) if places is None else places
    before, here = auxiliary[: mine.start], auxiliary[mine.start : mine.stop]
    reals = range((~before).sum(), (~before).sum() + (~here).sum())
    others = slice(before.sum(), before.sum() + here.sum())
    key = keys.purpose_key(keys.root_key(0), "batches")  # not of a seed: each must train as it does alone
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
    ahead: dict[tuple[int, int], concurrent.futures.Future[Images]] = {}

    def read(first: int, count: int) -> Images:
        images = np.empty((count, len(mine), *benchmark.shape, 3), np.uint8)
        labels = np.empty((count, len(mine)), np.int32)
        for step, block in enumerate(stream.steps(first, count, parts[0].size)):
            images[step, ~here], labels[step, ~here] = block
        if extra is not None and here.any():
            rows = batches.schedule(other_key, parts[1].rows, parts[1].size, first, count)[:, others] - real
            images[:, here], labels[:, here] = extra.images[rows], extra.labels[rows]
        on_host: Any = images, labels, np.broadcast_to(here, labels.shape)
        return Images(*on_host)

    def chunk(first: int, count: int) -> Images:
        wanted = ahead.pop((first, count), None) or reader.submit(read, first, count)
        found = wanted.result()
        if first + count < steps:
            ahead[first + count, count] = reader.submit(read, first + count, count)
        return found

    return chunk


def features(featurise: Callable[[Array], Array], split: Split, side: int) -> Array:
    """Features [N, D] of all images of a split, block by block, each spread over the devices of this process."""
    mesh = meshes.generation_mesh()
    blocks = split.blocks(side, meshes.data_devices(mesh))
    found = [np.asarray(featurise(meshes.shard_batch(mesh, block))) for block in blocks]
    return jnp.asarray(np.concatenate(found)[: len(split.labels)])


def _split(data: datasets.ImageSet | Records, scenario: Scenario, middle: bool) -> Split:
    labels = scenario.to_contiguous(data.labels)
    if isinstance(data, Records):
        records = dataclasses.replace(data, labels=labels, class_names=scenario.class_names)
        return Split(labels, records=records, crop="centre" if middle else "whole")
    return Split(labels, images=data.images)
