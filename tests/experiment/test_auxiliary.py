"""Which images an extractor is trained on: FPCIL's, the bound's, the controls' and the ablations'."""

import numpy as np
import pytest
from PIL import Image

from jaxcil.data.scenario import make_scenario
from jaxcil.errors import InputError
from jaxcil.experiment.auxiliary import Auxiliary, auxiliary, select
from jaxcil.experiment.settings import defaults

NAMES = ("ant", "bee", "cat", "dog", "elk", "fox")
SCENARIO = make_scenario(NAMES, 2, 2, class_order="label-order")
REAL = np.repeat(np.arange(6, dtype=np.int32), 3)
EXTRA = Auxiliary(np.zeros((24, 4, 4, 3), np.uint8), np.repeat(np.arange(6, dtype=np.int32), 4), ())


def chosen(name):
    selection = select(name, SCENARIO, REAL, EXTRA)
    return selection.rows, selection.labels


def test_plain_sees_no_other_images_and_the_bound_real_ones_of_the_classes_to_come():
    assert len(chosen("plain")[0]) == 0
    rows, labels = chosen("real_future")
    assert rows.tolist() == [row for row in range(len(REAL)) if REAL[row] >= 2]
    np.testing.assert_array_equal(labels[: len(REAL)], REAL)


def test_future_proof_sees_every_synthetic_image_of_a_class_to_come_and_none_of_a_first_class():
    rows, labels = chosen("future_proof")
    assert (rows >= len(REAL)).all()
    assert np.bincount(labels[rows], minlength=6).tolist() == [0, 0, 4, 4, 4, 4]


def test_shuffled_labels_are_those_of_future_proof_in_another_order_and_real_labels_stay():
    rows, labels = chosen("future_proof")
    same_rows, shuffled = chosen("shuffled_labels")
    np.testing.assert_array_equal(rows, same_rows)
    assert sorted(shuffled[rows]) == sorted(labels[rows])
    assert (shuffled[rows] != labels[rows]).mean() > 0.25
    np.testing.assert_array_equal(np.delete(shuffled, rows), np.delete(labels, rows))


def test_known_classes_sees_as_many_images_as_future_proof_all_of_first_classes():
    rows, labels = chosen("known_classes")
    assert len(rows) == len(chosen("future_proof")[0])
    assert (rows >= len(REAL)).all()
    assert np.bincount(labels[rows], minlength=6).tolist() == [8, 8, 0, 0, 0, 0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Real images of all six classes and of a yak, four of each, a grey level a class."""
    root = tmp_path_factory.mktemp("images")
    for level, name in enumerate((*NAMES, "yak")):
        (root / "train" / name).mkdir(parents=True)
        for n in range(4):
            Image.new("RGB", (8, 8), (level,) * 3).save(root / "train" / name / f"{n}.png")
    return root


def config(folder, **future_proof):
    made = defaults()
    made.extractors = ("plain", "future_proof")
    made.future_proof.update(source=str(folder), classes=NAMES[2:], **future_proof)
    return made


def taken(made, tmp_path):
    extra = auxiliary(made, SCENARIO, (8, 8), tmp_path)
    return {int(label): int((extra.labels == label).sum()) for label in np.unique(extra.labels)}, extra


def test_images_join_the_classes_by_name(folder, tmp_path):
    counts, extra = taken(config(folder), tmp_path)
    assert counts == {2: 4, 3: 4, 4: 4, 5: 4}
    np.testing.assert_array_equal(extra.images[:, 0, 0, 0], extra.labels)


def test_the_control_takes_first_classes_in_turn_and_repeats_where_the_set_has_fewer():
    extra = Auxiliary(EXTRA.images, np.repeat([0, 1, 2, 3, 4, 5], [1, 3, 5, 5, 5, 5]).astype(np.int32), ())
    rows = select("known_classes", SCENARIO, REAL, extra).rows - len(REAL)
    assert rows.tolist() == ([0, 1, 2, 3] * 5)[:20]
    few = Auxiliary(EXTRA.images, np.repeat([0, 1, 5], [4, 4, 2]).astype(np.int32), ())
    labels = few.labels[select("known_classes", SCENARIO, REAL, few).rows - len(REAL)]
    assert labels.tolist() == [0, 1]


def test_fewer_images_a_class_are_the_first_of_each(folder, tmp_path):
    assert taken(config(folder, images_per_class=3), tmp_path)[0] == {2: 3, 3: 3, 4: 3, 5: 3}


def test_a_share_of_known_classes_leaves_the_others_out(folder, tmp_path):
    assert len(taken(config(folder, known_share=0.5), tmp_path)[0]) == 2


def test_a_class_that_never_comes_gets_a_label_behind_all_others(folder, tmp_path):
    made = config(folder)
    made.future_proof.classes = ("dog", "yak")
    counts, extra = taken(made, tmp_path)
    assert counts == {3: 4, 6: 4}
    assert extra.other_classes == ("yak",)
    assert select("future_proof", SCENARIO, REAL, extra).rows.tolist() == list(range(18, 26))


def test_the_control_of_known_classes_brings_images_of_the_first_classes(folder, tmp_path):
    made = config(folder)
    made.extractors = ("future_proof", "known_classes")
    made.future_proof.images_per_class = 2  # of the classes to come; the control repeats as few as it can
    assert taken(made, tmp_path)[0] == {0: 4, 1: 4, 2: 2, 3: 2, 4: 2, 5: 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ("dog", "eel")}, "has no images of eel; it has ant"),
        ({"classes": ("ant",)}, "names classes of the first task: ant"),
        ({"known_share": 0.1}, "at least one of 4 classes"),
        ({"known_share": 1.5}, "at most 1, got 1.5"),
        ({"images_per_class": 5}, "is 5, but .* has 4 images of cat"),
        ({"source": "nowhere"}, "no data set 'nowhere'"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_what_cannot_be_taken_is_refused(change, message, folder, tmp_path):
    made = config(folder)
    made.future_proof.update(change)
    with pytest.raises(InputError, match=message):
        auxiliary(made, SCENARIO, (8, 8), tmp_path)
