import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jaxcil.heads.linear import linear

pytestmark = pytest.mark.usefixtures("strict_dtypes")

CLASSES, DIM = 3, 5
update = jax.jit(
    lambda head, *arguments: head.update(*arguments)
)  # one program a head and dtype for the whole file


def clusters(rows=60):
    rng = np.random.default_rng(0)
    labels = (np.arange(rows) % CLASSES).astype(np.int32)
    return rng.normal(size=(CLASSES, DIM))[labels] + 0.8 * rng.normal(size=(rows, DIM)), labels


@pytest.mark.usefixtures("x64")
def test_full_batches_reach_the_optimum_of_logistic_regression():
    features, labels = clusters()
    decay = 1e-2
    head = linear(learning_rate=0.5, weight_decay=decay, epochs=2000, batch_size=60)
    state = update(
        head, head.init(CLASSES, DIM), jnp.asarray(features), jnp.asarray(labels), jax.random.key(0)
    )
    # A constant feature of ones stands for the intercept, which weight decay pulls to zero too
    ones = np.append(features, np.ones((60, 1)), axis=1)
    peer = LogisticRegression(C=1 / (60 * decay), fit_intercept=False, tol=1e-10, max_iter=1000).fit(
        ones, labels
    )
    np.testing.assert_allclose(state.weights, peer.coef_, atol=1e-6)  # lbfgs stops there


@pytest.mark.parametrize("metric", ["dot", "cosine"])
def test_a_linear_probe_tells_clusters_apart(metric):
    features, labels = (jnp.asarray(part) for part in clusters())
    head = linear(metric, batch_size=16)
    features = features.astype(jnp.float32)
    state = update(head, head.init(CLASSES, DIM), features, labels, jax.random.key(0))
    found = np.asarray(head.scores(state, features))
    assert (found.argmax(axis=1) == labels).mean() > 0.8  # one guess in three is right by chance
    weights, intercepts = np.asarray(state.weights[:, :-1]), np.asarray(state.weights[:, -1])
    expected = np.einsum("bd,cd->bc", features, weights)
    if metric == "dot":
        expected += intercepts
    else:
        lengths = (np.linalg.norm(x, axis=1) for x in (features, weights))
        expected *= 16 / np.outer(*lengths)  # the scale that the training had
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_training_needs_a_key():
    features, labels = (jnp.asarray(part) for part in clusters())
    with pytest.raises(ValueError, match="key"):
        jax.eval_shape(linear().update, linear().init(CLASSES, DIM), features, labels)


@pytest.mark.parametrize(
    "setting",
    [
        {"metric": "cos"},
        {"learning_rate": 0.0},
        {"weight_decay": -1.0},
        {"scale": 0.0},
        {"epochs": 0},
        {"batch_size": 0},
    ],
)
def test_bad_settings_are_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        linear(**setting)
