"""Which auxiliary images a training sees: those of FPCIL and of SDDR, of their bounds and their controls."""

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
    return variant.rows(SCENARIO, labels, task), variant.labels(SCENARIO, labels, task)


PAST = [name for name, variant in VARIANTS.items() if "past" in variant.kinds]


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in PAST])
@pytest.mark.parametrize("task", [1, 2])
def test_trainings_of_later_tasks_see_no_auxiliary_images_of_classes_to_come(name, task):
    assert len(chosen(name, task=task)[0]) == 0


@pytest.mark.parametrize("name", [name for name in PAST if name != "future_proof_sddr"])
def test_the_first_training_sees_no_images_of_past_classes(name):
    assert len(chosen(name)[0]) == 0


@pytest.mark.parametrize("name", PAST)
@pytest.mark.parametrize("task", [1, 2])
def test_later_trainings_see_images_that_are_labelled_as_past_classes_equally_many_of_each(name, task):
    rows, labels = chosen(name, task=task)
    count = 3 if name == "real_past" else 4
    assert np.bincount(labels[rows], minlength=6).tolist() == [
        count * (label < 2 * task) for label in range(6)
    ]
    assert ((rows < len(REAL)) == (name == "real_past")).all()
    np.testing.assert_array_equal(labels[: len(REAL)], REAL)


@pytest.mark.parametrize("name", ["sddr", "sddr_classification", "sddr_distillation", "real_past"])
def test_images_of_past_classes_have_their_own_labels(name):
    rows, labels = chosen(name, task=2)
    np.testing.assert_array_equal(labels[rows], EVEN.all[rows])


def test_sddr_shuffled_labels_are_those_of_sddr_in_another_order():
    rows, labels = chosen("sddr_shuffled_labels", task=2)
    np.testing.assert_array_equal(rows, chosen("sddr", task=2)[0])
    assert (labels[rows] != EVEN.all[rows]).mean() > 0.25


def test_sddr_wrong_classes_takes_one_other_class_for_each_past_one():
    rows, labels = chosen("sddr_wrong_classes", task=2)
    pairs = {(own, taken) for own, taken in zip(EVEN.all[rows].tolist(), labels[rows].tolist())}
    assert len(pairs) == 4
    assert len({own for own, _ in pairs}) == len({taken for _, taken in pairs}) == 4
    assert all(own != taken for own, taken in pairs)


@pytest.mark.parametrize("name", PAST)
def test_a_bound_on_images_of_each_past_class_takes_the_first_ones(name):
    rows, labels = chosen(name, EVEN._replace(most_past=2), task=2)
    assert np.bincount(labels[rows], minlength=6).tolist() == [2, 2, 2, 2, 0, 0]
    fewer = chosen(name, EVEN._replace(most_past=1), task=2)[0]
    assert set(fewer) < set(rows)


def test_future_proof_sddr_is_future_proof_first_and_sddr_later():
    for task, other in ((0, "future_proof"), (1, "sddr"), (2, "sddr")):
        np.testing.assert_array_equal(chosen("future_proof_sddr", task=task)[0], chosen(other, task=task)[0])


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
