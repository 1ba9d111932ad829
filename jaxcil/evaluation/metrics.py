"""Metrics of class-incremental learning, defined once.

A[t, i] is the accuracy on the test images of task i's classes after task t, predictions over all classes seen
so far (no task is given); n_i is the number of those images. A is [T, T] with NaN above the diagonal, and any
unit: fractions in give fractions out, percent give percent. The accuracy after task t over all classes seen
is

    a_t = sum_{i <= t} n_i A[t, i] / sum_{i <= t} n_i                (1)
"""

from typing import Literal

import numpy as np

from jaxcil.errors import InputError, unknown_name

WEIGHTINGS = ("images", "tasks")
MAXIMA = ("up_to_last", "before_last")


def seen_accuracy(
    matrix: np.ndarray, sizes: np.ndarray, weighting: Literal["images", "tasks"] = "images"
) -> np.ndarray:
    """Accuracy over all classes seen after each task, [T].

    Args:
      matrix: A [T, T].
      sizes: n [T], test images of each task.
      weighting: "images", equation (1), as LUCIR, PODNet, FeTrIL, FeCAM and PyCIL count; "tasks", the plain
        mean over tasks i <= t, which differs where the first task is larger.
    """
    if weighting not in WEIGHTINGS:
        raise unknown_name("weighting", weighting, WEIGHTINGS)
    matrix, sizes = _checked(matrix), np.asarray(sizes, np.float64)
    if sizes.shape != matrix.shape[:1] or (sizes <= 0).any():
        raise InputError(
            f"sizes must be {matrix.shape[0]} positive numbers of test images, got {sizes.tolist()}."
        )
    weights = np.tril(np.broadcast_to(sizes if weighting == "images" else 1.0, matrix.shape))
    return (weights * np.where(weights > 0, matrix, 0)).sum(axis=1) / weights.sum(axis=1)


def average_incremental_accuracy(
    matrix: np.ndarray,
    sizes: np.ndarray,
    weighting: Literal["images", "tasks"] = "images",
    skip_first: bool = False,
) -> float:
    """Mean over the tasks of a_t, equation (1); `skip_first` leaves out task 0, as WA's tables do."""
    accuracy = seen_accuracy(matrix, sizes, weighting)
    if skip_first and len(accuracy) == 1:
        raise InputError("skip_first leaves no task to average: there is only one.")
    return float(accuracy[int(skip_first) :].mean())


def last_accuracy(matrix: np.ndarray, sizes: np.ndarray) -> float:
    """Accuracy over all classes after the last task, a_{T-1} of equation (1)."""
    return float(seen_accuracy(matrix, sizes)[-1])


def forgetting(matrix: np.ndarray, maximum: Literal["up_to_last", "before_last"] = "up_to_last") -> float:
    """Mean over the tasks but the last of the best accuracy that a task had, less its accuracy at the end.

    Chaudhry et al. (arXiv:1801.10112). With one task, 0.

    Args:
      matrix: A [T, T].
      maximum: "up_to_last", the best over t <= T - 1, never negative (PyCIL, mammoth); "before_last", the
        best over t < T - 1, negative where a task is best at the end.
    """
    if maximum not in MAXIMA:
        raise unknown_name("maximum", maximum, MAXIMA)
    matrix = _checked(matrix)
    if len(matrix) == 1:
        return 0.0
    rows = matrix if maximum == "up_to_last" else matrix[:-1]
    return float((np.nanmax(rows[:, :-1], axis=0) - matrix[-1, :-1]).mean())


def backward_transfer(matrix: np.ndarray) -> float:
    """Mean over i < T - 1 of A[T-1, i] - A[i, i] (Lopez-Paz, Ranzato, arXiv:1706.08840); with one task, 0."""
    matrix = _checked(matrix)
    if len(matrix) == 1:
        return 0.0
    return float((matrix[-1] - np.diagonal(matrix))[:-1].mean())


def task_accuracies(
    predictions: np.ndarray, labels: np.ndarray, task_of_class: np.ndarray, num_tasks: int
) -> np.ndarray:
    """One row of A, [T]: the share of right predictions for each task's classes; NaN for one without images.

    Args:
      predictions: [N] contiguous labels.
      labels: [N] contiguous labels; -1 marks padding.
      task_of_class: [C] the task of each contiguous label.
      num_tasks: T.
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if predictions.shape != labels.shape:
        raise InputError(f"expected one prediction a label, got {predictions.shape} for {labels.shape}.")
    real = labels >= 0
    tasks = np.asarray(task_of_class)[labels[real]]
    images = np.bincount(tasks, minlength=num_tasks)
    right = np.bincount(tasks, weights=predictions[real] == labels[real], minlength=num_tasks)
    return np.where(images > 0, right / np.maximum(images, 1), np.nan)


def _checked(matrix: np.ndarray) -> np.ndarray:
    matrix = np.asarray(matrix, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
        raise InputError(f"an accuracy matrix is [T, T] with T >= 1, got shape {matrix.shape}.")
    if np.isnan(matrix[np.tril_indices(len(matrix))]).any():
        raise InputError("an accuracy matrix is NaN above its diagonal only; one on or below it is NaN.")
    return matrix
