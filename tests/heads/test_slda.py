import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.covariance import OAS

from jaxcil.heads.slda import slda

pytestmark = pytest.mark.usefixtures("strict_dtypes")

update = jax.jit(lambda head, *arguments: head.update(*arguments))  # one program a shape for the whole file


def base_of(arrays):
    labels = jnp.asarray(arrays["train_labels"], jnp.int32)
    features = jnp.asarray(arrays["train_features"], float)
    head = slda(shrinkage=float(arrays["shrinkage"]))
    return head, features, labels, update(head, head.init(6, 10), features, jnp.where(labels < 3, labels, -1))


def stream(head, state, features, labels, order):
    """Images in an order, padded to the length of the base: one program."""
    real = jnp.arange(len(labels)) < len(order)
    order = np.append(order, np.zeros(len(labels) - len(order), int))
    return update(head, state, features[order], jnp.where(real, labels[order], -1))


@pytest.mark.usefixtures("x64")
def test_the_base_and_the_stream_are_those_of_the_official_code(golden):
    arrays = golden("incremental/slda.npz")
    head, features, labels, base = base_of(arrays)
    # The official code works in float32: 2e-7 in the covariance, absolute, and 6e-7 of the largest score
    np.testing.assert_allclose(base.covariance, arrays["sigma_after_base"], rtol=0, atol=2e-7)
    np.testing.assert_allclose(base.means, arrays["means_after_base"], rtol=0, atol=2e-7)
    state = stream(head, base, features, labels, arrays["stream_order"])
    np.testing.assert_allclose(state.covariance, arrays["sigma_final"], rtol=0, atol=2e-7)
    np.testing.assert_allclose(state.means, arrays["means_final"], rtol=0, atol=2e-7)
    np.testing.assert_array_equal(state.counts, arrays["counts"])
    scores = np.asarray(head.scores(state, jnp.asarray(arrays["test_features"], float)))
    expected = arrays["scores"]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=6e-7 * np.abs(expected).max())
    np.testing.assert_array_equal(scores.argmax(axis=1), expected.argmax(axis=1))


def test_float32_keeps_to_the_official_code_to_its_own_rounding(golden):
    arrays = golden("incremental/slda.npz")
    head, features, labels, base = base_of(arrays)
    state = stream(head, base, features, labels, arrays["stream_order"])
    np.testing.assert_allclose(state.covariance, arrays["sigma_final"], rtol=0, atol=1e-6)
    expected = arrays["scores"]
    scores = head.scores(state, jnp.asarray(arrays["test_features"]))
    # Two float32 computations, each times the condition number of the covariance, about 10
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.usefixtures("x64")
def test_one_call_is_exactly_the_recursion_over_single_images(golden):
    arrays = golden("incremental/slda.npz")
    head, features, labels, base = base_of(arrays)
    order = np.append(arrays["stream_order"], [3, 40, 0])  # classes of the base come again
    state = base
    for row in order:
        state = stream(head, state, features, labels, [row])
    whole = stream(head, base, features, labels, order)
    for ours, single in zip(whole, state):
        np.testing.assert_allclose(ours, single, rtol=0, atol=1e-12 * np.abs(single).max())


@pytest.mark.usefixtures("x64")
def test_the_base_covariance_is_the_oas_estimate_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 20)
    features = rng.normal(size=(60, 5)) * [1, 2, 3, 4, 5] + 10 * labels[:, None]
    head = slda()
    state = update(head, head.init(4, 5), jnp.asarray(features), jnp.asarray(labels, jnp.int32))
    centred = features - np.stack([features[labels == c].mean(axis=0) for c in range(3)])[labels]
    np.testing.assert_allclose(
        state.covariance, OAS(assume_centered=True).fit(centred).covariance_, rtol=1e-12
    )


def test_the_order_of_the_stream_matters_as_in_the_recursion(golden):
    head, features, labels, base = base_of(golden("incremental/slda.npz"))
    order = np.arange(60, 120)
    one, other = (stream(head, base, features, labels, rows) for rows in (order, order[::-1]))
    assert np.abs(one.covariance - other.covariance).max() > 1e-3 * np.abs(one.covariance).max()
    np.testing.assert_allclose(one.means, other.means, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shrinkage", [0.0, -1e-4, 1.5, np.nan])
def test_a_shrinkage_out_of_range_is_refused(shrinkage):
    with pytest.raises(ValueError, match="shrinkage must"):
        slda(shrinkage=shrinkage)


def test_images_one_by_one_compile_once_also_outside_jit():
    head = slda()
    state = head.init(3, 4)
    features, labels = jnp.ones((2, 4)), jnp.zeros(2, jnp.int32)
    state = head.update(head.update(state, features, labels), features, labels)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, seconds, **_: compiled.append(name) if "backend_compile" in name else None
    )
    try:
        jax.block_until_ready(head.update(state, features, labels))
        assert not compiled
        jax.block_until_ready(jax.jit(lambda x: x + 41)(features))
        assert compiled  # the event is still called so
    finally:
        jax.monitoring.clear_event_listeners()
