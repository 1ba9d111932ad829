"""Lanes: one variant with one learner each, and how settings become the learner of a lane."""

import dataclasses
import inspect
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxcil import convolution
from jaxcil.data.augmentation import augmentation
from jaxcil.errors import InputError, unknown_name
from jaxcil.experiment.benchmark import Benchmark
from jaxcil.experiment.fields import Settings
from jaxcil.experiment.pool import ImagePool
from jaxcil.experiment.variants import VARIANTS, FutureMixing, Mixing, PastMixing
from jaxcil.extractors.by_name import OUTPUT_LAYERS, make_network
from jaxcil.heads.by_name import make_head
from jaxcil.learners.by_name import DEFAULT, LEARNERS, divided
from jaxcil.training import tasks as training
from jaxcil.training.learner import Setup, Task, whole
from jaxcil.training.optimizer import sgd
from jaxcil.workdir import record

Maker = Callable[..., Any]  # (setup, **options) -> learner


class Lane(NamedTuple):
    """A variant with a learner."""

    variant: str
    learner: str

    @property
    def label(self) -> str:
        """Its name in files and on the screen."""
        return self.variant if self.learner == DEFAULT else f"{self.variant}-{self.learner}"


class Workplace(NamedTuple):
    """What the lanes of a run share."""

    settings: Settings
    pool: ImagePool
    makers: Mapping[str, Maker]
    surroundings: training.Surroundings
    timing: record.Timing
    workdir: pathlib.Path


def makers(outside: Mapping[str, Maker]) -> dict[str, Maker]:
    """The makers of all learners by name; those from outside take precedence."""
    return {**{name: choice.maker for name, choice in LEARNERS.items()}, **outside}


def make(lane: Lane, place: Workplace) -> Any:
    """The learner of a lane.

    Raises:
      InputError: its maker does not know or refuses an option, or it freezes after a later task.
    """
    settings = place.settings
    tasks = place.pool.tasks(VARIANTS[lane.variant])
    first, added = whole(tasks[0].rows), whole(tasks[0].auxiliary)
    setup = setup_of(settings, place.pool.benchmark, tasks)
    maker = place.makers[lane.learner]
    options, recipe = options_of(lane, place)
    setup = setup._replace(later_training=dataclasses.replace(setup.later_training, **recipe))
    known = _parameters(maker)
    for option in options:
        if option not in known and "**" not in known:
            raise unknown_name(f"option of {lane.learner}", option, known)
    learner = maker(setup, **options)
    if learner.frozen_after not in (0, None):
        raise InputError(
            f"{lane.learner}: frozen_after must be 0 or None, got {learner.frozen_after}; a learner that freezes later "
            "keeps training until then, so leave it None"
        )
    if settings.stream is not None and learner.frozen_after is None and len(settings.seeds) > 1:
        raise InputError(
            f"{lane.learner} may choose other images with every seed, so a stream can serve one seed; give each of "
            f"{', '.join(map(str, settings.seeds))} a workdir of its own, or omit stream"
        )
    future = settings.auxiliary.future
    fraction = future.batch_fraction
    if fraction is None and settings.stream is not None and "future" in VARIANTS[lane.variant].needs:
        # real and auxiliary rows come from different places
        fraction = len(added) / (len(first) + len(added))
    past = settings.auxiliary.past
    mixing = Mixing(
        FutureMixing(
            loss_weight=_unless_one(future.loss_weight),
            batch_fraction=fraction,
            augmentation=None if future.augment_alike else setup.augmentation,
        ),
        PastMixing(
            batch_fraction=past.batch_fraction,
            classification_weight=_unless_one(past.classification_weight),
            distillation_weight=_unless_one(past.distillation_weight),
            on_top=past.on_top,
            balanced=past.balanced,
            augmentation=None if past.augment_alike else setup.augmentation,
        ),
    )
    return VARIANTS[lane.variant].wrap(learner, mixing)


def _parameters(maker: Maker) -> list[str]:
    """Names of the options that a maker takes; "**" where it takes any."""
    _, *parameters = inspect.signature(maker).parameters.values()
    return ["**" if each.kind is each.VAR_KEYWORD else each.name for each in parameters]


def options_of(lane: Lane, place: Workplace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those of a lane's maker, and what differs from later_training."""
    options = place.settings.learner_options.get(lane.learner, {})
    return divided(options, _parameters(place.makers[lane.learner]))


def _unless_one(weight: float) -> float | None:
    """A weight of 1 costs nothing as None."""
    return None if weight == 1 else weight


def setup_of(settings: Settings, benchmark: Benchmark, tasks: list[Task]) -> Setup:
    """What a maker receives."""
    own, scenario = settings.training, benchmark.scenario
    unit = 1 if own.epochs is None else max(1, len(whole(tasks[0].rows)) // own.batch_size)
    length = own.steps if own.epochs is None else own.epochs
    of_auxiliary = [tasks[0].labels[whole(task.auxiliary)] for task in tasks]
    largest = max(int(labels.max(initial=-1)) for labels in of_auxiliary)
    return Setup(
        num_classes=scenario.num_classes,
        other_classes=max(0, largest + 1 - scenario.num_classes),
        task_sizes=scenario.task_sizes,
        image_shape=benchmark.shape,
        images_per_class=int(np.bincount(benchmark.train.labels).max()),
        network=make_network(own.network, own.dtype, convolution.conv_general_dilated),
        output_layer=OUTPUT_LAYERS[own.classifier](),
        optimizer=sgd(
            own.learning_rate,
            own.weight_decay,
            momentum=own.momentum,
            schedule=own.schedule,  # pyright: ignore[reportArgumentType]
            milestones=tuple(milestone * unit for milestone in own.milestones),
            warmup_steps=own.warmup * unit,
            nesterov=own.nesterov,
        ),
        steps=length * unit,  # pyright: ignore[reportOptionalOperand]
        batch_size=own.batch_size,
        augmentation=augmentation.of(vars(own.augmentation)),
        label_smoothing=own.label_smoothing or None,
        average_decay=own.average_decay,
        heads={
            name: make_head(name, benchmark.train.labels, **settings.head_options.get(name, {}))
            for name in settings.heads
        },
        later_training=settings.later_training,
        memory=settings.memory,
    )
