"""FPCIL: what the first training sees, what is dropped, and that the rest is a frozen extractor with a head."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcil import convolution
from jaxcil.data.augmentation import augmentation
from jaxcil.data.augmentation.augmentation import Augmentation
from jaxcil.extractors.resnet_cifar import ResNetCIFAR
from jaxcil.heads import ncm
from jaxcil.learners.fpcil import FPCIL, Images, smoothed_cross_entropy
from jaxcil.training.learner import Task
from jaxcil.training.optimizer import sgd

CLASSES, SIDE = 4, 8


class OneConvolution(nn.Module):
    """The least network that has what an extractor has: a trained convolution and batch statistics."""

    @nn.compact
    def __call__(self, images, train=False):
        convolved = nn.Conv(6, (3, 3), (2, 2))(images)
        return nn.relu(nn.BatchNorm(not train, momentum=0.9)(convolved)).mean((1, 2))


init, begin, step = (jax.jit(function) for function in (FPCIL.init, FPCIL.begin, FPCIL.step))


def make_learner(future_rows=(-1, -1)):
    images = jax.random.randint(jax.random.key(5), (24, SIDE, SIDE, 3), 0, 256).astype(jnp.uint8)
    data = Images(images, jnp.arange(24, dtype=jnp.int32) % CLASSES)
    return FPCIL(
        data=data,
        future_rows=jnp.asarray(future_rows),
        head=ncm(),
        optimizer=sgd(0.05, 5e-4),
        num_classes=CLASSES,
        network=OneConvolution(),
        steps=5,
    )


def task(index, classes, seen):
    rows = np.flatnonzero(np.isin(np.arange(24) % CLASSES, classes))
    masks = [jnp.isin(jnp.arange(CLASSES), jnp.asarray(which)) for which in (seen, classes)]
    return Task(index, jnp.asarray(np.pad(rows, (0, 24 - len(rows)), constant_values=-1)), *masks)


def train(learner, first):
    """Task 0 by its phases, on batches of its own rows."""
    key = jax.random.key(0)
    state = init(learner, key, jnp.zeros((1, SIDE, SIDE, 3)))
    extractor, head = learner.phases(0)
    training = jax.jit(extractor.begin)(state, first, key)
    rows = np.concatenate([first.rows, learner.future_rows])
    rows = jnp.asarray(rows[rows >= 0])
    batch = Images(learner.data.images[rows], learner.data.labels[rows])
    step = jax.jit(extractor.step)
    for n in range(learner.steps):
        training, metrics = step(training, batch, jax.random.fold_in(key, n))
    state = extractor.end(training, state, first)
    return head.end(head.begin(state, first, key), state, first), training, metrics


def test_the_first_training_is_over_first_and_future_classes_and_no_others():
    learner = make_learner(future_rows=(2, -1))  # row 2 shows class 2
    _, training, _ = train(learner, task(0, [0, 1], [0, 1]))
    assert training.trained.tolist() == [True, True, True, False]
    columns = jnp.abs(training.classifier["weights"]).sum(1)
    assert (columns > 0).tolist() == [True, True, True, False]  # column 3 had no gradient


def test_columns_of_future_classes_are_dropped_and_the_extractor_kept():
    learner = make_learner(future_rows=(2, 3))
    state, training, _ = train(learner, task(0, [0, 1], [0, 1]))
    assert (jnp.abs(state.classifier["weights"]).sum(1) > 0).tolist() == [True, True, False, False]
    jax.tree.map(np.testing.assert_array_equal, state.variables, training.variables)


def test_without_future_rows_it_is_the_plain_method():
    plain, _, _ = train(make_learner(), task(0, [0, 1], [0, 1]))
    future, _, _ = train(make_learner(future_rows=(2, 3)), task(0, [0, 1], [0, 1]))
    leaves = [jax.tree.leaves(state.variables["params"]) for state in (plain, future)]
    assert any(not np.allclose(a, b) for a, b in zip(*leaves))  # the future images do teach
    kernel = init(make_learner(), jax.random.key(0), jnp.zeros((1, SIDE, SIDE, 3))).variables["params"]
    assert any(not np.allclose(a, b) for a, b in zip(jax.tree.leaves(kernel), leaves[0]))


def test_unseen_classes_score_minus_infinity_until_their_real_images_come():
    learner = make_learner(future_rows=(2, 3))
    state, _, _ = train(learner, task(0, [0, 1], [0, 1]))
    images = augmentation.to_float(learner.data.images)
    assert np.isneginf(learner.scores(state, images)[:, 2:]).all()
    later = task(1, [2, 3], [0, 1, 2, 3])
    (head,) = learner.phases(1)
    grown = head.end(head.begin(state, later, jax.random.key(1)), state, later)
    assert np.isfinite(learner.scores(grown, images)).all()
    jax.tree.map(np.testing.assert_array_equal, grown.variables, state.variables)  # frozen


def test_the_head_sees_real_images_of_its_task_alone():
    learner = make_learner(future_rows=(2, 3))
    first = task(0, [0, 1], [0, 1])
    state, _, _ = train(learner, first)
    rows = np.asarray(first.rows)
    rows = rows[rows >= 0]
    features = learner.features(state.variables, augmentation.to_float(learner.data.images[rows]))
    alone = ncm().update(ncm().init(CLASSES, features.shape[-1]), features, learner.data.labels[rows])
    # the padded task sums the same rows in another order
    np.testing.assert_allclose(state.head.means, alone.means, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(state.head.counts, alone.counts)


def test_a_step_is_exported_for_every_platform():
    learner = make_learner()
    learner = learner.replace(
        network=ResNetCIFAR(blocks=1, width=4, convolution=convolution.conv_general_dilated)
    )
    first = task(0, [0, 1, 2, 3], [0, 1, 2, 3])
    batch = Images(learner.data.images[:8], learner.data.labels[:8])

    def step(learner, batch, seed):
        key = jax.random.key(seed)
        state = learner.begin(learner.init(key, jnp.zeros((1, SIDE, SIDE, 3))), first, key)
        return learner.step(state, batch, key)[1]

    exported = jax.export.export(jax.jit(step), platforms=("cpu", "cuda", "tpu"))(learner, batch, 0)
    assert exported.platforms == ("cpu", "cuda", "tpu")


@pytest.mark.parametrize("leaf", ["learning_rate", "weight_decay"])
def test_hyperparameters_of_the_training_may_be_swept_by_vmap(leaf):
    learner = make_learner()
    first = task(0, [0, 1, 2, 3], [0, 1, 2, 3])
    batch = Images(learner.data.images[:8], learner.data.labels[:8])
    values = jnp.array([0.01, 0.1])

    def step(value):
        swept = learner.replace(optimizer=learner.optimizer.replace(**{leaf: value}))
        state = swept.init(jax.random.key(0), jnp.zeros((1, SIDE, SIDE, 3)))
        state, _ = swept.step(swept.begin(state, first, jax.random.key(1)), batch, jax.random.key(2))
        return state.variables["params"]

    swept, alone = jax.jit(jax.vmap(step))(values), jax.jit(step)
    for n, value in enumerate(values):
        for a, b in zip(jax.tree.leaves(swept), jax.tree.leaves(alone(value))):
            np.testing.assert_allclose(a[n], b, rtol=1e-4, atol=1e-6)  # another order of float32 sums


def test_smoothed_targets_spread_over_trained_classes_alone():
    logits = jax.random.normal(jax.random.key(0), (3, CLASSES))
    trained, labels = jnp.array([True, True, True, False]), jnp.array([0, 2, 1])
    masked = jnp.where(trained[None], logits, -jnp.inf)
    found = smoothed_cross_entropy(masked, labels, trained, 0.2)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, 3), 0.2)
    np.testing.assert_allclose(found, optax.softmax_cross_entropy(logits[:, :3], targets), rtol=1e-6)
    gradient = jax.grad(
        lambda z: smoothed_cross_entropy(jnp.where(trained[None], z, -jnp.inf), labels, trained, 0.2).sum()
    )
    assert (gradient(logits)[:, 3] == 0).all()


def one_step(learner, synthetic=(False,) * 8, labels=None):
    """The state after a step on the first eight images."""
    first = task(0, [0, 1, 2, 3], [0, 1, 2, 3])
    labels = learner.data.labels[:8] if labels is None else labels
    batch = Images(learner.data.images[:8], labels, jnp.asarray(synthetic))
    state = init(learner, jax.random.key(0), jnp.zeros((1, SIDE, SIDE, 3)))
    return step(learner, begin(learner, state, first, jax.random.key(1)), batch, jax.random.key(2))


def test_a_synthetic_image_of_weight_zero_has_no_say_in_the_loss():
    learner = make_learner().replace(synthetic_weight=0.0)
    synthetic = (False,) * 6 + (True,) * 2
    one, _ = one_step(learner, synthetic)
    other, _ = one_step(learner, synthetic, labels=learner.data.labels[:8].at[6:].set(0))
    jax.tree.map(np.testing.assert_array_equal, one.classifier, other.classifier)
    whole, _ = one_step(learner.replace(synthetic_weight=1.0), synthetic)
    assert not np.allclose(whole.classifier["bias"], one.classifier["bias"])


def test_synthetic_images_may_be_left_as_they_are_while_real_ones_are_changed():
    changed = Augmentation(brightness=0.5)
    learner = make_learner().replace(augmentation=changed, synthetic_augmentation=Augmentation())
    real, synthetic = (one_step(learner, (flag,) * 8)[1]["loss"] for flag in (False, True))
    unchanged = one_step(make_learner())[1]["loss"]
    assert synthetic == unchanged
    assert one_step(make_learner().replace(augmentation=changed))[1]["loss"] == real


def test_what_is_frozen_is_the_moving_average_where_there_is_one():
    learner = make_learner().replace(average_decay=0.5)
    start = init(learner, jax.random.key(0), jnp.zeros((1, SIDE, SIDE, 3)))
    state, _ = one_step(learner)
    variables, _ = learner.frozen(state)
    # the first step's weight is min(0.5, 1 / 10)
    for average, before, after in zip(*map(jax.tree.leaves, (variables, start.variables, state.variables))):
        np.testing.assert_allclose(average, 0.1 * before + 0.9 * after, rtol=1e-4, atol=1e-6)


def test_classes_that_never_come_have_outputs_of_their_own_and_no_score():
    learner = make_learner(future_rows=(2, 3)).replace(other_classes=2)
    learner = learner.replace(data=learner.data._replace(labels=learner.data.labels.at[3].set(CLASSES + 1)))
    state, training, _ = train(learner, task(0, [0, 1], [0, 1]))
    assert training.trained.tolist() == [True, True, True, False, False, True]
    assert learner.scores(state, augmentation.to_float(learner.data.images)).shape == (24, CLASSES)
