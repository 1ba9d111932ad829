"""Distillation: golden values and gradients of public code, and what holds whatever the numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.losses.cross_entropy import cross_entropy
from jaxcil.losses.distillation import cosine_distillation, distillation

pytestmark = pytest.mark.usefixtures("strict_dtypes", "x64")
EXACT = {"rtol": 1e-12, "atol": 1e-12}
OLD = jnp.arange(10) < 6


@pytest.fixture
def kd(golden):
    return golden("incremental/kd_losses.npz")


def padded(teacher):
    """Logits of old classes with columns of the others, which take no part."""
    return jnp.pad(jnp.asarray(teacher), ((0, 0), (0, 4)), constant_values=7.0)


def classification(kd, logits, columns, labels="targets"):
    masked = jnp.where(columns[None], logits, -jnp.inf)
    return cross_entropy(masked, jnp.asarray(kd[labels], jnp.int32), columns).mean()


def kept(kd, logits):
    return distillation(logits, padded(kd["old_logits"]), OLD, 2.0).mean()


EVERY = jnp.ones(10, bool)
LOSSES = {
    "kd_T2": kept,
    "icarl_total": lambda kd, logits: classification(kd, logits, EVERY) + kept(kd, logits),
    "lwf_total": lambda kd, logits: classification(kd, logits, ~OLD, "targets_new") + 3 * kept(kd, logits),
    "wa_total": lambda kd, logits: 0.4 * classification(kd, logits, EVERY) + 0.6 * kept(kd, logits),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_gradients_are_those_of_public_code(name, kd):
    value, gradient = jax.value_and_grad(lambda logits: LOSSES[name](kd, logits))(jnp.asarray(kd["logits"]))
    np.testing.assert_allclose(value, kd[name], **EXACT)
    np.testing.assert_allclose(gradient, kd[f"{name}_grad"], **EXACT)


def test_balanced_distillation_is_fosters(kd):
    weights = jnp.asarray(kd["foster_class_weights_beta097"])

    def loss(logits):
        teacher = jnp.asarray(kd["foster_teacher_logits"])
        return distillation(logits, teacher, EVERY, 2.0, weights=weights).mean()

    value, gradient = jax.value_and_grad(loss)(jnp.asarray(kd["logits"]))
    np.testing.assert_allclose(value, kd["foster_bkd"], **EXACT)
    np.testing.assert_allclose(gradient, kd["foster_bkd_grad"], **EXACT)


def test_the_squared_form_has_a_gradient_that_a_high_temperature_does_not_shrink(kd):
    logits, teacher = jnp.asarray(kd["logits"]), padded(kd["old_logits"])

    def size(temperature):
        loss = jax.grad(lambda z: distillation(z, teacher, OLD, temperature, squared=True).sum())
        return np.abs(loss(logits)).max()

    # for T to infinity it is that of squared differences of centred logits, over the number of columns
    centred = [z[:, :6] - z[:, :6].mean(1, keepdims=True) for z in (logits, teacher)]
    np.testing.assert_allclose(size(1e4), np.abs((centred[0] - centred[1]) / 6).max(), rtol=1e-3)


def test_a_network_that_says_what_its_teacher_says_has_no_gradient(kd):
    teacher = padded(kd["old_logits"])
    gradient = jax.grad(lambda z: distillation(z, teacher, OLD, 2.0).sum())(teacher)
    np.testing.assert_allclose(gradient, 0, atol=1e-15)


def test_less_forget_is_lucirs(golden):
    arrays = golden("incremental/lucir_losses.npz")
    old = jnp.asarray(arrays["old_features"])
    value, gradient = jax.value_and_grad(lambda f: cosine_distillation(f, old).mean())(
        jnp.asarray(arrays["features"])
    )
    np.testing.assert_allclose(value, arrays["less_forget"], **EXACT)
    np.testing.assert_allclose(gradient, arrays["less_forget_grad"], **EXACT)


def test_pod_flat_is_podnets(golden):
    arrays = golden("incremental/podnet_losses.npz")
    value = cosine_distillation(
        jnp.asarray(arrays["new_features"]), jnp.asarray(arrays["old_features"])
    ).mean()
    np.testing.assert_allclose(value, arrays["pod_flat"], **EXACT)
