"""Metrics of class-incremental learning, defined once.

A[t, i] is the accuracy on the test images of task i's classes after task t, with predictions over all classes seen
so far (the task is not given); n_i is the number of those images. A is [T, T] with NaN above the diagonal, and any
unit: fractions in give fractions out, percent give percent. The accuracy after task t over all classes seen
is

    a_t = sum_{i <= t} n_i A[t, i] / sum_{i <= t} n_i                (1)

Published numbers with the same names that are not these: PyCIL's grouped accuracy takes blocks of 10 classes
as tasks, rounds to two decimals before it averages, and omits a block that has only the highest label
(`task_accuracies` gives every grouping of classes); the forgetting of PODNet's repository divides by one task too
many and adds -A[T-1, T-1]; LUCIR's script also prints an average in which each a_t counts by its classes seen.
Forward transfer has no meaning here: a task not seen yet has accuracy 0.
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
    """Mean over the tasks of a_t, equation (1).

    Args:
      matrix: A [T, T].
      sizes: n [T], test images of each task.
      weighting: of the tasks within a_t, as `seen_accuracy` takes it.
      skip_first: omit task 0, as WA's tables do.
    """
    accuracy = seen_accuracy(matrix, sizes, weighting)
    if skip_first and len(accuracy) == 1:
        raise InputError("skip_first leaves no task to average: there is only one task.")
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
    """Mean over i < T - 1 of A[T-1, i] - A[i, i] (Lopez-Paz, Ranzato, arXiv:1706.08840); with one task, 0.

    Its negative is the simple drop: forgetting from when a task was learned, and not from its best.
    """
    matrix = _checked(matrix)
    if len(matrix) == 1:
        return 0.0
    return float((matrix[-1] - np.diagonal(matrix))[:-1].mean())


def task_accuracies(
    predictions: np.ndarray, labels: np.ndarray, task_of_class: np.ndarray, num_tasks: int
) -> np.ndarray:
    """One row of A, [T]: the fraction of correct predictions for each task's classes; NaN for a task without images.

    Args:
      predictions: [N] contiguous labels.
      labels: [N] contiguous labels; -1 marks padding.
      task_of_class: [C] the task of each contiguous label.
      num_tasks: T.
    """
    predictions, labels = _predicted(predictions, labels)
    real = labels >= 0
    tasks = np.asarray(task_of_class)[labels[real]]
    images = np.bincount(tasks, minlength=num_tasks)
    right = np.bincount(tasks, weights=predictions[real] == labels[real], minlength=num_tasks)
    return np.where(images > 0, right / np.maximum(images, 1), np.nan)


def confusion_matrix(predictions: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts [C, C] int64: row the true class, column the predicted one.

    Args:
      predictions: [N] contiguous labels.
      labels: [N] contiguous labels; -1 marks padding.
      num_classes: C.
    """
    predictions, labels = _predicted(predictions, labels)
    real = labels >= 0
    for kind, values in (("labels", labels), ("predictions", predictions)):
        if values[real].size and not (values[real].min() >= 0 and values[real].max() < num_classes):
            raise InputError(
                f"{kind} must lie in [0, {num_classes}), got {values[real].min()} to {values[real].max()}."
            )
    cells = num_classes * labels[real].astype(np.int64) + predictions[real]
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def top_k_accuracy(scores: np.ndarray, labels: np.ndarray, k: int) -> float:
    """The fraction of images whose class is among the k highest scores.

    Of equal scores the lower label comes first, as in argmax, so that k = 1 is the accuracy. A class not seen
    (-inf) is never among them, even where fewer than k are seen: then every image of a seen class counts as correct.

    Args:
      scores: [N, C] of a head.
      labels: [N] contiguous labels; -1 marks padding.
      k: from 1 to C; "top-5" is 5.
    """
    scores, labels = _scored(scores, labels)
    if not 1 <= k <= scores.shape[1]:
        raise InputError(f"k must lie in [1, {scores.shape[1]}], the number of classes; got {k}.")
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    before = (scores > own) | ((scores == own) & (np.arange(scores.shape[1]) < labels[:, None]))
    return float(((before.sum(axis=1) < k) & (own[:, 0] > -np.inf)).mean())


def expected_calibration_error(scores: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """How far confidence is from accuracy: ECE = sum_b n_b / N |accuracy_b - confidence_b|, in [0, 1].

    The confidence of an image is the highest probability in the softmax of its scores. Bins have equal width,
    ((b - 1) / M, b / M]. Only for scores that are logits: the softmax of distances, cosines or regressions is no
    probability, and its error measures their scale rather than the head's confidence (a head's `scores_are_logits`).

    Args:
      scores: logits [N, C]; -inf for classes not seen.
      labels: [N] contiguous labels; -1 marks padding.
      bins: M, at least 1.

    References:
      Guo, Pleiss, Sun and Weinberger, arXiv:1706.04599, equation 3.
    """
    scores, labels = _scored(scores, labels)
    if bins < 1:
        raise InputError(f"bins must be at least 1, got {bins}.")
    confidence = 1 / np.exp(scores - scores.max(axis=1, keepdims=True)).sum(axis=1)
    bin_of = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence)
    surplus = np.bincount(bin_of, weights=(scores.argmax(axis=1) == labels) - confidence)
    return float(np.abs(surplus).sum() / len(labels))


def _predicted(predictions: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if predictions.shape != labels.shape:
        raise InputError(f"expected one prediction per label, got {predictions.shape} for {labels.shape}.")
    return predictions, labels


def _scored(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores in float64 and labels, without the rows that are padding."""
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels)
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise InputError(f"expected scores [N, C] and labels [N], got {scores.shape} and {labels.shape}.")
    real = labels >= 0
    scores, labels = scores[real], labels[real]
    if not len(labels) or labels.max() >= scores.shape[1]:
        raise InputError(
            f"labels must lie in [0, {scores.shape[1]}), at least one; got {labels.max(initial=-1)}."
        )
    if not np.isfinite(scores.max(axis=1)).all():  # the maximum of a row with a NaN is NaN
        raise InputError(
            "every image needs a finite highest score; one has NaN, inf or -inf for all classes."
        )
    return scores, labels


def _checked(matrix: np.ndarray) -> np.ndarray:
    matrix = np.asarray(matrix, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
        raise InputError(f"an accuracy matrix is [T, T] with T >= 1, got shape {matrix.shape}.")
    if np.isnan(matrix[np.tril_indices(len(matrix))]).any():
        raise InputError("an accuracy matrix is NaN above its diagonal only; one on or below it is NaN.")
    return matrix
