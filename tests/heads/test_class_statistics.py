"""Sums by class: the CPU adds row by row, all else multiplies, and both are the same to rounding."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxcil.heads import class_statistics

LABELS = jnp.array([2, 0, -1, 2, 2, -1, 0, 2], jnp.int32)
CLASSES = 4


def features():
    made = jax.random.normal(jax.random.key(0), (len(LABELS), 5))
    return jnp.where((LABELS < 0)[:, None], jnp.nan, made)  # padding may hold anything


def test_accelerators_find_the_means_and_counts_of_the_cpu(monkeypatch):
    means, counts = class_statistics.class_means(features(), LABELS, CLASSES)
    assert counts.tolist() == [2, 0, 4, 0]
    monkeypatch.setattr(
        jax.lax, "platform_dependent", lambda *arguments, default, **others: default(*arguments)
    )
    other_means, other_counts = class_statistics.class_means(features(), LABELS, CLASSES)
    np.testing.assert_array_equal(counts, other_counts)
    np.testing.assert_allclose(means, other_means, rtol=1e-6, atol=1e-7)
    assert np.isfinite(means).all()


def test_the_mean_of_many_rows_alike_keeps_its_digits():
    count = 50_000
    means, _ = class_statistics.class_means(jnp.full((count, 2), 0.1), jnp.zeros(count, jnp.int32), 1)
    np.testing.assert_allclose(means, 0.1, rtol=5e-5)  # one sum in float32 is off by 5e-4
