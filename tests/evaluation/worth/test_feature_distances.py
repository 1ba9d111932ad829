"""The measures of several sets against one reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.evaluation.worth.feature_distances import feature_distances, precision_and_recall
from jaxcil.evaluation.worth.frechet import frechet_distance, moments

LABELS = np.repeat([2, 5], 20)


@pytest.fixture
def features():
    generator = np.random.default_rng(0)
    reference, real = generator.normal(size=(2, 40, 4)).astype(np.float32)
    return {"reference": reference, "real": real, "far": real + 10, "copy": reference.copy()}


def test_a_set_equal_to_the_reference_has_no_distance_and_all_of_precision_and_recall(features):
    found = feature_distances(features, LABELS)
    assert found["frechet"]["copy"]["value"] == pytest.approx(0, abs=1e-10)
    assert found["kernel"]["copy"]["value"] < 0  # pairs of an image with its copy count, with itself do not
    for measure in ("precision", "recall"):
        assert found[measure]["copy"] == {"value": 1.0, "standard_error": 0.0}
        assert found[measure]["far"] == {"value": 0.0, "standard_error": 0.0}


def test_a_shift_is_the_squared_length_in_frechet_distance(features):
    # equal covariances: what is left is the shift of 10 in each of 4 features, from a mean that is that of `real`
    found = feature_distances({"reference": features["real"], "far": features["far"]}, LABELS)
    assert found["frechet"]["far"]["value"] == pytest.approx(400, rel=1e-6)
    assert found["images"] == 40


def test_the_standard_error_of_a_frechet_distance_is_the_spread_between_samples():
    generator = np.random.default_rng(1)
    found = []
    for _ in range(60):
        points = generator.normal(size=(2, 100, 2))
        points[1] += 1
        estimate = feature_distances(dict(zip(("reference", "other"), points)), np.zeros(100))["frechet"][
            "other"
        ]
        found.append((estimate["value"], estimate["standard_error"]))
    values, errors = np.array(found).T
    # 60 draws know their spread to 9 %; a jackknife of ten groups is at most a little too large in the mean
    assert 0.75 < np.sqrt((errors**2).mean()) / values.std() < 1.4


def test_fewer_images_than_features_have_no_frechet_distance_but_a_reason(features):
    few = {name: points[:4] for name, points in features.items()}
    found = feature_distances(few, np.zeros(4))
    assert "frechet" not in found
    assert found["omitted"] == {"frechet": "a covariance of 4 features needs more than 4 images"}
    assert set(found["kernel"]) == set(found["precision"]) == {"real", "far", "copy"}


def test_the_frechet_distance_is_over_all_images(features):
    found = feature_distances(features, LABELS)["frechet"]["real"]["value"]
    assert found == frechet_distance(moments(features["real"]), moments(features["reference"]))


@pytest.fixture
def points():
    return jax.random.normal(jax.random.key(0), (40, 3))


def test_a_set_lies_on_its_own_manifold(points, strict_dtypes):
    assert precision_and_recall(points, points) == (1.0, 1.0)


def test_sets_far_from_each_other_have_neither_precision_nor_recall(points, strict_dtypes):
    assert precision_and_recall(points, points + 100) == (0.0, 0.0)


def test_one_of_two_modes_has_precision_but_half_the_recall(points, strict_dtypes):
    both = jnp.concatenate([points, points + 100])
    assert precision_and_recall(both, points) == (1.0, 0.5)
    assert precision_and_recall(points, both) == (0.5, 1.0)


def test_a_ball_reaches_to_the_neighbour_asked_for(strict_dtypes):
    real = jnp.asarray([[0.0], [1.0], [3.0]])
    generated = jnp.asarray([[-0.9], [-1.1], [-2.9], [-3.1]])
    # around 0, the nearest other point lies at 1, the second at 3
    assert precision_and_recall(real, generated, neighbours=1)[0] == 0.25
    assert precision_and_recall(real, generated, neighbours=2)[0] == 0.75


def test_fewer_points_than_neighbours_are_refused(points):
    with pytest.raises(ValueError, match="more than 3 points on both sides, got 40 and 3"):
        precision_and_recall(points, points[:3])
