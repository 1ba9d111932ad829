"""FPCIL: what the first training sees next to real images, and what is dropped after it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil import keys
from jaxcil.data.augmentation.augmentation import Augmentation
from jaxcil.learners.fpcil import fpcil
from jaxcil.learners.frozen import frozen, supervised
from jaxcil.training.learner import Batch, whole

FUTURE = (2, 2, 3, 3)  # labels of auxiliary images


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def differ(one, other):
    return any(not np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True))


@pytest.fixture(scope="module")
def future_proof(small_run):
    """The first task's last training state, and the state after it."""
    return train(small_run, fpcil(frozen(small_run.setup())), FUTURE)


def train(small_run, learner, auxiliary):
    store = small_run.store()
    (state,), _ = small_run.learn(learner, auxiliary, count=1, store=store)
    (*_, trained) = (tree["train_states"] for _, tree, cursor in store.saved if cursor["steps"] == 3)
    return jax.tree.map(lambda leaf: leaf[0], trained), state


def test_the_first_training_is_over_first_and_auxiliary_classes_and_no_others(future_proof):
    trained, _ = future_proof
    assert trained.trained.tolist() == [True, True, True, True, False, False]
    columns = np.abs(trained.output["weights"]).sum(1)
    assert (columns > 0).tolist() == trained.trained.tolist()  # the others had no gradient


def test_columns_of_classes_to_come_are_dropped_and_the_extractor_is_kept(future_proof):
    trained, state = future_proof
    seen = [True, True, False, False, False, False]
    assert (np.abs(state.network.output["weights"]).sum(1) > 0).tolist() == seen
    assert state.network.seen.tolist() == seen
    np.testing.assert_array_equal(state.network.output["weights"][:2], trained.output["weights"][:2])
    assert_equal(state.network.variables, trained.variables)


def test_without_auxiliary_rows_it_is_the_plain_learner(small_run, future_proof):
    setup = small_run.setup()
    (plain,), _ = small_run.learn(frozen(setup))
    (wrapped,), _ = small_run.learn(fpcil(frozen(setup)))
    assert_equal(wrapped, plain)
    assert differ(future_proof[1].network, plain.network)  # auxiliary images do teach


def test_it_wraps_any_learner_and_changes_its_first_training_alone(small_run):
    learner = fpcil(supervised(small_run.setup()))
    store = small_run.store()
    small_run.learn(learner, FUTURE, store=store)
    last = {cursor["task"]: tree["train_states"] for _, tree, cursor in store.saved if cursor["steps"]}
    trained = [state.trained[0] for state in last.values()]
    assert trained[0].tolist() == [True, True, True, True, False, False]
    assert [mask.tolist() for mask in trained[1:]] == [t.new.tolist() for t in small_run.tasks()[1:]]
    first, later = learner.phases(0)[0], learner.phases(1)[0]
    assert first.step is not later.step


def test_classes_that_never_come_have_outputs_of_their_own_and_no_score(small_run):
    learner = fpcil(frozen(small_run.setup(other_classes=2)))
    trained, state = train(small_run, learner, (2, 7))
    assert np.flatnonzero(trained.trained).tolist() == [0, 1, 2, 7]
    assert (np.abs(trained.output["weights"]).sum(1) > 0).tolist() == trained.trained.tolist()
    assert learner.scores(state, jnp.zeros((5, 8, 8, 3))).shape == (5, small_run.classes)


def test_an_auxiliary_image_of_weight_zero_has_no_say_in_the_loss(small_run):
    setup = small_run.setup()

    def trained(loss_weight, auxiliary):
        return train(small_run, fpcil(frozen(setup), loss_weight=loss_weight), auxiliary)[0]

    other_labels = (3, 2, 3, 2)
    assert_equal(trained(0.0, FUTURE), trained(0.0, other_labels))
    assert differ(trained(1.0, FUTURE), trained(1.0, other_labels))
    assert differ(trained(0.0, FUTURE), trained(1.0, FUTURE))


def test_a_loss_weight_of_one_is_none(small_run, future_proof):
    assert_equal(train(small_run, fpcil(frozen(small_run.setup()), loss_weight=1.0), FUTURE), future_proof)


@pytest.mark.parametrize("fraction", [None, 0.4, 0.01, 0.99])
def test_auxiliary_images_fill_a_fixed_fraction_of_a_batch_or_are_shuffled_among_the_real_ones(
    fraction, small_run
):
    learner = fpcil(frozen(small_run.setup()), batch_fraction=fraction)
    task, (state,) = small_run.tasks(FUTURE)[0], small_run.states(learner)
    parts = learner.phases(0)[0].parts(learner, state, task, keys.root_key(0))
    real, auxiliary = whole(task.rows).tolist(), whole(task.auxiliary).tolist()
    assert sum(part.size for part in parts) == 7
    if fraction is None:
        assert [part.rows.tolist() for part in parts] == [real + auxiliary]
    else:
        assert [part.rows.tolist() for part in parts] == [real, auxiliary]
        assert [part.size for part in parts] == {0.4: [4, 3], 0.01: [6, 1], 0.99: [1, 6]}[fraction]


def test_a_training_with_a_fixed_fraction_learns_from_auxiliary_images(small_run):
    learner = fpcil(frozen(small_run.setup()), batch_fraction=0.4)
    trained, _ = train(small_run, learner, FUTURE)
    assert (np.abs(trained.output["weights"]).sum(1) > 0).tolist() == [True] * 4 + [False] * 2


CHANGED = Augmentation(brightness=0.5)


def first_loss(small_run, learner, auxiliary):
    """The loss of the first step on real images, marked as auxiliary or not, at weights that are not zero."""
    (state,), task, key = small_run.states(learner), small_run.tasks()[0], keys.root_key(0)
    training = learner.phases(0)[0]
    begun = training.begin(learner, state, task, key)
    weights = begun.output["weights"]
    begun = begun._replace(
        output={**begun.output, "weights": jnp.arange(weights.size, dtype=jnp.float32).reshape(weights.shape)}
    )
    taken = [jnp.asarray(leaf)[task.rows[:8]] for leaf in small_run.pool().batches(task, (), 3, None)[:2]]
    clock = map(jnp.int32, (0, 3, 0, 1))
    batch = Batch(*taken, jnp.full(8, auxiliary), jnp.ones(8), jnp.ones(8), *clock)
    return float(jax.jit(training.step)(learner, begun, batch, key)[1]["loss"])


def test_auxiliary_images_may_be_left_as_they_are_while_real_ones_are_changed(small_run):
    plain, changed = frozen(small_run.setup()), frozen(small_run.setup(augmentation=CHANGED))
    apart = fpcil(changed, augmentation=CHANGED)
    unchanged_loss, changed_loss = (first_loss(small_run, learner, False) for learner in (plain, changed))
    assert unchanged_loss != changed_loss
    assert first_loss(small_run, apart, True) == unchanged_loss
    assert first_loss(small_run, apart, False) == changed_loss
    assert first_loss(small_run, fpcil(changed), True) == changed_loss  # all alike


def test_it_has_the_names_and_the_freezing_of_the_learner_inside(small_run):
    for inner in (frozen(small_run.setup()), supervised(small_run.setup())):
        outer = fpcil(inner)
        for name in ("frozen_after", "reading_names", "logit_readings"):
            assert getattr(outer, name) == getattr(inner, name)
