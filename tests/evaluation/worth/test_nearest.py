"""Nearest neighbours, against all distances, and exact copies."""

import numpy as np
import pytest

from jaxcil.evaluation.worth.nearest import copied, flat, nearest, nearest_within, repeated


@pytest.fixture
def points():
    return np.random.default_rng(0).normal(size=(2, 40, 3)).astype(np.float32)


@pytest.mark.parametrize("rows", [256, 16], ids=["one block", "blocks that do not divide"])
def test_the_nearest_is_that_of_all_distances(rows, points, monkeypatch):
    monkeypatch.setattr("jaxcil.evaluation.worth.nearest.ROWS", rows)
    x, y = points
    away = np.linalg.norm(x[:, None].astype(np.float64) - y[None], axis=-1)
    found = nearest(x, y)
    np.testing.assert_array_equal(found.number, away.argmin(1))
    np.testing.assert_allclose(found.distance, away.min(1), rtol=1e-6)

    away = np.linalg.norm(x[:, None].astype(np.float64) - x[None], axis=-1) + np.diag(np.full(40, np.inf))
    within = nearest_within(x)
    np.testing.assert_array_equal(within.number, away.argmin(1))
    np.testing.assert_allclose(within.distance, away.min(1), rtol=1e-6)


def test_equal_points_have_distance_zero_far_from_the_origin_too(points):
    far = points[0] + 1000
    assert (nearest(far, far).distance == 0).all()
    assert (nearest_within(np.concatenate([far, far])).distance == 0).all()


def test_the_distance_of_images_is_their_root_mean_square_in_grey_levels():
    seen = np.stack([np.full((2, 2, 3), 10, np.uint8), np.full((2, 2, 3), 100, np.uint8)])
    images = np.stack([seen[1], seen[0] + 4, seen[0]])
    images[2, 0, 0, 0] += 6  # one entry of twelve
    distance, number = nearest(flat(images), flat(seen))
    np.testing.assert_allclose(distance, [0, 4, 6 / np.sqrt(12)], rtol=1e-6)
    assert number.tolist() == [1, 0, 0]


def test_exact_copies_are_those_with_equal_pixels_and_no_others():
    images = np.random.default_rng(0).integers(0, 256, (8, 2, 2, 3)).astype(np.uint8)
    planted = np.concatenate([images, images[[3, 3, 5]]])
    assert (repeated(images), repeated(planted)) == (0, 3)
    almost = images.copy()
    almost[:6, 0, 0, 0] ^= 1  # one grey level in one place
    assert copied(almost, images) == 2


def test_distances_are_right_although_squares_cancel():
    # at 100 standard deviations from the middle float32 squares are off by as much as the distances are long
    rng = np.random.default_rng(0)
    points, others = (
        np.concatenate([rng.normal(side, 1, (count, 8)) for side in (100, -100)]).astype(np.float32)
        for count in (100, 1000)
    )
    expected = np.linalg.norm(points[:, None].astype(float) - others[None], axis=-1).min(1)
    np.testing.assert_allclose(nearest(points, others).distance, expected, rtol=1e-6)
