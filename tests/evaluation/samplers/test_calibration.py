"""The objective of a calibration: an energy distance that balanced prompts do not bias."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.evaluation.samplers.calibration import verdict
from jaxcil.evaluation.samplers.distances import balanced_energy_distance


def test_prompts_without_spread_have_no_distance_to_themselves():
    # The estimator for independent draws is -1.33 here with two repeats, -0.78 with five.
    points = jnp.asarray([[0.0, 0.0], [3.0, 4.0]])
    for repeats in (2, 5):
        np.testing.assert_allclose(
            balanced_energy_distance(jnp.stack([points] * repeats), jnp.stack([points] * 3)), 0, atol=1e-6
        )


def test_mean_over_all_draws_is_the_distance_of_the_mixtures(x64):
    # Every latent is one of two equally likely points around its prompt, so that all draws can be listed.
    x_points = np.array([[0.0, 1.0], [5.0, 5.5]])  # [prompt, outcome]
    y_points = np.array([[0.2, 0.9], [4.0, 7.0]])

    def every_draw(points):
        outcomes = itertools.product(*[points[0], points[1]] * 2)
        return np.array(list(outcomes)).reshape(-1, 2, 2, 1)  # [draw, repeat, prompt, 1]

    def mean_distance(a, b):
        return np.abs(a.reshape(-1, 1) - b.reshape(1, -1)).mean()

    exact = 2 * mean_distance(x_points, y_points)
    exact -= mean_distance(x_points, x_points) + mean_distance(y_points, y_points)
    pairs = jax.vmap(jax.vmap(balanced_energy_distance, (None, 0)), (0, None))
    found = pairs(jnp.asarray(every_draw(x_points)), jnp.asarray(every_draw(y_points)))
    assert found.shape == (16, 16)
    np.testing.assert_allclose(found.mean(), exact, rtol=1e-12)


def test_gradient_is_finite_where_latents_agree():
    x = jnp.ones((2, 2, 3))
    assert np.isfinite(jax.grad(balanced_energy_distance)(x, x)).all()


@pytest.mark.parametrize(
    ("change", "expected"),
    [(-0.3, "better, by -0.3 ± 0.1: use"), (0.3, "worse, by .0.3"), (0.1, "even, by .0.1")],
)
def test_the_verdict_is_that_of_the_held_out_seeds(change, expected):
    held_out = {"seeds": [1, 2], "after_minus_before": {"mean": change, "standard_error": 0.1}}
    assert re.search(expected, verdict(held_out))
