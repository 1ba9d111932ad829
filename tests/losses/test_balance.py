"""Class-balanced weights and weight alignment: golden arrays of public code."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.losses.balance import class_balanced_weights, weight_alignment

pytestmark = pytest.mark.usefixtures("strict_dtypes", "x64")


@pytest.fixture
def kd(golden):
    return golden("incremental/kd_losses.npz")


@pytest.mark.parametrize("beta", [0.96, 0.97])
def test_weights_are_fosters(beta, kd):
    counts = jnp.asarray(kd["foster_samples_per_class"])
    recorded = kd[f"foster_class_weights_beta{int(100 * beta):03d}"]
    weights = class_balanced_weights(jnp.concatenate([counts, jnp.zeros(3, counts.dtype)]), beta)
    np.testing.assert_allclose(weights[:10], recorded, rtol=1e-6)  # the public code computes them in float32
    np.testing.assert_array_equal(weights[10:], 1)


def test_alignment_is_that_of_wa_and_leaves_old_rows(kd):
    before, old = jnp.asarray(kd["align_weight_before"]), jnp.arange(10) < 6
    after = weight_alignment(before, old, ~old)
    np.testing.assert_allclose(after, kd["wa_align_weight_after"], rtol=1e-12)
    np.testing.assert_array_equal(after[:6], before[:6])


def test_without_old_classes_nothing_is_aligned(kd):
    weights, none = jnp.asarray(kd["align_weight_before"]), jnp.zeros(10, bool)
    np.testing.assert_array_equal(weight_alignment(weights, none, ~none), weights)
