"""POD: golden values and gradients of public code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.losses.pod import POOLINGS, pod

pytestmark = pytest.mark.usefixtures("strict_dtypes", "x64")


@pytest.fixture
def podnet(golden):
    return golden("incremental/podnet_losses.npz")


def maps(podnet, which):
    return [jnp.asarray(podnet[f"{which}_fmap{n}"].transpose(0, 2, 3, 1)) for n in range(3)]


@pytest.mark.parametrize("pooling", ["spatial", "channels", "width", "height", "gap"])
def test_pooled_distances_and_their_gradients_are_podnets(pooling, podnet):
    old = maps(podnet, "old")
    loss = jax.value_and_grad(lambda new: pod(new, old, pooling).mean())
    value, gradients = loss(maps(podnet, "new"))
    np.testing.assert_allclose(value, podnet[f"pod_{pooling}"], rtol=1e-12)
    if pooling == "spatial":
        for n, gradient in enumerate(gradients):
            recorded = podnet[f"pod_spatial_grad{n}"].transpose(0, 2, 3, 1)
            np.testing.assert_allclose(gradient, recorded, rtol=1e-9, atol=1e-13)
    else:
        norms = [np.linalg.norm(gradient) for gradient in gradients]
        np.testing.assert_allclose(norms, podnet[f"pod_{pooling}_grad_norms"], rtol=1e-10)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_equal_maps_have_no_distance_and_a_finite_gradient(pooling, podnet):
    own = maps(podnet, "new")
    value, gradients = jax.value_and_grad(lambda new: pod(new, own, pooling).sum())(own)
    assert value == 0
    assert all(not np.asarray(gradient).any() for gradient in gradients)
