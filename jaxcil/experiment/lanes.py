"""Lanes: one variant with one learner each, trained and read for a group of seeds, with what is done kept on disk."""

import dataclasses
import inspect
import pathlib
import shutil
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcil import convolution, keys
from jaxcil.data.augmentation import augmentation
from jaxcil.data.scenario import Scenario
from jaxcil.errors import InputError, unknown_name
from jaxcil.experiment import reading
from jaxcil.experiment.benchmark import Benchmark
from jaxcil.experiment.fields import Settings
from jaxcil.experiment.pool import ImagePool, features
from jaxcil.experiment.reading import FrozenFeatures, Measurements
from jaxcil.experiment.variants import VARIANTS, FutureMixing, Mixing, PastMixing
from jaxcil.extractors import saved
from jaxcil.extractors.by_name import OUTPUT_LAYERS, make_network
from jaxcil.heads.by_name import make_head
from jaxcil.learners import saved as learned
from jaxcil.learners.by_name import DEFAULT, LEARNERS, divided
from jaxcil.training import tasks as training
from jaxcil.training.checkpoint import Checkpoints
from jaxcil.training.learner import Fit, Phase, Setup, Task, whole
from jaxcil.training.optimizer import sgd
from jaxcil.workdir import files, record

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
    setup = _setup(settings, place.pool.benchmark, tasks)
    maker = place.makers[lane.learner]
    options, recipe = _options(lane, place)
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


