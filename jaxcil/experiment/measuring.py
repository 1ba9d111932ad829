"""What the lanes of a run are worth: trained and read for a group of seeds, with what is done kept on disk."""

import dataclasses
import pathlib
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxcil import keys
from jaxcil.data.scenario import Scenario
from jaxcil.experiment import reading
from jaxcil.experiment.benchmark import Benchmark
from jaxcil.experiment.lanes import Lane, Workplace, options_of, setup_of
from jaxcil.experiment.pool import features
from jaxcil.experiment.reading import FrozenFeatures, Measurements
from jaxcil.experiment.variants import VARIANTS
from jaxcil.extractors import saved
from jaxcil.learners import saved as learned
from jaxcil.training import tasks as training
from jaxcil.training.checkpoint import Checkpoints
from jaxcil.training.learner import Fit, Phase, Task
from jaxcil.workdir import files, record


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
    done = _all_stored(path, names, len(seeds), benchmark.scenario)
    if done:
        return done
    measure = _timed(
        reading.measure(
            learner, benchmark, lambda state, run, task: _of_seen(learner, state, benchmark, task)
        ),
        f"learner {lane.label}",
        place,
    )
    with place.timing.of(f"learner {lane.label}"):
        states = training.initial_states(learner, run_keys, benchmark.shape)
        values: Any = {name: reading.nothing_measured(len(seeds), benchmark.scenario) for name in names}
        first = 0
        if "future" not in VARIANTS[lane.variant].kinds:
            shared = folder.with_name(f"first-{lane.learner}{suffix}")
            states, values = _first_task(learner, tasks, states, values, run_keys, measure, shared, place)
            first = 1
        if tasks[first:]:
            with Checkpoints(folder / "states") as store:
                states, values = training.learn(
                    learner,
                    states,
                    tasks[first:],
                    place.pool,
                    run_keys,
                    place.surroundings,
                    measured=values,
                    measure=measure,
                    store=store,
                )
    _keep(lane, folder, training.stacked(states), tasks, place)
    done = {name: Measurements(*values[name]) for name in names}
    record.write_checked_json(path, {name: reading.to_json(value) for name, value in done.items()})
    shutil.rmtree(folder / "states", ignore_errors=True)
    return done


def _timed(measure: Callable[..., Any], name: str, place: Workplace) -> Callable[..., Any]:
    """The same, which also notes how long each task took, its measurement included, since this call went on with it."""
    start = time.perf_counter()

    def after_task(measured: Any, task: Task, states: list[Any]) -> Any:
        nonlocal start
        measured = measure(measured, task, states)
        now = time.perf_counter()
        place.timing.add(f"{name}, task {task.index}", now - start)
        start = now
        return measured

    return after_task


def _first_task(
    learner: Any,
    tasks: list[Task],
    states: list[Any],
    values: dict[str, Measurements],
    run_keys: list[Any],
    measure: Callable[..., Any],
    shared: pathlib.Path,
    place: Workplace,
) -> tuple[list[Any], dict[str, Measurements]]:
    """States and measurements after task 0, which is the same for all variants without other images in it."""
    path, numbers = (
        shared.with_suffix(f"{shared.suffix}.safetensors"),
        shared.with_suffix(f"{shared.suffix}.json"),
    )
    like = jax.eval_shape(training.stacked, states)
    stored = _all_stored(numbers, tuple(values), len(states), place.pool.benchmark.scenario)
    stacked = saved.load_states(path, like) if stored else None
    if stacked is None:
        with Checkpoints(shared) as store:
            trained, measured_now = training.learn(
                learner,
                states,
                tasks[:1],
                place.pool,
                run_keys,
                place.surroundings,
                measured=values,
                measure=measure,
                store=store,
            )
        saved.save_states(path, training.stacked(trained))
        stored = {name: Measurements(*measured_now[name]) for name in values}
        record.write_checked_json(numbers, {name: reading.to_json(value) for name, value in stored.items()})
        stacked = saved.load_states(path, like)  # as another lane would have it
    shutil.rmtree(shared, ignore_errors=True)
    return training.unstacked(stacked, len(states)), stored  # pyright: ignore[reportReturnType]


def _keep(lane: Lane, folder: pathlib.Path, states: Any, tasks: list[Task], place: Workplace) -> None:
    """Writes the final states of a learner for use outside the run."""
    own, (options, recipe) = place.settings.training, options_of(lane, place)
    description = {
        "name": lane.learner,
        "options": options,
        "network": own.network,
        "dtype": own.dtype,
        "output_layer": own.classifier,
        "later_training": dataclasses.asdict(place.settings.later_training) | recipe,
        "memory": dataclasses.asdict(place.settings.memory),
    }
    benchmark = place.pool.benchmark
    setup = setup_of(place.settings, benchmark, tasks)
    names = benchmark.scenario.class_names
    learned.save(folder, states, setup, description=description, class_names=names)


def _all_stored(
    path: pathlib.Path, names: tuple[str, ...], runs: int, scenario: Scenario
) -> dict[str, Measurements]:
    """The measurements of all readings in a file; {} where one is missing."""
    stored = record.read_checked_json(path) or {}
    done = {name: _stored(path, stored.get(name), runs, scenario) for name in names}
    return done if all(done.values()) else {}  # type: ignore[return-value]


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
