"""A frozen extractor with heads: what a head sees, what stays as it is, and who scores after the first task."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil import keys
from jaxcil.data.augmentation.augmentation import to_float
from jaxcil.heads import acil, fecam, ncm
from jaxcil.learners.fpcil import fpcil
from jaxcil.learners.frozen import frozen
from jaxcil.training.learner import Fit, Training

FUTURE = (2, 3, 4, 5)  # labels of auxiliary images
HEADS = {
    "ncm": ncm(),
    "fecam": fecam(images_per_class=8, first_task="classifier"),
    "acil": acil(buffer_size=12),
}


@pytest.fixture(scope="module")
def learner(small_run):
    return fpcil(frozen(small_run.setup(heads=HEADS)))


@pytest.fixture(scope="module")
def after_tasks(learner, small_run):
    """The states of one run after each task."""
    states = []
    small_run.learn(learner, FUTURE, measure=lambda measured, task, now: states.append(now[0]) or ())
    return states


def images(small_run):
    return to_float(jnp.asarray(small_run.pool(FUTURE).benchmark.train.images))


def test_only_task_0_trains(learner):
    assert [type(phase) for phase in learner.phases(0)] == [Training, Fit, Fit, Fit]
    assert [type(phase) for phase in learner.phases(1)] == [Fit, Fit, Fit]


def test_later_tasks_leave_the_extractor_as_it_is(after_tasks):
    for state in after_tasks[1:]:
        jax.tree.map(np.testing.assert_array_equal, state.network, after_tasks[0].network)


def test_a_class_scores_minus_infinity_until_its_real_images_come(learner, after_tasks, small_run):
    for task, state in zip(small_run.tasks(FUTURE), after_tasks):
        for scores in learner.readings(state, learner.features(state, images(small_run))).values():
            assert np.isfinite(scores).all(0).tolist() == task.seen.tolist()
            assert np.isneginf(scores).all(0).tolist() == (~task.seen).tolist()


def test_a_head_sees_the_real_images_of_its_task_alone(learner, after_tasks, small_run):
    state = after_tasks[-1]
    features = learner.features(state, images(small_run))
    labels = jnp.asarray(small_run.pool(FUTURE).labels.real)
    head = ncm()
    alone = head.update(head.init(small_run.classes, features.shape[-1]), features, labels)
    kept = state.heads["ncm"].head
    np.testing.assert_array_equal(kept.counts, alone.counts)
    # all tasks at once sum the same rows in another order
    np.testing.assert_allclose(kept.means, alone.means, rtol=1e-5, atol=1e-6)


def test_a_head_that_asks_for_it_is_replaced_by_the_output_layer_after_task_0_only(
    learner, after_tasks, small_run
):
    output_layer = learner.learner.training.readings
    for task, state in enumerate(after_tasks):
        features = learner.features(state, images(small_run))
        readings = learner.readings(state, features)
        heads = {
            name: jax.jit(HEADS[name].scores)(state.heads[name].head, features) for name in ("fecam", "ncm")
        }
        own = output_layer(state.network, features)["cnn"]
        np.testing.assert_array_equal(readings["fecam"], own if task == 0 else heads["fecam"])
        assert not np.array_equal(own, heads["fecam"])
        np.testing.assert_array_equal(readings["ncm"], heads["ncm"])  # does not ask


def test_a_head_learns_the_same_whatever_other_heads_there_are(small_run, after_tasks):
    alone = fpcil(frozen(small_run.setup(heads={"acil": HEADS["acil"]})))
    (state,), _ = small_run.learn(alone, FUTURE)
    jax.tree.map(np.testing.assert_array_equal, state.heads["acil"], after_tasks[-1].heads["acil"])


def test_a_number_of_a_head_may_be_swept(small_run, after_tasks):
    setup, task, state = small_run.setup(), small_run.tasks()[0], after_tasks[0]
    rows = jnp.abs(jax.random.normal(jax.random.key(1), (16, 6)))
    labels = jnp.arange(16, dtype=jnp.int32) % 2

    def scores(ridge, rows, labels):
        learner = frozen(setup._replace(heads={"acil": acil(ridge=ridge, buffer_size=12)}))
        (fit,) = learner.phases(1)
        begun = fit.start(learner, state._replace(heads={}), keys.root_key(0))
        learned = fit.fit(
            learner, begun, {"task": {"images": rows}}, {"task": labels}, task, keys.root_key(0)
        )
        return learner.readings(learned, rows)["acil"]

    values = jnp.array([0.01, 1.0])
    swept = jax.jit(jax.vmap(scores, in_axes=(0, None, None)))(values, rows, labels)
    for scored, value in zip(swept, values):
        np.testing.assert_allclose(
            scored, scores(float(value), rows, labels), rtol=1e-4, atol=1e-5
        )  # sums in another order
    assert not np.allclose(swept[0, :, :2], swept[1, :, :2], rtol=1e-2)


def test_the_rows_of_a_task_come_in_an_order_drawn_from_the_key(learner, small_run):
    (fit, *_), task = learner.phases(1), small_run.tasks(FUTURE)[1]
    rows = functools.partial(fit.rows, learner, None, task)
    first, again, other = (rows(keys.root_key(seed))["task"].tolist() for seed in (0, 0, 1))
    assert first == again != other
    assert sorted(first) == sorted(other) == sorted(task.rows.tolist())
