"""The kernel distance, against a double loop and on sets of one distribution."""

import itertools

import numpy as np
import pytest

from jaxcil.evaluation.worth.kernel_distance import kernel_distance


@pytest.fixture
def generator():
    return np.random.default_rng(0)


def kernel(a, b):
    return (a @ b / len(a) + 1) ** 3


def by_pairs(x, y):
    within = [np.mean([kernel(a, b) for a, b in itertools.permutations(z, 2)]) for z in (x, y)]
    return sum(within) - 2 * np.mean([kernel(a, b) for a, b in itertools.product(x, y)])


def test_the_distance_of_one_class_is_the_mean_over_pairs_of_different_images(generator):
    x, y = generator.normal(size=(12, 5)), generator.normal(1, 2, (12, 5))
    np.testing.assert_allclose(kernel_distance(x, y, np.zeros(12)).value, by_pairs(x, y), rtol=1e-10)


def test_the_distance_does_not_depend_on_the_size_of_blocks(generator, monkeypatch):
    x, y = generator.normal(size=(12, 5)), generator.normal(1, 2, (12, 5))
    labels = np.arange(12) % 3
    whole = kernel_distance(x, y, labels)
    monkeypatch.setattr("jaxcil.evaluation.worth.kernel_distance.ROWS", 5)
    np.testing.assert_allclose(kernel_distance(x, y, labels), whole, rtol=1e-10)


def test_every_pair_of_classes_has_the_mean_over_its_own_pairs(generator):
    # two classes far apart, 4 and 6 images: the mean of k over both indices, class by class, no image with itself
    labels = np.array([0, 1, 1, 0, 1, 0, 1, 1, 0, 1])
    x, y = generator.normal(size=(2, 10, 3)) + 5 * labels[None, :, None]
    expected = 0.0
    for sign, a, b in ((1, x, x), (1, y, y), (-2, x, y)):
        for c, d in itertools.product((0, 1), repeat=2):
            rows, columns = np.flatnonzero(labels == c), np.flatnonzero(labels == d)
            pairs = [kernel(a[i], b[j]) for i in rows for j in columns if a is not b or i != j]
            expected += sign * np.mean(pairs) * len(rows) * len(columns) / 100
    np.testing.assert_allclose(kernel_distance(x, y, labels).value, expected, rtol=1e-10)


def test_sets_of_one_distribution_are_at_zero_in_the_mean_also_with_fixed_numbers_a_class(generator):
    labels = np.repeat([0, 1, 2], 4)
    pairs = generator.normal(size=(400, 2, 12, 2)) + 2 * labels[None, None, :, None]
    distances = np.array([kernel_distance(x, y, labels).value for x, y in pairs])
    assert distances.min() < 0 < distances.max()
    assert abs(distances.mean()) < 4 * distances.std() / np.sqrt(400)
    # with all other images in place of those of its class, the mean would be far below: the test can see it
    biased = np.array([by_pairs(x, y) for x, y in pairs[:100]])
    assert biased.mean() < -4 * biased.std() / np.sqrt(100)


def test_the_standard_error_is_the_spread_between_samples(generator):
    labels = np.repeat([0, 1], 30)
    found = [
        kernel_distance(generator.normal(size=(60, 3)), generator.normal(0.7, 1, (60, 3)), labels)
        for _ in range(200)
    ]
    values, errors = np.array(found).T
    # a jackknife of ten groups is within a few percent of it in the mean, and not below; 200 spreads have one of 5 %
    assert 0.85 < np.sqrt((errors**2).mean()) / values.std() < 1.3


def test_rows_may_stand_in_any_order(generator):
    x, y, labels = generator.normal(size=(12, 5)), generator.normal(size=(12, 5)), np.arange(12) % 3
    order = np.argsort(labels, kind="stable")
    np.testing.assert_allclose(
        kernel_distance(x, y, labels), kernel_distance(x[order], y[order], labels[order]), rtol=1e-10
    )


def test_sets_that_cannot_be_compared_are_refused(generator):
    x = generator.normal(size=(6, 2))
    with pytest.raises(ValueError, match="got 6 and 5 rows"):
        kernel_distance(x, x[:5], np.zeros(6))
    with pytest.raises(ValueError, match="classes with 2 or more"):
        kernel_distance(x, x, [0, 0, 0, 0, 1, 1])
