import numpy as np
import pytest

from jaxcil.errors import InputError
from jaxcil.evaluation import metrics


@pytest.fixture
def arrays(golden):
    return golden("incremental/metrics.npz")


EXACT = {"rtol": 1e-10, "atol": 0}  # float64 sums of a few terms


@pytest.mark.parametrize(
    ("weighting", "name"),
    [("images", "accuracy_per_step_class_weighted"), ("tasks", "accuracy_per_step_task_mean")],
)
def test_accuracy_after_each_task_is_that_of_the_reference(arrays, weighting, name):
    accuracy = metrics.seen_accuracy(arrays["accuracy_matrix"], arrays["task_sizes"], weighting)
    np.testing.assert_allclose(accuracy, arrays[name], **EXACT)


def test_average_and_last_accuracy_are_those_of_the_reference(arrays):
    matrix, sizes = arrays["accuracy_matrix"], arrays["task_sizes"]
    for ours, name in (
        (metrics.average_incremental_accuracy(matrix, sizes), "average_incremental_accuracy"),
        (
            metrics.average_incremental_accuracy(matrix, sizes, skip_first=True),
            "average_incremental_accuracy_without_first",
        ),
        (metrics.last_accuracy(matrix, sizes), "last_accuracy"),
    ):
        np.testing.assert_allclose(ours, arrays[name], **EXACT)


def test_forgetting_and_transfer_are_those_of_the_toolboxes(arrays):
    matrix = arrays["accuracy_matrix"]
    for ours, name in (
        (metrics.forgetting(matrix), "forgetting_pycil"),
        (metrics.forgetting(matrix), "forgetting_mammoth"),
        (metrics.forgetting(matrix, "before_last"), "forgetting_before_last_only"),
        (metrics.backward_transfer(matrix), "backward_transfer_mammoth"),
        (-metrics.backward_transfer(matrix), "intransigence_free_drop_first_seen"),
    ):
        np.testing.assert_allclose(ours, arrays[name], **EXACT)


def test_the_two_maxima_differ_where_a_task_is_best_at_the_end():
    matrix = [[0.5, None], [0.75, 1.0]]
    assert metrics.forgetting(matrix, "up_to_last") == 0
    assert metrics.forgetting(matrix, "before_last") == -0.25


def test_scaling_the_numbers_of_images_changes_nothing_but_their_ratio_does(arrays):
    matrix, sizes = arrays["accuracy_matrix"], arrays["task_sizes"]
    average = metrics.average_incremental_accuracy(matrix, sizes)
    np.testing.assert_allclose(metrics.average_incremental_accuracy(matrix, 100 * sizes), average, **EXACT)
    np.testing.assert_allclose(
        metrics.average_incremental_accuracy(matrix, np.ones(6)),
        metrics.average_incremental_accuracy(matrix, sizes, "tasks"),
        **EXACT,
    )
    assert abs(metrics.average_incremental_accuracy(matrix, np.ones(6)) - average) > 1


def test_one_task_has_nothing_to_forget():
    assert metrics.forgetting([[0.5]]) == metrics.backward_transfer([[0.5]]) == 0
    assert metrics.average_incremental_accuracy([[0.5]], [10]) == metrics.last_accuracy([[0.5]], [10]) == 0.5


def test_rows_of_the_matrix_agree_with_the_accuracy_over_all_images():
    rng = np.random.default_rng(0)
    task_of_class = np.array([0, 0, 1, 2, 2, 2])
    labels = rng.integers(0, 6, 500)
    predictions = np.where(rng.random(500) < 0.6, labels, rng.integers(0, 6, 500))
    row = metrics.task_accuracies(predictions, labels, task_of_class, 3)
    sizes = np.bincount(task_of_class[labels])
    # Only the last row counts for the last accuracy
    matrix = np.where(np.tri(3) > 0, row[None, :], np.nan)
    np.testing.assert_allclose(metrics.last_accuracy(matrix, sizes), (predictions == labels).mean(), **EXACT)


def test_padding_is_left_out_and_a_task_without_images_is_nan():
    row = metrics.task_accuracies([0, 1, 0, 5], [0, 0, -1, -1], [0, 1, 1], 2)
    np.testing.assert_array_equal(row, [0.5, np.nan])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: metrics.seen_accuracy([[1.0]], [1], "image"), "Did you mean 'images'"),
        (lambda: metrics.forgetting([[1.0]], "last"), "up_to_last"),
        (lambda: metrics.forgetting([[1.0, 2.0]]), r"shape \(1, 2\)"),
        (lambda: metrics.forgetting([[1.0, None], [None, 1.0]]), "NaN above its diagonal only"),
        (lambda: metrics.last_accuracy([[1.0]], [0]), "positive"),
        (lambda: metrics.last_accuracy([[1.0]], [1, 2]), "1 positive"),
        (lambda: metrics.average_incremental_accuracy([[1.0]], [1], skip_first=True), "only one"),
        (lambda: metrics.task_accuracies([0], [0, 1], [0, 0], 1), "one prediction a label"),
    ],
)
def test_bad_input_is_refused(call, says):
    with pytest.raises(InputError, match=says):
        call()
