"""Distances between point sets, on sets whose distance is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.evaluation.samplers.distances import (
    energy_distance,
    sliced_wasserstein,
    unit_directions,
)


@pytest.fixture
def points():
    return jax.random.normal(jax.random.key(0), (40, 3))


def test_energy_distance_of_two_uniform_laws_is_that_of_the_integral(strict_dtypes):
    # U(0, 1) and U(1, 2): 2 E|x - y| - E|x - x'| - E|y - y'| = 2 - 1/3 - 1/3. Over 2000 draws a side, the standard
    # error is that of twice a difference of means, 2 sqrt(2 / 12 / 2000) = 0.018.
    x, y = (jax.random.uniform(jax.random.key(n), (2000, 1)) + n for n in (0, 1))
    np.testing.assert_allclose(energy_distance(x, y), 4 / 3, atol=4 * 0.018)


def test_energy_distance_of_equal_laws_is_zero_in_the_mean(strict_dtypes):
    pairs = jax.random.normal(jax.random.key(1), (2, 400, 20, 2))
    distances = jax.vmap(energy_distance)(pairs[0], pairs[1])
    assert distances.min() < 0 < distances.max()
    assert abs(distances.mean()) < 4 * distances.std() / np.sqrt(400)


def test_energy_distance_has_a_finite_gradient_where_points_coincide(points):
    assert np.isfinite(jax.grad(energy_distance)(points, points)).all()


def test_sliced_wasserstein_distance_of_a_shifted_set_is_the_mean_projection_of_the_shift(
    points, strict_dtypes
):
    shift, rays = jnp.asarray([1.0, -2.0, 0.5]), unit_directions(jax.random.key(2), 16, 3)
    moved = jax.random.permutation(jax.random.key(3), points + shift[None])
    expected = np.sqrt(np.mean((np.asarray(rays) @ np.asarray(shift)) ** 2))
    # float32 projections of numbers of size 4
    np.testing.assert_allclose(sliced_wasserstein(points, moved, rays), expected, rtol=1e-5)


def test_sliced_wasserstein_distance_along_one_axis_pairs_sorted_coordinates(strict_dtypes):
    x, y = jnp.asarray([[0.0, 9.0], [3.0, 9.0]]), jnp.asarray([[4.0, 7.0], [2.0, 5.0]])
    np.testing.assert_allclose(sliced_wasserstein(x, y, jnp.asarray([[1.0, 0.0]])), np.sqrt((4 + 1) / 2))


def test_sets_of_unequal_size_are_refused(points):
    with pytest.raises(ValueError, match=r"equally many points .* \(40, 3\) and \(39, 3\)"):
        sliced_wasserstein(points, points[1:], jnp.eye(3))


def test_directions_are_uniform_on_the_sphere(strict_dtypes):
    rays = unit_directions(jax.random.key(4), 4000, 3)
    np.testing.assert_allclose(jnp.linalg.norm(rays, axis=1), 1, rtol=1e-6)
    # a coordinate is uniform on [-1, 1]: mean square 1/3 with standard deviation sqrt(4 / 45)
    np.testing.assert_allclose((rays**2).mean(0), 1 / 3, atol=4 * np.sqrt(4 / 45 / 4000))
