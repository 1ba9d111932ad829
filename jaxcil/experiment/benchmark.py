"""The real images of a run and how their classes come: in memory, or read from the disk."""

import dataclasses
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxcil.data import datasets, streams
from jaxcil.data.records import Records
from jaxcil.data.scenario import Scenario, check_images, make_scenario
from jaxcil.errors import InputError, unknown_name
from jaxcil.experiment.fields import Settings

HELD_OUT = 0.1  # of the training images of each class, where the test images are not to be looked at
STREAMED_SAMPLE = 64  # images of a streamed split that are read to identify it
BLOCK = 500  # images that a network sees at once in evaluation


class Split(NamedTuple):
    """Real images with labels that are places in the class order; exactly one of `images` and `records` is not None."""

    labels: np.ndarray  # int32 [N]
    images: np.ndarray | None = None  # uint8 [N, H, W, 3]
    records: Records | None = None  # with the same labels
    crop: streams.Crop = "whole"  # of streamed images that are looked at in their order

    def blocks(self, rows: np.ndarray, side: int, multiple: int = 1) -> Iterator[np.ndarray]:
        """Images of some rows in their order, uint8 [B, H, W, 3] of one B, the last block filled up with black ones.

        Args:
          rows: int32 [R] in [0, N).
          side: to which streamed images are brought.
          multiple: B is a multiple of it.
        """
        size = -(-min(BLOCK, len(self.labels)) // multiple) * multiple  # whatever the rows: one program
        if self.images is None:
            chosen = self.records.subset(rows)  # type: ignore[union-attr]
            yield from (block.images for block in streams.in_order(chosen, side, size, crop=self.crop))
            return
        for start in range(0, len(rows), size):
            part = self.images[rows[start : start + size]]
            yield np.pad(part, ((0, size - len(part)), (0, 0), (0, 0), (0, 0)))


class Benchmark(NamedTuple):
    """Real images, and how their classes come."""

    scenario: Scenario
    train: Split
    test: Split
    shape: tuple[int, int]  # of an image


def load_benchmark(settings: Settings) -> Benchmark:
    """The real images of a run.

    Raises:
      InputError: the splits do not fit each other, a class has no images, or the scenario cannot be.
    """
    source = (settings.data_dir, settings.classes)
    if settings.stream is not None:
        train, test = (datasets.open_records(settings.dataset, split, *source) for split in ("train", "test"))
        shape: Any = (settings.image_size, settings.image_size)
    else:
        train = datasets.load(settings.dataset, "train", settings.image_size, *source)
        if settings.evaluate_on == "held_out":  # to choose settings by, without a look at the test images
            train, test = datasets.hold_out(train, HELD_OUT)
        else:
            test = datasets.load(settings.dataset, "test", settings.image_size, *source)
        if train.images.shape[1:] != test.images.shape[1:]:
            sizes = [" x ".join(str(side) for side in data.images.shape[2:0:-1]) for data in (train, test)]
            raise InputError(
                f"training images of {settings.dataset} are {sizes[0]} (width x height), test images {sizes[1]}; set "
                "image_size"
            )
        shape = train.images.shape[1:3]
    if train.class_names != test.class_names:
        raise InputError(
            f"{settings.dataset} has other classes for training ({', '.join(train.class_names)}) than for testing "
            f"({', '.join(test.class_names)}); give both splits the same class folders"
        )
    scenario = scenario_of(settings, train.class_names)
    for split, data in (("train", train), ("test", test)):
        check_images(data.labels, data.class_names, split=split)
    middle = settings.stream == "random"
    return Benchmark(scenario, _split(train, scenario, middle), _split(test, scenario, middle), shape)


def content(split: Split) -> tuple[np.ndarray, ...]:
    """What distinguishes a split from another: labels and images; of a stream, some images, and all files by size.

    Where the sizes of files are not known, standard error says that only some images are compared.
    """
    if split.images is not None:
        return split.images, split.labels
    records, rows = split.records, np.arange(len(split.labels))
    assert records is not None
    sample = np.linspace(0, len(rows) - 1, STREAMED_SAMPLE, dtype=np.int64)
    images = (np.frombuffer(records.read(int(row)), np.uint8) for row in sample)
    if records.files is None:
        print(
            f"jaxcil: of the streamed images of {records.title}, only {STREAMED_SAMPLE} are compared with those of "
            "earlier calls; do not change the others",
            file=sys.stderr,
            flush=True,
        )
        return split.labels, *images
    files = "\n".join(f"{name} {size}" for name, size in records.files(rows))
    return split.labels, np.frombuffer(files.encode(), np.uint8), *images


def scenario_of(settings: Settings, class_names: tuple[str, ...]) -> Scenario:
    """The tasks of a run."""
    scenario = settings.scenario
    order = scenario.class_order
    if "," in order:
        names = [name.strip() for name in order.split(",")]
        for name in names:
            if name not in class_names:
                raise unknown_name("class name", name, class_names)
        order = [class_names.index(name) for name in names]
    return make_scenario(
        class_names,
        scenario.first_classes,
        scenario.classes_per_task,
        class_order=order,
        task_sizes=scenario.task_sizes or None,
    )


def _split(data: datasets.ImageSet | Records, scenario: Scenario, middle: bool) -> Split:
    labels = scenario.to_contiguous(data.labels)
    if isinstance(data, Records):
        records = dataclasses.replace(data, labels=labels, class_names=scenario.class_names)
        return Split(labels, records=records, crop="centre" if middle else "whole")
    return Split(labels, images=data.images)
