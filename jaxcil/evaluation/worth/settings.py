"""Settings of `jaxcil evaluate-synthetic` and `jaxcil filter`, and of the judge that both of them train."""

import dataclasses
from typing import Any

from jaxcil.errors import InputError
from jaxcil.extractors.by_name import NETWORKS
from jaxcil.heads.by_name import HEADS
from jaxcil.synthesis.dataset.filters import KEEPS, SCORES
from jaxcil.workdir.settings import config_dict, field, group, resolve

OWN = "linear"  # the output layer that the judge is trained with


@dataclasses.dataclass(frozen=True)
class JudgeSettings:
    """How a classifier is trained; the defaults suit the digits."""

    network: str = field("resnet8", "the network that is trained", choices=NETWORKS)
    steps: int = field(600, "optimiser steps", low=1)
    batch_size: int = field(64, "images per step", low=1)
    learning_rate: float = field(0.1, "at the first step; a cosine takes it to zero", low=0)
    weight_decay: float = field(5e-4, "of every parameter", low=0)
    crop: int | None = field(1, "pixels of padding of a random crop; none: no crop", low=1)
    seed: int = field(0, "of weights, batches and crops", low=0, below=2**32)


@dataclasses.dataclass(frozen=True)
class WorthSettings:
    """What `jaxcil evaluate-synthetic` compares."""

    synthetic: str | None = field(None, "a set of `jaxcil generate` or `jaxcil import-images`; required")
    filter: str | None = field(
        None, "a filter of that set: only what it keeps is evaluated; none: all images"
    )
    dataset: str | None = field(
        None, "real images: a data set, or a folder with train/CLASS/*.png and test/CLASS/*.png; required"
    )
    data_dir: str | None = field(None, "where data sets are kept; none: the usual folder")
    image_size: int | None = field(None, "side of the real images; none: as they are", low=1)
    generator_split: str = field(
        "train", "split of the real images that the generator was trained on: copies are looked for there"
    )
    extractor: str | None = field(
        None, "RUN/extractors/VARIANT, whose features are compared; none: those of the judge of real images"
    )
    duplicate_threshold: float = field(
        8.0, "largest distance of near-duplicates: grey levels, root mean square", low=0
    )
    judge: JudgeSettings = group(JudgeSettings)


@dataclasses.dataclass(frozen=True)
class FilterSettings:
    """What `jaxcil filter` keeps, and by whose judgement."""

    keep: str = field(
        "recognised", "recognised: images of the right class; top: a fraction of each class", choices=KEEPS
    )
    fraction: float | None = field(None, "of each class, in (0, 1], for top only", low=0, high=1)
    score: str = field(
        "probability", "of an image's label; or its margin over the next class", choices=SCORES
    )
    dataset: str = field("digits", "real images: a data set, or a folder with SPLIT/CLASS/*.png")
    split: str = field("train", "of the real images")
    data_dir: str | None = field(None, "where data sets are kept; none: the usual folder")
    image_size: int | None = field(None, "side of the real images; none: as they are", low=1)
    extractor: str | None = field(None, "RUN/extractors/VARIANT of a `jaxcil run`; none: trains a judge")
    head: str = field(OWN, "linear: the judge's own; or a head fitted to the features", choices=HEADS)
    judge: JudgeSettings = group(JudgeSettings)


def worth_defaults() -> Any:
    """A ConfigDict with every field of `jaxcil evaluate-synthetic`."""
    return config_dict(WorthSettings)


def filter_defaults() -> Any:
    """A ConfigDict with every field of `jaxcil filter`: digits, judged by real ones."""
    return config_dict(FilterSettings)


def worth_settings(config: Any) -> WorthSettings:
    """The settings of a ConfigDict.

    Raises:
      InputError: a value that its field does not take, or no images to compare.
    """
    settings = resolve(WorthSettings, config)
    for name, images in (("synthetic", "a set that `jaxcil generate` wrote"), ("dataset", "real images")):
        if getattr(settings, name) is None:
            raise InputError(f"--config.{name} is missing; give the folder of {images}")
    return settings


def filter_settings(config: Any) -> FilterSettings:
    """The settings of a ConfigDict.

    Raises:
      InputError: a value that its field does not take, or an extractor without a head.
    """
    settings = resolve(FilterSettings, config)
    if settings.head == OWN and settings.extractor is not None:
        heads = ", ".join(name for name in HEADS if name != OWN)
        raise InputError(f"a run's extractor needs a head on its features: {heads}; got {OWN!r}")
    return settings
