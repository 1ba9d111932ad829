import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.heads import ncm

pytestmark = pytest.mark.usefixtures("strict_dtypes")


@pytest.fixture
def clusters():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(4), 25)).astype(np.int32)
    return (rng.uniform(0, 3, (4, 6))[labels] + rng.normal(size=(100, 6))).astype(np.float32), labels


def fit(head, features, labels):
    return head.update(head.init(4, 6), jnp.asarray(features), jnp.asarray(labels))


def test_euclidean_scores_are_minus_squared_distances_to_the_class_means(clusters):
    features, labels = clusters
    scores = ncm("euclidean").scores(fit(ncm("euclidean"), features, labels), jnp.asarray(features))
    means = np.stack([features[labels == c].mean(axis=0, dtype=np.float64) for c in range(4)])
    expected = -np.square(features[:, None].astype(np.float64) - means).sum(axis=-1)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)  # float32 algebra


def test_cosine_scores_do_not_change_when_a_feature_is_scaled(clusters):
    features, labels = clusters
    state = fit(ncm("cosine"), features, labels)
    scores = ncm("cosine").scores(state, jnp.asarray(features))
    np.testing.assert_allclose(ncm("cosine").scores(state, jnp.asarray(7 * features)), scores, atol=1e-6)
    assert np.abs(scores).max() <= 1 + 1e-6


def test_the_distances_agree_on_unit_features(clusters):
    features, labels = clusters
    cosine, euclidean = (ncm(metric, means="unit_features") for metric in ("cosine", "euclidean"))
    state = fit(cosine, features, labels)
    # |u - m|^2 = 2 - 2 <u, m> for vectors of length one
    np.testing.assert_allclose(
        euclidean.scores(state, jnp.asarray(features)),
        2 * cosine.scores(state, jnp.asarray(features)) - 2,
        atol=2e-6,
    )


def test_unit_features_give_a_long_image_no_more_say_than_a_short_one(clusters):
    features, labels = clusters
    scale = np.random.default_rng(1).uniform(0.1, 10, (100, 1)).astype(np.float32)
    head = ncm(means="unit_features")
    np.testing.assert_allclose(
        head.scores(fit(head, scale * features, labels), jnp.asarray(features)),
        head.scores(fit(head, features, labels), jnp.asarray(features)),
        atol=1e-6,
    )


def test_a_class_that_comes_in_two_tasks_has_the_mean_of_both(clusters):
    features, labels = clusters
    head = ncm()
    halves = head.init(4, 6)
    for rows in (slice(0, 30), slice(30, 100)):
        halves = head.update(halves, jnp.asarray(features[rows]), jnp.asarray(labels[rows]))
    whole = fit(head, features, labels)
    np.testing.assert_allclose(halves.means, whole.means, rtol=1e-5)
    np.testing.assert_array_equal(halves.counts, whole.counts)


def test_a_large_common_offset_of_the_features_does_not_blur_euclidean_distances(clusters):
    # |f|^2 is 6e6 here and the expanded square in float32 would be off by about 0.4
    features, labels = clusters
    offset = np.float32(1024)
    near = ncm("euclidean").scores(fit(ncm("euclidean"), features, labels), jnp.asarray(features))
    far = ncm("euclidean").scores(
        fit(ncm("euclidean"), features + offset, labels), jnp.asarray(features + offset)
    )
    np.testing.assert_allclose(far, near, atol=1e-2)  # adding 1024 rounds each feature at 6e-5


def test_bfloat16_features_are_summed_in_float32(clusters):
    features, labels = clusters
    state = fit(ncm(), features.astype(jnp.bfloat16), labels)
    assert state.means.dtype == jnp.float32
    assert ncm().scores(state, jnp.asarray(features, jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.parametrize("arguments", [("cosin",), ("cosine", "feature")])
def test_an_unknown_option_is_refused_with_the_nearest_name(arguments):
    with pytest.raises(ValueError, match="Did you mean"):
        ncm(arguments[0], means=arguments[1]) if len(arguments) == 2 else ncm(*arguments)


@pytest.mark.parametrize("label", [4, -2])
def test_a_label_outside_the_class_axis_is_refused(label):
    with pytest.raises(ValueError, match=f"got {label}"):
        ncm().update(ncm().init(4, 6), jnp.zeros((1, 6)), jnp.array([label]))


def test_features_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"\[B, 6\]"):
        ncm().update(ncm().init(4, 6), jnp.zeros((1, 5)), jnp.array([0]))
