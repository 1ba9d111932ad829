"""Which auxiliary images a training sees: FPCIL's, the bound's and the controls'."""

import numpy as np
import pytest

from jaxcil.data.scenario import make_scenario
from jaxcil.experiment.variants import VARIANTS, Labels

NAMES = ("ant", "bee", "cat", "dog", "elk", "fox")
SCENARIO = make_scenario(NAMES, 2, 2, class_order="label-order")
REAL = np.repeat(np.arange(6, dtype=np.int32), 3)


def labels_of(counts):
    return Labels(REAL, np.repeat(np.arange(len(counts), dtype=np.int32), counts))


EVEN = labels_of([4] * 6)


def chosen(name, labels=EVEN, task=0):
    variant = VARIANTS[name]
    return variant.rows(SCENARIO, labels, task), variant.labels(SCENARIO, labels)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("task", [1, 2])
def test_trainings_of_later_tasks_see_no_auxiliary_images(name, task):
    assert len(chosen(name, task=task)[0]) == 0


def test_plain_sees_no_other_images_and_the_bound_real_ones_of_the_classes_to_come():
    assert len(chosen("plain")[0]) == 0
    rows, labels = chosen("real_future")
    assert rows.tolist() == [row for row in range(len(REAL)) if REAL[row] >= 2]
    np.testing.assert_array_equal(labels[: len(REAL)], REAL)


def test_future_proof_sees_every_synthetic_image_of_a_class_to_come_and_none_of_a_first_class():
    rows, labels = chosen("future_proof")
    assert (rows >= len(REAL)).all()
    assert np.bincount(labels[rows], minlength=6).tolist() == [0, 0, 4, 4, 4, 4]


def test_a_class_that_never_comes_is_one_to_come():
    labels = labels_of([0, 0, 0, 4, 0, 0, 4])
    assert chosen("future_proof", labels)[0].tolist() == list(range(18, 26))


def test_shuffled_labels_are_those_of_future_proof_in_another_order_and_real_labels_stay():
    rows, labels = chosen("future_proof")
    same_rows, shuffled = chosen("shuffled_labels")
    np.testing.assert_array_equal(rows, same_rows)
    assert sorted(shuffled[rows]) == sorted(labels[rows])
    assert (shuffled[rows] != labels[rows]).mean() > 0.25
    np.testing.assert_array_equal(np.delete(shuffled, rows), np.delete(labels, rows))


def test_known_classes_sees_equally_many_images_as_future_proof_all_of_first_classes():
    rows, labels = chosen("known_classes")
    assert len(rows) == len(chosen("future_proof")[0])
    assert (rows >= len(REAL)).all()
    assert np.bincount(labels[rows], minlength=6).tolist() == [8, 8, 0, 0, 0, 0]


def test_the_control_takes_first_classes_in_turn_and_repeats_where_the_set_has_fewer():
    rows = chosen("known_classes", labels_of([1, 3, 5, 5, 5, 5]))[0] - len(REAL)
    assert rows.tolist() == ([0, 1, 2, 3] * 5)[:20]
    few = labels_of([4, 4, 0, 0, 0, 2])
    labels = few.auxiliary[chosen("known_classes", few)[0] - len(REAL)]
    assert labels.tolist() == [0, 1]
