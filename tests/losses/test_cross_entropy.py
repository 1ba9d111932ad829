"""Cross-entropy over trained classes: hard and smoothed targets."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcil.losses.cross_entropy import cross_entropy

pytestmark = pytest.mark.usefixtures("strict_dtypes")
TRAINED = np.array([True, True, True, False])
LABELS = np.array([0, 2, 1], np.int32)


def logits():
    return jax.random.normal(jax.random.key(0), (3, 4))


def loss(logits, smoothing=None):
    masked = jnp.where(TRAINED[None], logits, -jnp.inf)
    return cross_entropy(masked, jnp.asarray(LABELS), jnp.asarray(TRAINED), smoothing)


def test_smoothed_targets_spread_over_trained_classes_alone():
    targets = optax.smooth_labels(jax.nn.one_hot(LABELS, 3), 0.2)
    expected = optax.softmax_cross_entropy(logits()[:, :3], targets)
    np.testing.assert_allclose(loss(logits(), 0.2), expected, rtol=1e-6)


def test_hard_targets_are_smoothed_ones_of_smoothing_zero():
    expected = optax.softmax_cross_entropy_with_integer_labels(logits()[:, :3], LABELS)
    np.testing.assert_allclose(loss(logits()), expected, rtol=1e-6)
    np.testing.assert_array_equal(loss(logits(), jnp.float32(0.0)), loss(logits()))


@pytest.mark.parametrize("smoothing", [None, 0.2])
def test_a_class_that_is_not_trained_has_a_gradient_of_zero_and_no_nan(smoothing):
    gradient = jax.grad(lambda z: loss(z, smoothing).sum())(logits())
    assert (gradient[:, 3] == 0).all()
    assert np.isfinite(gradient).all()
    assert (gradient[:, :3] != 0).all()
