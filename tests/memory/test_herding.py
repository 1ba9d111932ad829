"""Which rows the two rules of herding keep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.errors import InputError
from jaxcil.memory import herding

pytestmark = pytest.mark.usefixtures("strict_dtypes")

both_rules = pytest.mark.parametrize("rule", ["pycil", "icarl"])


@pytest.fixture
def rows(golden):
    arrays = golden("incremental/herding.npz")
    return jnp.asarray(arrays["train_features"]), jnp.asarray(arrays["train_labels"], jnp.int32)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ("pycil", "pycil_fixed_exemplars_task2"),
        ("icarl", "icarl_selection"),
        ("icarl", "icarl_selection_all"),
    ],
)
def test_the_exemplars_are_those_of_the_reference(golden, rows, rule, name):
    expected = golden("incremental/herding.npz")[name]
    found = herding(rows[0], rows[1], 7, exemplars=expected.shape[1], rule=rule)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.usefixtures("x64")
def test_a_shrinking_memory_is_a_cut(golden, rows):
    arrays = golden("incremental/herding.npz")
    features, labels = rows
    first = herding(features, jnp.where(labels < 4, labels, -1), 7, exemplars=12)
    np.testing.assert_array_equal(first[:4], arrays["pycil_exemplars_task1"])
    second = herding(features, jnp.where(labels < 4, -1, labels), 7, exemplars=7)
    kept = jnp.where(jnp.arange(7)[:, None] < 4, first[:, :7], second)
    np.testing.assert_array_equal(kept, arrays["pycil_exemplars_task2"])


@both_rules
def test_float32_picks_as_float64_does(rows, rule):
    features, labels = (np.asarray(part) for part in rows)
    with jax.enable_x64(True):
        double = herding(jnp.asarray(features, float), jnp.asarray(labels), 7, exemplars=12, rule=rule)
    single = herding(jnp.asarray(features, jnp.float32), jnp.asarray(labels), 7, exemplars=12, rule=rule)
    np.testing.assert_array_equal(single, double)


@both_rules
def test_padding_the_length_of_features_and_jit_change_nothing(rows, rule):
    features, labels = (np.asarray(part)[:100] for part in rows)
    padded = np.concatenate([3 * features, np.full((9, 16), np.nan)]).astype(np.float32)
    jitted = jax.jit(lambda x, y: herding(x, y, 2, exemplars=5, rule=rule, images_per_class=60))
    found = jitted(jnp.asarray(padded), jnp.asarray(np.append(labels, np.full(9, -1)), jnp.int32))
    expected = herding(
        jnp.asarray(features, jnp.float32), jnp.asarray(labels, jnp.int32), 2, exemplars=5, rule=rule
    )
    np.testing.assert_array_equal(found, expected)


@both_rules
def test_a_class_with_fewer_images_than_exemplars_keeps_all_and_no_row_fills_the_rest(rule):
    features = jnp.asarray(np.random.default_rng(0).uniform(size=(5, 3)), jnp.float32)
    labels = jnp.asarray([0, 2, 0, 2, 2], jnp.int32)
    found = np.asarray(herding(features, labels, 3, exemplars=4, rule=rule))
    assert sorted(found[0]) == [-1, -1, 0, 2]
    assert sorted(found[2]) == [-1, 1, 3, 4]
    assert (found[1] == -1).all()
    assert (found[0, 2:] == -1).all()  # behind the exemplars, so that a cut keeps those


def test_one_exemplar_is_the_image_nearest_to_the_mean():
    angles = np.deg2rad([0.0, 10.0, 37.0, 80.0, 90.0])  # the mean points to 43 degrees
    features = jnp.asarray(np.stack([np.cos(angles), np.sin(angles)], axis=1), jnp.float32)
    for rule in ("pycil", "icarl"):
        found = herding(features, jnp.zeros(5, jnp.int32), 1, exemplars=1, rule=rule)
        np.testing.assert_array_equal(found, [[2]])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "icral"}, "Did you mean 'icarl'"),
        ({"exemplars": 0}, "at least 1"),
        ({"images_per_class": 2}, "images_per_class"),
        ({"num_classes": 1}, "labels must lie"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_of_no_use_is_refused(settings, message):
    arguments = {"num_classes": 2, "exemplars": 2, **settings}
    with pytest.raises(InputError, match=message):
        herding(jnp.ones((4, 3)), jnp.asarray([0, 0, 0, 1], jnp.int32), **arguments)
