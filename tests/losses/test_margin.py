"""Margin ranking and LSC: golden values and gradients of public code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.losses.margin import lsc, margin_ranking
from jaxcil.losses.unit import unit_rows

pytestmark = pytest.mark.usefixtures("strict_dtypes", "x64")
EXACT = {"rtol": 1e-12, "atol": 1e-12}
ALL = jnp.ones(7, bool)


def test_margin_ranking_is_lucirs(golden):
    arrays = golden("incremental/lucir_losses.npz")
    labels, weights = jnp.asarray(arrays["targets"], jnp.int32), unit_rows(jnp.asarray(arrays["weights"]))
    old = labels < 6

    def loss(features):
        cosines = unit_rows(features) @ weights.T
        losses = margin_ranking(cosines, labels, jnp.arange(9) >= 6, 0.5, 2)
        return jnp.where(old, losses, 0).sum() / old.sum().astype(float)

    value, gradient = jax.value_and_grad(loss)(jnp.asarray(arrays["features"]))
    np.testing.assert_allclose(value, arrays["margin_ranking"], **EXACT)
    np.testing.assert_allclose(gradient, arrays["margin_ranking_grad"], **EXACT)


def test_margin_ranking_with_fewer_new_classes_than_it_asks_for_takes_all():
    cosines, label = jnp.asarray([[0.5, 0.4, 0.2]]), jnp.zeros(1, jnp.int32)
    new = jnp.asarray([False, False, True])
    np.testing.assert_allclose(margin_ranking(cosines, label, new, 0.5, 2), [0.2], **EXACT)


@pytest.fixture
def podnet(golden):
    return golden("incremental/podnet_losses.npz")


def scores(podnet, features, proxies, distance):
    cosines = jnp.einsum("bd,ckd->bck", unit_rows(features), unit_rows(proxies.reshape(7, 10, -1)))
    own = 2 * cosines - 2 if distance else cosines
    return (jax.nn.softmax(own, axis=-1) * own).sum(-1)


@pytest.mark.parametrize("kind", ["cosine", "neg_stable_cosine_distance"])
def test_lsc_is_podnets_and_its_derivative_goes_through_the_largest_score(kind, podnet):
    labels, eta = jnp.asarray(podnet["targets"], jnp.int32), float(podnet["eta"])

    def loss(features, proxies):
        return lsc(eta * scores(podnet, features, proxies, kind != "cosine"), labels, ALL).mean()

    given = jnp.asarray(podnet["new_features"]), jnp.asarray(podnet["proxies"])
    value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(*given)
    np.testing.assert_allclose(value, podnet[f"lsc_nca_{kind}_etaeta"], **EXACT)
    for gradient, of in zip(gradients, ("features", "proxies")):
        recorded = podnet[f"lsc_nca_{kind}_etaeta_grad_{of}"]
        np.testing.assert_allclose(gradient, recorded, rtol=1e-10, atol=1e-12)


def test_classes_that_take_no_part_have_no_effect_and_no_gradient():
    key = jax.random.key(0)
    own, labels = jax.random.normal(key, (5, 7)), jnp.asarray([0, 1, 2, 0, 1], jnp.int32)
    few = jnp.arange(7) < 3
    alone = lsc(own[:, :3], labels, few[:3])
    np.testing.assert_allclose(lsc(own, labels, few), alone, **EXACT)
    gradient = jax.grad(lambda scores: lsc(scores, labels, few).sum())(own)
    assert not np.asarray(gradient[:, 3:]).any()