def _options(lane: Lane, place: Workplace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those of a lane's maker, and what differs from later_training."""
    options = place.settings.learner_options.get(lane.learner, {})
    return divided(options, _parameters(place.makers[lane.learner]))


def _unless_one(weight: float) -> float | None:
    """A weight of 1 costs nothing as None."""
    return None if weight == 1 else weight


def measured(
    lane: Lane, learner: Any, seeds: list[int], suffix: str, place: Workplace
) -> dict[str, Measurements]:
    """What every reading of a lane is worth for a group of seeds; what was done before is read.

    Args:
      lane: which.
      learner: of `make`.
      seeds: trained next to each other.
      suffix: of the group's files.
      place: what the lanes of a run share.
    """
    tasks = place.pool.tasks(VARIANTS[lane.variant])
    work = _trained_on if learner.frozen_after is None else _frozen
    return work(lane, learner, tasks, seeds, suffix, place)


def _frozen(
    lane: Lane, learner: Any, tasks: list[Task], seeds: list[int], suffix: str, place: Workplace
) -> dict[str, Measurements]:
    """Trains on task 0, then reads the frozen features by one head after the other."""
    scenario = place.pool.benchmark.scenario
    run_keys = [keys.root_key(seed) for seed in seeds]
    extractors = files.writable_directory(place.workdir / "extractors")
    heads = files.writable_directory(place.workdir / "heads")
    with place.timing.of(f"extractor {lane.label}"):
        path = extractors / f"{lane.label}{suffix}.safetensors"
        states = _base(learner, tasks[:1], run_keys, path, extractors / f"{lane.label}{suffix}", place)
    done: dict[str, Measurements] = {}
    computed: FrozenFeatures | None = None
    with place.timing.of(f"heads on {lane.label}"):
        for name in learner.reading_names:
            path, folder = (heads / f"{lane.label}-{name}{suffix}{end}" for end in (".json", ""))
            value = _stored(path, record.read_checked_json(path), len(seeds), scenario)
            if value is None:
                computed = computed or FrozenFeatures(learner, states, place.pool)
                value = _read(learner, name, tasks, states, run_keys, computed, folder, place)
                record.write_checked_json(path, reading.to_json(value))
            shutil.rmtree(folder, ignore_errors=True)  # gigabytes, for large buffers
            done[name] = value
    return done


def _base(
    learner: Any,
    tasks: list[Task],
    run_keys: list[Any],
    path: pathlib.Path,
    folder: pathlib.Path,
    place: Workplace,
) -> list[Any]:
    """The states of all runs after their first task, without any reading."""
    shape = place.pool.benchmark.shape
    like = jax.eval_shape(
        lambda key: jax.vmap(lambda key: learner.init(key, np.zeros((1, *shape, 3), np.float32)))(key),
        jax.numpy.stack(run_keys),
    )
    stacked = saved.load_states(path, like)
    if stacked is None:
        with Checkpoints(folder) as store:
            states, _ = training.learn(
                learner,
                training.initial_states(learner, run_keys, shape),
                tasks,
                place.pool,
                run_keys,
                place.surroundings,
                runs_phase=_of_no_reading,
                store=store,
            )
        saved.save_states(path, training.stacked(states))
        stacked = saved.load_states(path, like)  # as a later call would have it
    shutil.rmtree(folder, ignore_errors=True)
    return training.unstacked(stacked, len(run_keys))


def _read(
    learner: Any,
    name: str,
    tasks: list[Task],
    states: list[Any],
    run_keys: list[Any],
    computed: FrozenFeatures,
    folder: pathlib.Path,
    place: Workplace,
) -> Measurements:
    """One reading on the features of all runs."""
    benchmark = place.pool.benchmark
    with Checkpoints(folder) as store:
        _, value = training.learn(
            learner,
            states,
            tasks,
            computed,
            run_keys,
            place.surroundings,
            runs_phase=lambda phase: isinstance(phase, Fit) and phase.reading == name,
            measured={name: reading.nothing_measured(len(states), benchmark.scenario)},
            measure=reading.measure(learner, benchmark, lambda state, run, task: computed.test[run]),
            store=store,
        )
    return Measurements(*value[name])


def _trained_on(
    lane: Lane, learner: Any, tasks: list[Task], seeds: list[int], suffix: str, place: Workplace
) -> dict[str, Measurements]:
    """Runs a learner that keeps training through all tasks."""
    benchmark, names = place.pool.benchmark, learner.reading_names
    run_keys = [keys.root_key(seed) for seed in seeds]
    folder = files.writable_directory(place.workdir / "learners") / f"{lane.label}{suffix}"
    path = folder / "measurements.json"
    stored = record.read_checked_json(path) or {}
    done = {name: _stored(path, stored.get(name), len(seeds), benchmark.scenario) for name in names}
    if all(done.values()):
        return done  # type: ignore[return-value]
    with place.timing.of(f"learner {lane.label}"), Checkpoints(folder / "states") as store:
        states, value = training.learn(
            learner,
            training.initial_states(learner, run_keys, benchmark.shape),
            tasks,
            place.pool,
            run_keys,
            place.surroundings,
            measured={name: reading.nothing_measured(len(seeds), benchmark.scenario) for name in names},
            measure=reading.measure(
                learner,
                benchmark,
                lambda state, run, task: _of_seen(learner, state, benchmark, task),
            ),
            store=store,
        )
    own = place.settings.training
    options, recipe = _options(lane, place)
    description = {
        "name": lane.learner,
        "options": options,
        "network": own.network,
        "dtype": own.dtype,
        "output_layer": own.classifier,
        "later_training": dataclasses.asdict(place.settings.later_training) | recipe,
        "memory": dataclasses.asdict(place.settings.memory),
    }
    setup = _setup(place.settings, benchmark, tasks)
    names_of_classes = benchmark.scenario.class_names
    learned.save(
        folder,
        training.stacked(states),
        setup,
        description=description,
        class_names=names_of_classes,
    )
    record.write_checked_json(path, {name: reading.to_json(Measurements(*value[name])) for name in names})
    shutil.rmtree(folder / "states", ignore_errors=True)
    return {name: Measurements(*value[name]) for name in names}


def _of_seen(learner: Any, state: Any, benchmark: Benchmark, task: Task) -> Any:
    """Features of all test images; those of classes that have not come are zero, since nothing looks at them."""
    rows = np.flatnonzero(task.seen[benchmark.test.labels])
    of_seen = np.asarray(features(learner, state, benchmark.test, benchmark.shape[0], rows))
    together = np.zeros((len(benchmark.test.labels), *of_seen.shape[1:]), of_seen.dtype)
    together[rows] = of_seen
    return jax.numpy.asarray(together)


def _stored(path: pathlib.Path, value: Any, runs: int, scenario: Scenario) -> Measurements | None:
    """The measurements in a value of a file; None where none are of this run, which is then said."""
    measured = None if value is None else reading.from_json(value, runs, scenario)
    if value is not None and measured is None:
        print(
            f"jaxcil: {path} does not hold what can be measured of {runs} seeds, {scenario.num_tasks} tasks and "
            f"{scenario.num_classes} classes; it will be made again",
            file=sys.stderr,
            flush=True,
        )
    return measured


def _of_no_reading(phase: Phase) -> bool:
    return not isinstance(phase, Fit) or phase.reading is None


def _setup(settings: Settings, benchmark: Benchmark, tasks: list[Task]) -> Setup:
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
