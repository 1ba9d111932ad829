"""What the readings of a learner are worth after each task, for all runs of a lane."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil.data.scenario import Scenario
from jaxcil.errors import InputError
from jaxcil.evaluation import metrics
from jaxcil.experiment.benchmark import Benchmark
from jaxcil.experiment.pool import ImagePool, features
from jaxcil.training.learner import Part, Task, as_they_are

TOP = 5


class Measurements(NamedTuple):
    """One reading of all runs; rows after a task that has not come are NaN."""

    accuracy_matrix: np.ndarray  # [S, T, T], NaN above the diagonal
    top_5_accuracy: np.ndarray  # [S, T], over the classes seen; 1 while there are no more than five
    calibration_error: np.ndarray  # [S, T]; NaN for scores that are no logits
    confusion: np.ndarray  # [S, C, C] after the last task, true classes in rows


def nothing_measured(runs: int, scenario: Scenario) -> Measurements:
    """Before the first task."""
    tasks, classes = scenario.num_tasks, scenario.num_classes
    return Measurements(
        np.full((runs, tasks, tasks), np.nan),
        np.full((runs, tasks), np.nan),
        np.full((runs, tasks), np.nan),
        np.zeros((runs, classes, classes), np.int32),
    )


class FrozenFeatures:
    """Features of all images by a frozen extractor, computed once per run; `training.tasks.Pool` for its readings."""

    nbytes = 0

    def __init__(self, learner: Any, states: list[Any], pool: ImagePool):
        """Computes them.

        Raises:
          InputError: a feature is not finite.
        """
        self._pool = pool
        benchmark = pool.benchmark
        side = benchmark.shape[0]
        self._train = [features(learner, state, benchmark.train, side) for state in states]
        self.test = [features(learner, state, benchmark.test, side) for state in states]
        for kind, of_runs in (("training", self._train), ("test", self.test)):
            for run, rows in enumerate(of_runs):
                _check_finite(rows, f"{kind} features, seed {run + 1} of {len(states)}")

    def batches(
        self, task: Task, parts: Sequence[Part], steps: int, mesh: Any, key: Array | None = None
    ) -> Any:
        """A frozen learner does not train any more."""
        raise AssertionError("a learner that says it is frozen has a training after its frozen_after")

    def features(
        self, learner: Any, state: Any, run: int, rows: np.ndarray, view: Callable[[Array], Array]
    ) -> Array:
        """Features [R', D] of rows of real images; a padding row of -1 has any."""
        if view is as_they_are:
            return self._train[run][rows]
        return self._pool.features(learner, state, run, rows, view)


def measure(
    learner: Any, benchmark: Benchmark, test_features: Callable[[Any, int, Task], Array]
) -> Callable[[dict[str, Measurements], Task, list[Any]], dict[str, Measurements]]:
    """What `training.tasks.learn` calls after every task.

    Args:
      learner: as `training.learner.Learner` says.
      benchmark: its test images are read.
      test_features: (state, number of the run, task) -> features [M, D] of the test images; any for classes not seen.
    """
    logits = getattr(learner, "logit_readings", ())

    def after_task(measured: dict[str, Measurements], task: Task, states: list[Any]) -> Any:
        measured = {name: Measurements(*map(np.array, value)) for name, value in measured.items()}
        for run, state in enumerate(states):
            readings = learner.readings(state, test_features(state, run, task))
            for name, of_name in measured.items():
                scores = np.array(readings[name])
                place = f"{name}, task {task.index}, seed {run + 1} of {len(states)}"
                _check_scores(scores, task.seen, place)
                _record(of_name, run, task, scores, benchmark, name in logits)
        return measured

    return after_task


def _record(
    measured: Measurements, run: int, task: Task, scores: np.ndarray, benchmark: Benchmark, logits: bool
) -> None:
    scenario, labels, number = benchmark.scenario, benchmark.test.labels, task.index
    seen_labels = np.where(task.seen[labels], labels, -1)
    predictions = scores.argmax(-1)
    row = metrics.task_accuracies(predictions, labels, scenario.task_of_class, scenario.num_tasks)
    measured.accuracy_matrix[run, number, : number + 1] = row[: number + 1]
    measured.top_5_accuracy[run, number] = metrics.top_k_accuracy(
        scores, seen_labels, min(TOP, scenario.num_classes)
    )
    measured.confusion[run] = metrics.confusion_matrix(predictions, labels, scenario.num_classes)
    if logits:
        measured.calibration_error[run, number] = metrics.expected_calibration_error(scores, seen_labels)


def to_json(measured: Measurements) -> dict[str, Any]:
    """For a file: nested lists, null in place of NaN."""
    return {name: _nulls(value.tolist()) for name, value in measured._asdict().items()}


def from_json(value: Any, runs: int, scenario: Scenario) -> Measurements | None:
    """The inverse of `to_json`; None if the value has other numbers of runs, tasks or classes, or out of range."""
    like = nothing_measured(runs, scenario)
    try:
        arrays = [np.array(value[name], np.float64) for name in Measurements._fields]
    except (KeyError, TypeError, ValueError):
        return None
    *fractions, confusion = arrays
    in_range = [((of_field >= 0) & (of_field <= 1)) | np.isnan(of_field) for of_field in fractions]
    in_range.append((confusion >= 0) & (confusion % 1 == 0))
    shapes = [array.shape for array in arrays] == [array.shape for array in like]
    if not shapes or not all(of_field.all() for of_field in in_range):
        return None
    return Measurements(*fractions, confusion.astype(np.int32))  # pyright: ignore[reportCallIssue]


def _nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_nulls(item) for item in value]
    return None if value != value else value


def _check_finite(rows: Array, place: str) -> None:
    finite = jnp.isfinite(rows).all(axis=1)
    if not bool(finite.all()):
        raise InputError(
            f"{place}: NaN or infinity in row {int(jnp.argmin(finite))}.\nLook for a training that diverged: a smaller "
            "learning_rate, or more warmup."
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
