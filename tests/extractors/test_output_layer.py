"""The layers that extractors are trained under."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.extractors.output_layer import Cosine, Linear

FEATURES = jnp.asarray(np.random.default_rng(0).normal(size=(6, 5)), jnp.float32)


def test_cosine_logits_do_not_depend_on_lengths():
    parameters = Cosine().init(jax.random.key(0), 5, 3)
    longer = {**parameters, "weights": 7 * parameters["weights"]}
    np.testing.assert_allclose(
        Cosine().logits(parameters, FEATURES), Cosine().logits(longer, 3 * FEATURES), rtol=1e-5
    )


def test_cosine_logits_are_sigma_times_the_cosine():
    parameters = {"weights": FEATURES[:3], "sigma": jnp.float32(4)}
    logits = Cosine().logits(parameters, FEATURES)
    np.testing.assert_allclose(np.diag(logits[:3]), 4, rtol=1e-6)  # a feature against itself
    assert (abs(logits) <= 4 + 1e-5).all()


def test_a_feature_of_zeros_has_a_gradient_that_is_finite():
    parameters = Cosine().init(jax.random.key(0), 5, 3)
    gradient = jax.grad(lambda x: Cosine().logits(parameters, x).sum())(jnp.zeros((1, 5)))
    assert jnp.isfinite(gradient).all()


def test_a_linear_layer_starts_at_zero_so_that_all_classes_are_even():
    logits = Linear().logits(Linear().init(jax.random.key(0), 5, 3), FEATURES)
    np.testing.assert_array_equal(logits, np.zeros((6, 3)))


@pytest.mark.parametrize("classifier", [Linear(), Cosine()], ids=["linear", "cosine"])
def test_classes_that_are_dropped_score_zero_and_the_others_as_before(classifier):
    parameters = jax.tree.map(lambda leaf: leaf + 0.5, classifier.init(jax.random.key(0), 5, 3))
    kept = classifier.keep(parameters, jnp.array([True, False, True]))
    before, after = (classifier.logits(p, FEATURES) for p in (parameters, kept))
    np.testing.assert_array_equal(after[:, ::2], before[:, ::2])
    np.testing.assert_array_equal(after[:, 1], np.zeros(6))
