import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, top_k_accuracy_score

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


def test_blocks_of_classes_are_tasks_too(arrays):
    # The stored values are percent, rounded to two decimals: total, blocks of 10, classes below 20, and the others
    predictions, labels, classes = arrays["pred"], arrays["true"], np.arange(30)
    groups = [(0 * classes, 1), (classes // 10, 3), (classes // 20, 2)]
    measured = np.concatenate([metrics.task_accuracies(predictions, labels, *group) for group in groups])
    np.testing.assert_allclose(100 * measured, arrays["grouped_values"], rtol=0, atol=0.005 + 1e-9)


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


@pytest.fixture
def predicted():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 6, 400)
    return np.where(rng.random(400) < 0.6, labels, rng.integers(0, 6, 400)), labels


def test_the_confusion_matrix_has_true_classes_in_rows_and_no_padding(predicted):
    predictions, labels = predicted
    measured = metrics.confusion_matrix(np.append(predictions, 9), np.append(labels, -1), 7)
    np.testing.assert_array_equal(measured, confusion_matrix(labels, predictions, labels=np.arange(7)))
    assert measured.dtype == np.int64


@pytest.fixture
def scored():
    rng = np.random.default_rng(2)
    return rng.normal(size=(300, 8)), rng.integers(0, 8, 300)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_top_k_is_that_of_scikit_learn(scored, k):
    scores, labels = scored
    assert metrics.top_k_accuracy(scores, labels, k) == pytest.approx(
        top_k_accuracy_score(labels, scores, k=k), rel=1e-12
    )


def test_top_1_is_the_accuracy_even_where_scores_are_equal(scored):
    scores, labels = scored
    scores = np.round(scores)  # many ties
    assert metrics.top_k_accuracy(scores, labels, 1) == (scores.argmax(1) == labels).mean()


def test_a_class_not_seen_is_never_among_the_top(scored):
    scores, labels = scored
    scores[:, 3:] = -np.inf
    assert metrics.top_k_accuracy(scores, labels, 5) == (labels < 3).mean()
    assert metrics.top_k_accuracy(scores, np.where(labels < 3, labels, -1), 5) == 1


def scores_of_confidence(confidence, predictions):
    """Scores of two classes whose softmax gives a class that confidence."""
    confidence = np.asarray(confidence)
    return np.log(np.where(np.eye(2, dtype=bool)[predictions], confidence[:, None], 1 - confidence[:, None]))


def test_calibration_error_is_the_gap_between_confidence_and_accuracy_bin_by_bin():
    # 10 images at confidence 0.9 of which 6 are right, and 30 at 0.6 of which 27 are: gaps 0.3 and 0.3
    confidence = np.repeat([0.9, 0.6], [10, 30])
    labels = np.concatenate([np.repeat([0, 1], [6, 4]), np.repeat([0, 1], [27, 3])])
    scores = scores_of_confidence(confidence, np.zeros(40, int))
    assert metrics.expected_calibration_error(scores, labels) == pytest.approx(0.3, rel=1e-12)
    # In one bin too much and too little confidence cancel: accuracy 33 / 40, confidence 27 / 40
    assert metrics.expected_calibration_error(scores, labels, bins=1) == pytest.approx(0.15, rel=1e-12)


def test_calibration_looks_at_probabilities_and_not_at_the_size_of_scores(scored):
    scores, labels = scored
    measured = metrics.expected_calibration_error(scores, labels)
    shifted = np.pad(scores + 1e3 * labels[:, None], ((0, 5), (0, 2)), constant_values=-np.inf)
    padded = np.append(labels, [-1] * 5)
    # A shift by 1e3 costs float64 three digits
    assert metrics.expected_calibration_error(shifted, padded) == pytest.approx(measured, rel=1e-9)


def test_who_is_sure_and_right_is_calibrated_and_who_is_sure_and_wrong_is_not():
    scores = np.array([[0.0, -np.inf], [0.0, -np.inf]])
    assert metrics.expected_calibration_error(scores, [0, 0]) == 0
    assert metrics.expected_calibration_error(scores, [1, 1]) == 1


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
        (lambda: metrics.confusion_matrix([2], [0], 2), r"predictions must lie in \[0, 2\), got 2 to 2"),
        (lambda: metrics.confusion_matrix([0], [5], 2), "labels must lie"),
        (lambda: metrics.top_k_accuracy([[0.0, 1.0]], [0], 3), r"k must lie in \[1, 2\]"),
        (lambda: metrics.top_k_accuracy([[0.0, np.nan]], [0], 1), "finite highest score"),
        (lambda: metrics.top_k_accuracy([[0.0, 1.0]], [0, 1], 1), r"scores \[N, C\] and labels \[N\]"),
        (lambda: metrics.top_k_accuracy([[0.0, 1.0]], [2], 1), r"labels must lie in \[0, 2\)"),
        (lambda: metrics.expected_calibration_error([[0.0, 1.0]], [-1]), "at least one"),
        (lambda: metrics.expected_calibration_error([[0.0, 1.0]], [0], bins=0), "bins must be"),
        (lambda: metrics.task_accuracies([0], [0, 1], [0, 0], 1), "one prediction per label"),
    ],
)
def test_bad_input_is_refused(call, says):
    with pytest.raises(InputError, match=says):
        call()
