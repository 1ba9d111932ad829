"""What sddr adds to the trainings of a learner: places of a batch, weights in its losses, and when."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil import keys
from jaxcil.data.augmentation.augmentation import Augmentation
from jaxcil.errors import InputError
from jaxcil.learners.icarl import icarl
from jaxcil.learners.lucir import lucir
from jaxcil.learners.sddr import sddr
from jaxcil.training.learner import Batch, Training, whole

PAST = (0, 0, 1, 1, 2, 2, 3, 3)  # labels of synthetic images
REAL = 48  # rows of the pool before them


def parts_of(small_run, learner, task_index=1):
    """The parts of the first training of a task."""
    (state,) = small_run.states(learner)
    task = small_run.tasks(PAST, "sddr")[task_index]
    training = next(phase for phase in learner.phases(task_index) if isinstance(phase, Training))
    return training.parts(learner, state, task, keys.root_key(0))


@pytest.mark.parametrize(("fraction", "synthetic"), [(0.3, 3), (0.5, 7), (0.9, 63), (0.01, 1)])
def test_on_top_a_batch_has_all_its_real_images_and_synthetic_ones_in_that_fraction(
    fraction, synthetic, small_run
):
    real, other = parts_of(small_run, sddr(icarl(small_run.setup()), fraction))
    assert (real.size, other.size) == (7, synthetic)


@pytest.mark.parametrize(("fraction", "synthetic"), [(1 / 3, 2), (0.5, 4), (0.9, 6), (0.01, 1)])
def test_in_place_a_batch_keeps_its_size_and_a_real_image(fraction, synthetic, small_run):
    real, other = parts_of(small_run, sddr(icarl(small_run.setup()), fraction, on_top=False))
    assert (real.size, other.size) == (7 - synthetic, synthetic)


def test_synthetic_rows_are_those_of_past_classes_and_real_rows_stay_as_they_were(small_run):
    inside = icarl(small_run.setup())
    for task, synthetic in ((1, 4), (2, 8)):
        real, other = parts_of(small_run, sddr(inside, 0.5), task)
        np.testing.assert_array_equal(real.rows, parts_of(small_run, inside, task)[0].rows)
        np.testing.assert_array_equal(whole(other.rows), REAL + np.arange(synthetic))


def test_the_first_task_and_balanced_trainings_are_left_alone_unless_asked(small_run):
    inside = lucir(small_run.setup(), balanced=True, balanced_epochs=1)

    def counts(learner, task_index):
        (state,) = small_run.states(learner)
        task = small_run.tasks(PAST, "sddr")[task_index]
        # as after a task, so that a balanced training has images
        state = state._replace(memory=jnp.zeros_like(state.memory))
        trainings = [phase for phase in learner.phases(task_index) if isinstance(phase, Training)]
        return [len(phase.parts(learner, state, task, keys.root_key(0))) for phase in trainings]

    assert counts(sddr(inside, 0.5), 0) == [1]
    assert counts(sddr(inside, 0.5), 1) == [2, 1]
    assert counts(sddr(inside, 0.5, balanced=True), 1) == [2, 2]


class Noting:
    """A learner whose one training notes the batches that it gets."""

    def __init__(self):
        self.batches = []

    def phases(self, task_index):
        del task_index
        return (Training("noting", None, None, Noting.step, None, steps=1),)

    def step(self, state, batch, key):
        del key
        self.batches.append(batch)
        return state, {}


def batch_seen(**options):
    """The batch that the learner inside gets for one real and one synthetic image, and the one that was given."""
    inside = Noting()
    learner = sddr(inside, 0.5, **options)
    images = jnp.asarray(np.random.default_rng(0).integers(0, 255, (2, 8, 8, 3)), jnp.uint8)
    clock = map(jnp.int32, (0, 2, 0, 1))
    ones, labels = jnp.ones(2), jnp.zeros(2, jnp.int32)
    batch = Batch(images, labels, jnp.array([False, True]), ones, ones, *clock)
    learner.phases(1)[0].step(learner, None, batch, keys.root_key(0))
    return inside.batches[0], batch


def test_weights_are_of_synthetic_images_alone_one_for_each_kind_of_loss():
    seen, _ = batch_seen(classification_weight=0.25, distillation_weight=2.0)
    assert (seen.classify.tolist(), seen.distill.tolist()) == ([1, 0.25], [1, 2])


def test_without_weights_a_batch_is_passed_on_as_it_is():
    seen, given = batch_seen()
    assert all(a is b for a, b in zip(seen, given))


def test_synthetic_images_that_are_not_augmented_stay_as_they_are_and_real_ones_change():
    seen, given = batch_seen(augmentation=Augmentation(brightness=0.9))
    as_floats = given.images.astype(jnp.float32) / 127.5 - 1
    np.testing.assert_allclose(seen.images[1], as_floats[1], atol=1e-6)
    assert np.abs(seen.images[0] - as_floats[0]).max() > 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_fraction": 0.0}, "batch_fraction of sddr must lie between 0 and 1, got 0.0"),
        ({"batch_fraction": 1.0}, "batch_fraction of sddr must lie between 0 and 1, got 1.0"),
        (
            {"batch_fraction": 0.5, "classification_weight": -1.0},
            "classification_weight of sddr must be >= 0",
        ),
        ({"batch_fraction": 0.5, "distillation_weight": -1.0}, "distillation_weight of sddr must be >= 0"),
    ],
)
def test_values_out_of_their_range_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        sddr(Noting(), **arguments)


def test_a_task_without_synthetic_images_is_refused(small_run):
    learner = sddr(icarl(small_run.setup()), 0.5)
    task = small_run.tasks((), "plain")[1]
    with pytest.raises(
        InputError, match="needs synthetic images of past classes in task 1, and there are none"
    ):
        learner.phases(1)[1].parts(learner, small_run.states(learner)[0], task, keys.root_key(0))


def test_distillation_alone_leaves_the_classification_loss_to_real_images(small_run):
    """With neither weight a synthetic image matters to batch statistics alone; with one, to that loss."""
    setup = small_run.setup()
    states = {
        weights: small_run.learn(sddr(icarl(setup), 0.5, *weights), PAST, variant="sddr", count=2)[0][0]
        for weights in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))
    }
    weights = [np.asarray(state.model.output["rows"]["weights"]) for state in states.values()]
    assert not any(np.array_equal(a, b) for a, b in ((weights[0], weights[1]), (weights[1], weights[2])))
