"""The Fréchet distance where it has a closed form, and where covariances are singular."""

import numpy as np
import pytest

from jaxcil.evaluation.worth.frechet import Moments, frechet_distance, moments


@pytest.fixture
def generator():
    return np.random.default_rng(0)


def rotation(generator, dim):
    return np.linalg.qr(generator.normal(size=(dim, dim)))[0]


def full(generator, dim):
    factor = generator.normal(size=(dim, dim))
    return Moments(generator.normal(size=dim), factor @ factor.T)


def test_distance_of_diagonal_gaussians_is_that_of_means_and_standard_deviations(generator):
    means, stds = generator.normal(size=(2, 5)), generator.uniform(0.1, 2, (2, 5))
    a, b = (Moments(mean, np.diag(std**2)) for mean, std in zip(means, stds))
    expected = np.sum((means[0] - means[1]) ** 2) + np.sum((stds[0] - stds[1]) ** 2)
    np.testing.assert_allclose(frechet_distance(a, b), expected, rtol=1e-12)


def test_distance_is_that_by_eigenvalues_of_the_product(generator):
    # the product is similar to a positive matrix, so its eigenvalues are positive: another way to the trace
    a, b = full(generator, 6), full(generator, 6)
    trace = np.sqrt(np.linalg.eigvals(a.covariance @ b.covariance).real).sum()
    expected = np.sum((a.mean - b.mean) ** 2) + np.trace(a.covariance) + np.trace(b.covariance) - 2 * trace
    np.testing.assert_allclose(frechet_distance(a, b), expected, rtol=1e-10)


def test_distance_in_one_dimension_is_that_of_two_means_and_two_standard_deviations():
    a, b = Moments(np.array([1.0]), np.array([[4.0]])), Moments(np.array([3.0]), np.array([[0.25]]))
    assert frechet_distance(a, b) == pytest.approx((1 - 3) ** 2 + (2 - 0.5) ** 2, rel=1e-14)


def test_distance_is_that_by_the_matrix_square_root(generator):
    linalg = pytest.importorskip("scipy.linalg")
    a, b = full(generator, 6), full(generator, 6)
    root = linalg.sqrtm(a.covariance @ b.covariance).real
    expected = np.sum((a.mean - b.mean) ** 2) + np.trace(a.covariance + b.covariance - 2 * root)
    np.testing.assert_allclose(frechet_distance(a, b), expected, rtol=1e-10)


def test_distance_is_symmetric_and_does_not_see_rotations(generator):
    a, b, turn = full(generator, 6), full(generator, 6), rotation(generator, 6)
    turned = [Moments(turn @ m.mean, turn @ m.covariance @ turn.T) for m in (a, b)]
    np.testing.assert_allclose(frechet_distance(b, a), frechet_distance(a, b), rtol=1e-12)
    np.testing.assert_allclose(frechet_distance(*turned), frechet_distance(a, b), rtol=1e-12)


def test_singular_covariances_of_few_features_have_a_distance(generator):
    # 3 images, 10 features: covariances of rank 2 in planes that are rotations of each other's
    features = generator.normal(size=(3, 10))
    a, b = moments(features), moments(features @ rotation(generator, 10))
    distance = frechet_distance(a, b)
    assert np.isfinite(distance)
    assert distance > 0
    assert frechet_distance(a, a) <= 1e-12 * np.trace(a.covariance)


def test_gaussians_in_orthogonal_subspaces_are_apart_by_their_traces():
    a, b = Moments(np.zeros(2), np.diag([4.0, 0.0])), Moments(np.zeros(2), np.diag([0.0, 9.0]))
    np.testing.assert_allclose(frechet_distance(a, b), 4 + 9, rtol=1e-12)


def test_point_masses_are_apart_by_their_squared_distance():
    nothing = np.zeros((2, 2))
    assert frechet_distance(Moments(np.zeros(2), nothing), Moments(np.array([3.0, 4.0]), nothing)) == 25.0


def test_moments_are_float64_and_those_of_numpy(generator):
    features = generator.normal(size=(20, 4)).astype(np.float32)
    found = moments(features)
    assert found.mean.dtype == found.covariance.dtype == np.float64
    np.testing.assert_allclose(found.covariance, np.cov(features.astype(np.float64).T), rtol=1e-12)


def test_features_of_one_image_are_refused():
    with pytest.raises(ValueError, match=r"at least 2 images, got shape \(1, 4\)"):
        moments(np.zeros((1, 4)))
