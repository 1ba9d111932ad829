"""A head over the tasks of a scenario, on features that a frozen extractor gave once.

All seeds go through a task before the next one begins. What is kept on the way are the heads' states and all that was
measured, so a run that was killed in a task goes on with that task, to the same results. Saving is for heads that take
their time: those that are done with a task in a moment are kept every `SECONDS_A_STATE`.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil import keys
from jaxcil.evaluation import metrics
from jaxcil.scenario import Scenario
from jaxcil.training.loop import Checkpoints

SECONDS_A_STATE = 20.0
TOP = 5


class FrozenFeatures(NamedTuple):
    """What one seed's extractor makes of the data set."""

    train: Array  # [N, D]
    test: Array  # [M, D]


class Measured(NamedTuple):
    """One head on the features of all seeds; rows after a task that has not come are NaN."""

    accuracy_matrix: np.ndarray  # [S, T, T], NaN above the diagonal
    top_5_accuracy: np.ndarray  # [S, T], over the classes seen; 1 while there are no more than five
    calibration_error: np.ndarray  # [S, T], of the softmax of the scores
    confusion: np.ndarray  # [S, C, C] after the last task, true classes in rows


class HeadProgram(NamedTuple):
    """A head with its two compiled functions, made once for all extractors, seeds and tasks."""

    head: Any
    update: Callable[..., Any]
    scores: Callable[..., Array]


def compile_head(head: Any) -> HeadProgram:
    """The programs of a head."""
    return HeadProgram(head, jax.jit(head.update), jax.jit(head.scores))


def learn_tasks(
    program: HeadProgram,
    features: list[FrozenFeatures],
    train_labels: np.ndarray,
    test_labels: np.ndarray,
    scenario: Scenario,
    run_keys: list[Array],
    checkpoints: Checkpoints | None = None,
) -> Measured:
    """Gives a head one task after the other and measures it after each, for every seed.

    Args:
      program: from `compile_head`.
      features: of every seed.
      train_labels: int32 [N], places in the class order.
      test_labels: int32 [M], the same.
      scenario: the classes and their tasks.
      run_keys: one a seed.
      checkpoints: where to keep states, and to go on from.
    """
    task_rows = [np.flatnonzero(scenario.new(task)[train_labels]) for task in range(scenario.num_tasks)]
    room = max(len(rows) for rows in task_rows)  # every task is padded to it, so that update compiles once
    dim = features[0].train.shape[-1]
    states = [program.head.init(scenario.num_classes, dim, keys.purpose_key(key, "head")) for key in run_keys]
    measured = _nothing(len(run_keys), scenario)
    done, kept = 0, time.monotonic()
    if checkpoints and (found := checkpoints.restore({"states": states, "measured": measured})):
        done, tree = found
        states, measured = tree["states"], Measured(*(np.array(value) for value in tree["measured"]))
    for task in range(done, scenario.num_tasks):
        for seed, key in enumerate(run_keys):
            task_key = keys.fold(keys.purpose_key(key, "head tasks"), task)
            # in random order: streaming heads, and those that hold out the last rows, ask for it
            rows = np.asarray(jax.random.permutation(keys.purpose_key(task_key, "order"), task_rows[task]))
            padded = np.pad(rows, (0, room - len(rows)), constant_values=-1)
            labels = jnp.asarray(np.where(padded < 0, -1, train_labels[padded]), jnp.int32)
            states[seed] = program.update(states[seed], features[seed].train[padded], labels, task_key)
            scores = np.asarray(program.scores(states[seed], features[seed].test))
            _record(measured, seed, task, scores, test_labels, scenario)
        if checkpoints and time.monotonic() - kept >= SECONDS_A_STATE:
            checkpoints.save(task + 1, {"states": states, "measured": measured})
            kept = time.monotonic()
    return measured


def _record(
    measured: Measured, seed: int, task: int, scores: np.ndarray, labels: np.ndarray, scenario: Scenario
) -> None:
    predictions = scores.argmax(-1)
    row = metrics.task_accuracies(predictions, labels, scenario.task_of_class, scenario.num_tasks)
    measured.accuracy_matrix[seed, task, : task + 1] = row[: task + 1]
    seen = np.where(scenario.seen(task)[labels], labels, -1)
    measured.top_5_accuracy[seed, task] = metrics.top_k_accuracy(scores, seen, min(TOP, scenario.num_classes))
    measured.calibration_error[seed, task] = metrics.expected_calibration_error(scores, seen)
    measured.confusion[seed] = metrics.confusion_matrix(predictions, labels, scenario.num_classes)


def _nothing(seeds: int, scenario: Scenario) -> Measured:
    tasks, classes = scenario.num_tasks, scenario.num_classes
    return Measured(
        np.full((seeds, tasks, tasks), np.nan),
        np.full((seeds, tasks), np.nan),
        np.full((seeds, tasks), np.nan),
        np.zeros((seeds, classes, classes), np.int32),
    )


def to_json(measured: Measured) -> dict[str, Any]:
    """For a file: nested lists, null in the place of NaN."""
    return {name: _nulls(value.tolist()) for name, value in measured._asdict().items()}


def from_json(value: dict[str, Any]) -> Measured:
    """The inverse of `to_json`."""
    floats = {name: np.array(value[name], np.float64) for name in Measured._fields if name != "confusion"}
    return Measured(**floats, confusion=np.array(value["confusion"], np.int32))


def _nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_nulls(item) for item in value]
    return None if value != value else value
