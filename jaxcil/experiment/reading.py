"""A head over the tasks of a scenario, on features that a frozen extractor gave once.

All seeds go through a task before the next one begins. What is kept on the way are the heads' states and all that was
measured, so a run that was killed in a task goes on with that task, to the same results. Saving is for heads that take
their time: those that are done with a task in a moment are kept every `SECONDS_PER_STATE`.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil import keys
from jaxcil.data.scenario import Scenario
from jaxcil.errors import InputError
from jaxcil.evaluation import metrics
from jaxcil.training.loop import Checkpoints

SECONDS_PER_STATE = 20.0
TOP = 5


class FrozenFeatures(NamedTuple):
    """What one seed's extractor makes of the data set."""

    train: Array  # [N, D]
    test: Array  # [M, D]


class Measured(NamedTuple):
    """One head on the features of all seeds; rows after a task that has not come are NaN."""

    accuracy_matrix: np.ndarray  # [S, T, T], NaN above the diagonal
    top_5_accuracy: np.ndarray  # [S, T], over the classes seen; 1 while there are no more than five
    calibration_error: np.ndarray  # [S, T]; NaN for a head whose scores are no logits
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
    first_scores: list[np.ndarray] | None = None,
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
      first_scores: of every seed, how the classifier that its extractor was trained under scores the test images of
        task 0: [m, c] for the m rows of test_labels below c, the classes of that task, in their order. A head with
        `first_task` "classifier" is measured by them after task 0, and does not learn from them; others ignore them.

    Raises:
      InputError: labels outside [0, C), features of another shape than the labels or the other seeds ask, features
        that are not finite or that the head cannot take, no or other first_scores where the head asks for them, or
        scores that are not finite.
    """
    _check_labels(train_labels, test_labels, scenario)
    _check_features(program.head, features, len(train_labels), len(test_labels))
    if getattr(program.head, "first_task", None) != "classifier":
        first_scores = None
    else:
        _check_first_scores(first_scores, len(run_keys), test_labels, scenario)
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
            scores = np.array(program.scores(states[seed], features[seed].test))
            if task == 0 and first_scores is not None:
                of_task = scenario.new(0)
                scores[np.ix_(of_task[test_labels], of_task)] = first_scores[seed]
            place = f"seed {seed + 1} of {len(run_keys)}"
            _check_scores(scores, scenario.seen(task), f"{_name(program.head)}, task {task}, {place}")
            _record(measured, seed, task, scores, test_labels, scenario)
            if program.head.scores_are_logits:
                measured.calibration_error[seed, task] = metrics.expected_calibration_error(
                    scores, _seen_labels(test_labels, task, scenario)
                )
        if checkpoints and time.monotonic() - kept >= SECONDS_PER_STATE:
            checkpoints.save(task + 1, {"states": states, "measured": measured})
            kept = time.monotonic()
    return measured


def _record(
    measured: Measured, seed: int, task: int, scores: np.ndarray, labels: np.ndarray, scenario: Scenario
) -> None:
    predictions = scores.argmax(-1)
    row = metrics.task_accuracies(predictions, labels, scenario.task_of_class, scenario.num_tasks)
    measured.accuracy_matrix[seed, task, : task + 1] = row[: task + 1]
    measured.top_5_accuracy[seed, task] = metrics.top_k_accuracy(
        scores, _seen_labels(labels, task, scenario), min(TOP, scenario.num_classes)
    )
    measured.confusion[seed] = metrics.confusion_matrix(predictions, labels, scenario.num_classes)


def _seen_labels(labels: np.ndarray, task: int, scenario: Scenario) -> np.ndarray:
    """Labels [M] with -1 where the class comes later."""
    return np.where(scenario.seen(task)[labels], labels, -1)


def _name(head: Any) -> str:
    return type(head).__name__


def _check_labels(train: np.ndarray, test: np.ndarray, scenario: Scenario) -> None:
    for kind, labels in (("training", train), ("test", test)):
        if outside := sorted({*labels.tolist()} - {*range(scenario.num_classes)}):
            raise InputError(
                f"{kind} labels must lie in [0, {scenario.num_classes}), got {outside[0]}.\n"
                "Did you pass original class ids? Map them with `Scenario.to_contiguous` first."
            )
    if absent := sorted({*range(scenario.num_classes)} - {*train.tolist()}):
        raise InputError(
            f"every class needs training images; there are none of {scenario.class_names[absent[0]]!r}.\n"
            "Leave the class out of the scenario."
        )


def _check_features(head: Any, features: list[FrozenFeatures], train: int, test: int) -> None:
    """Once for all tasks: inside a compiled update and scores nothing can be refused."""
    dim = features[0].train.shape[-1]
    for seed, of_seed in enumerate(features):
        for kind, rows, images in (("training", of_seed.train, train), ("test", of_seed.test, test)):
            place = f"{_name(head)}, {kind} features of seed {seed + 1} of {len(features)}"
            if rows.shape != (images, dim):
                raise InputError(
                    f"{place}: expected [{images}, {dim}], a row an image, as wide as the training features of the "
                    f"first seed; got shape {rows.shape}.\nAll seeds of a run need extractors of one width."
                )
            finite = jnp.isfinite(rows).all(axis=1)
            if not bool(finite.all()):
                row = int(jnp.argmin(finite))
                raise InputError(
                    f"{place}: NaN or infinity in row {row}.\nLook for a training that diverged: a smaller "
                    "learning_rate, or more warmup."
                )
            if hasattr(head, "check_features"):
                try:
                    head.check_features(rows)
                except InputError as error:
                    raise InputError(f"{place}: {error}") from None


def _check_first_scores(
    first_scores: list[np.ndarray] | None, seeds: int, test_labels: np.ndarray, scenario: Scenario
) -> None:
    wanted = (int(scenario.new(0)[test_labels].sum()), scenario.task_sizes[0])
    came = None if first_scores is None else [np.shape(scores) for scores in first_scores]
    if came != [wanted] * seeds:
        raise InputError(
            f'a head with first_task="classifier" needs scores {list(wanted)} by the extractor\'s own classifier, of '
            f'{seeds} seeds; got {came}.\nWithout such a classifier take first_task="mahalanobis".'
        )


def _check_scores(scores: np.ndarray, seen: np.ndarray, place: str) -> None:
    """Finite, or -inf for a class not seen."""
    fine = np.isfinite(scores) | (np.isneginf(scores) & ~seen)
    if fine.all():
        return
    row, column = np.argwhere(~fine)[0]
    raise InputError(
        f"{place}: expected finite scores of the classes seen, got {scores[row, column]} for test row {row}, "
        f"class {column}.\nThe head's options may be too extreme for float32: more ridge or shrinkage helps."
    )


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
