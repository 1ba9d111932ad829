"""Heads over the tasks of a scenario: what is measured, what is compiled, and going on in the middle."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil import heads, keys
from jaxcil.data.scenario import make_scenario
from jaxcil.errors import InputError
from jaxcil.experiment import reading
from jaxcil.experiment.reading import FrozenFeatures, HeadProgram, compile_head, learn_tasks
from jaxcil.training.checkpoint import Checkpoints

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
CLASSES, DIM, IMAGES = 25, 8, 4  # of a class, for training; half as many for testing


def rows(seed, images):
    labels = np.repeat(np.arange(CLASSES, dtype=np.int32), images)
    centres = np.random.default_rng(0).normal(size=(CLASSES, DIM))
    noise = np.random.default_rng([seed, images]).normal(size=(len(labels), DIM))
    return jnp.asarray(np.abs(centres[labels] + 0.5 * noise), jnp.float32), labels


def learn(
    program, classes_per_task=5, seeds=(3, 5), checkpoints=None, first_scores=None, spoil=lambda given: None
):
    names = [f"class {n}" for n in range(CLASSES)]
    scenario = make_scenario(names, classes_per_task, classes_per_task, class_order="label-order")
    given = {
        "features": [
            FrozenFeatures(rows(seed, IMAGES)[0], rows(seed + 100, IMAGES // 2)[0]) for seed in seeds
        ],
        "train_labels": rows(0, IMAGES)[1],
        "test_labels": rows(0, IMAGES // 2)[1],
        "first_scores": first_scores,
    }
    spoil(given)
    run_keys = [keys.root_key(seed) for seed in seeds]
    return learn_tasks(program, scenario=scenario, run_keys=run_keys, checkpoints=checkpoints, **given)


@functools.cache
def compiled(name):
    """Programs that tests share."""
    return compile_head({"ncm": heads.ncm(), "fecam": heads.fecam(images_per_class=IMAGES)}[name])


def untrained(head, scores):
    """A head that learns nothing and scores as told."""
    return HeadProgram(head, lambda state, *_: state, lambda state, features: scores)


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize(
    "head",
    [heads.ncm(), heads.fetril(classifier="ridge", images_per_class=IMAGES)],
    ids=["ncm", "fetril"],
)
def test_five_and_twenty_five_tasks_compile_the_same_two_programs(head):
    for classes_per_task in (5, 1):
        program = compile_head(head)
        measured = learn(program, classes_per_task, seeds=(3,))
        assert measured.accuracy_matrix.shape[1] == CLASSES // classes_per_task
        assert program.update._cache_size() == program.scores._cache_size() == 1


def test_the_last_task_of_an_order_free_head_measures_what_all_classes_at_once_give():
    head = heads.ncm()
    measured = learn(compiled("ncm"), seeds=(3,))
    (train, labels), (test, wanted) = rows(3, IMAGES), rows(103, IMAGES // 2)
    state = head.update(head.init(CLASSES, DIM), train, jnp.asarray(labels))
    predicted = np.asarray(head.scores(state, test)).argmax(-1)
    np.testing.assert_array_equal(
        np.diag(measured.confusion[0]), np.bincount(wanted[predicted == wanted], minlength=25)
    )
    by_task = (predicted == wanted).reshape(5, -1).mean(1)
    np.testing.assert_allclose(measured.accuracy_matrix[0, -1], by_task)
    assert np.isnan(measured.accuracy_matrix[0][np.triu_indices(5, 1)]).all()
    assert measured.top_5_accuracy[0, 0] == 1  # five classes seen
    assert measured.top_5_accuracy[0, -1] >= by_task.mean()


def test_a_seed_alone_is_measured_as_it_is_among_others():
    program = compiled("ncm")
    both, alone = learn(program), learn(program, seeds=(5,))
    assert not np.array_equal(both.accuracy_matrix[0], both.accuracy_matrix[1], equal_nan=True)
    for of_both, of_one in zip(both, alone):
        np.testing.assert_array_equal(of_both[1], of_one[0])


class Stop(Exception):
    """In the place of a kill."""


@pytest.mark.parametrize("task", [1, 3])
def test_a_head_stopped_in_a_task_goes_on_with_that_task_to_the_same_bits(task, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "SECONDS_PER_STATE", 0.0)
    program = compiled("fecam")
    whole = learn(program)
    learned = []

    def counting(*arguments):
        if len(learned) == 2 * task + 1 and not resumed:  # two seeds a task; the second seed of this task
            raise Stop
        learned.append(arguments[2])
        return program.update(*arguments)

    resumed = False
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(Stop):
        learn(program._replace(update=counting), checkpoints=checkpoints)
    learned.clear()
    resumed = True
    with Checkpoints(tmp_path) as checkpoints:
        found = learn(program._replace(update=counting), checkpoints=checkpoints)
    assert_equal(found, whole)
    assert len(learned) == 2 * (5 - task)


def test_what_was_measured_survives_json():
    measured = learn(compiled("ncm"), seeds=(3,))
    assert_equal(reading.from_json(reading.to_json(measured)), measured)


def test_calibration_is_told_of_logits_only():
    _, labels = rows(0, IMAGES // 2)
    sure_and_right = np.where(np.eye(CLASSES, dtype=bool)[labels], 0.0, -1e3)
    # A softmax of it is sure of one class, and that is the right one
    measured = learn(untrained(heads.linear(), sure_and_right), seeds=(3,))
    np.testing.assert_array_equal(measured.calibration_error, 0)
    measured = learn(untrained(heads.ncm(), sure_and_right), seeds=(3,))
    assert np.isnan(measured.calibration_error).all()
    assert measured.accuracy_matrix[0, -1, -1] == 1


def test_the_first_point_is_that_of_the_extractors_classifier_where_the_head_asks_for_it():
    program = compiled("fecam")
    asking = program._replace(head=heads.fecam(images_per_class=IMAGES, first_task="classifier"))
    labels = np.repeat(np.arange(5), IMAGES // 2)
    # The classifier of the first seed is right in all cases, that of the second in those of class 0 alone
    given = [np.eye(5)[labels], np.eye(5)[np.zeros_like(labels)]]
    plain, found = learn(program, first_scores=given), learn(asking, first_scores=given)
    np.testing.assert_array_equal(found.accuracy_matrix[:, 0, 0], [1, 0.2])
    assert_equal(plain, learn(program))
    for one, other in zip(found, plain):
        np.testing.assert_array_equal(one[:, 1:], other[:, 1:])


def with_value(array, place, value):
    return jnp.asarray(array).at[place].set(value)


def spoiling(seed, part, change):
    def spoil(given):
        features = given["features"][seed]
        given["features"][seed] = features._replace(**{part: change(getattr(features, part))})

    return spoil


BAD_INPUT = {
    "a training label past the last class": (
        lambda given: given.update(train_labels=given["train_labels"] + 1),
        r"training labels must lie in \[0, 25\), got 25",
    ),
    "a negative test label": (
        lambda given: given.update(test_labels=given["test_labels"] - 1),
        r"test labels must lie in \[0, 25\), got -1",
    ),
    "a class without images": (
        lambda given: given.update(
            train_labels=np.where(given["train_labels"] == 7, 8, given["train_labels"])
        ),
        "none of 'class 7'",
    ),
    "NaN in training features": (
        spoiling(1, "train", lambda x: with_value(x, (3, 2), jnp.nan)),
        "FeCAM, training features of seed 2 of 2: NaN or infinity in row 3",
    ),
    "infinity in test features": (
        spoiling(0, "test", lambda x: with_value(x, (4, 2), jnp.inf)),
        "FeCAM, test features of seed 1 of 2: NaN or infinity in row 4",
    ),
    "signed features": (
        spoiling(1, "test", lambda x: with_value(x, (0, 0), -1.0)),
        "FeCAM, test features of seed 2 of 2: .* as they come after a ReLU",
    ),
    "another feature dimension of a seed": (
        spoiling(1, "train", lambda x: x[:, 1:]),
        r"seed 2 of 2: expected \[100, 8\].*got shape \(100, 7\)",
    ),
    "fewer features than labels": (
        spoiling(0, "test", lambda x: x[1:]),
        r"seed 1 of 2: expected \[50, 8\].*got shape \(49, 8\)",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_is_refused_before_the_first_update(spoil, message):
    program = HeadProgram(heads.fecam(images_per_class=IMAGES), None, None)
    with pytest.raises(InputError, match=message):
        learn(program, spoil=spoil)


@pytest.mark.parametrize("first_scores", [None, [np.zeros((10, 5))], [np.zeros((10, 4))] * 2])
def test_first_scores_that_a_head_asks_for_must_be_there_and_fit(first_scores):
    program = HeadProgram(heads.fecam(first_task="classifier"), None, None)
    with pytest.raises(InputError, match=r"needs scores \[10, 5\] .* of 2 seeds"):
        learn(program, first_scores=first_scores)


@pytest.mark.parametrize(("value", "task"), [(np.nan, 0), (-np.inf, 1)], ids=["nan", "unlearned"])
def test_scores_that_are_not_finite_name_head_task_and_seed(value, task):
    scores = np.zeros((50, CLASSES))
    scores[6, 7] = value  # a class of the second task: before it, -inf is right
    message = rf"ACIL, task {task}, seed 1 of 2: .* got {value} for test row 6, class 7"
    with pytest.raises(InputError, match=message):
        learn(untrained(heads.acil(buffer_size=4), scores))
