"""Heads over the tasks of a scenario: what is measured, what is compiled, and going on in the middle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil import heads, incremental, keys
from jaxcil.incremental import FrozenFeatures, compile_head, learn_tasks
from jaxcil.scenario import make_scenario
from jaxcil.training.checkpoint import Checkpoints

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
CLASSES, DIM, IMAGES = 25, 8, 4  # of a class, for training; half as many for testing


def rows(seed, images):
    labels = np.repeat(np.arange(CLASSES, dtype=np.int32), images)
    centres = np.random.default_rng(0).normal(size=(CLASSES, DIM))
    noise = np.random.default_rng([seed, images]).normal(size=(len(labels), DIM))
    return jnp.asarray(np.abs(centres[labels] + 0.5 * noise), jnp.float32), labels


def learn(program, classes_a_task=5, seeds=(3, 5), checkpoints=None):
    scenario = make_scenario([f"class {n}" for n in range(CLASSES)], classes_a_task, classes_a_task)
    features = [FrozenFeatures(rows(seed, IMAGES)[0], rows(seed + 100, IMAGES // 2)[0]) for seed in seeds]
    run_keys = [keys.root_key(seed) for seed in seeds]
    return learn_tasks(
        program, features, rows(0, IMAGES)[1], rows(0, IMAGES // 2)[1], scenario, run_keys, checkpoints
    )


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("head", [heads.ncm(), heads.fetril(images_a_class=IMAGES)], ids=["ncm", "fetril"])
def test_five_and_twenty_five_tasks_compile_the_same_two_programs(head):
    for classes_a_task in (5, 1):
        program = compile_head(head)
        measured = learn(program, classes_a_task, seeds=(3,))
        assert measured.accuracy_matrix.shape[1] == CLASSES // classes_a_task
        assert program.update._cache_size() == program.scores._cache_size() == 1


def test_the_last_task_of_an_order_free_head_measures_what_all_classes_at_once_give():
    head = heads.ncm()
    measured = learn(compile_head(head), seeds=(3,))
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
    program = compile_head(heads.ncm())
    both, alone = learn(program), learn(program, seeds=(5,))
    assert not np.array_equal(both.accuracy_matrix[0], both.accuracy_matrix[1], equal_nan=True)
    for of_both, of_one in zip(both, alone):
        np.testing.assert_array_equal(of_both[1], of_one[0])


class Stop(Exception):
    """In the place of a kill."""


@pytest.mark.parametrize("task", [1, 3])
def test_a_head_stopped_in_a_task_goes_on_with_that_task_to_the_same_bits(task, tmp_path, monkeypatch):
    monkeypatch.setattr(incremental, "SECONDS_A_STATE", 0.0)
    program = compile_head(heads.fecam(images_a_class=IMAGES))
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
    measured = learn(compile_head(heads.ncm()), seeds=(3,))
    assert_equal(incremental.from_json(incremental.to_json(measured)), measured)
