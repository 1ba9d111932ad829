import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.solvers import GaussianMixture, Node, classifier_free, from_epsilon, from_v

NODE = Node(jnp.asarray(0.0), jnp.asarray(0.6), jnp.asarray(0.8))


@pytest.fixture
def mixture():
    return GaussianMixture(
        jnp.asarray([0.4, 0.6]), jnp.asarray([[1.0, -1.0], [0.5, 2.0]]), jnp.asarray([0.3, 0.5])
    )


def test_all_predictions_name_the_same_x0(mixture, strict_dtypes):
    x = jax.random.normal(jax.random.key(0), (4, 2))

    def epsilon(x, node):
        return (x - node.alpha * mixture.denoiser(x, node)) / node.sigma

    def v(x, node):
        return node.alpha * epsilon(x, node) - node.sigma * mixture.denoiser(x, node)

    expected = mixture.denoiser(x, NODE)
    for denoiser in (from_epsilon(epsilon), from_v(v)):
        np.testing.assert_allclose(denoiser(x, NODE), expected, rtol=1e-5, atol=1e-6)


def constant(value):
    return lambda x, node: jnp.full_like(x, value)


@pytest.mark.parametrize(
    ("window", "expected"), [(None, 7.0), ((1.0, 2.0), 7.0), ((2.0, 9.0), 3.0), ((0.0, 1.0), 3.0)]
)
def test_guidance_extrapolates_inside_its_window_only(window, expected, strict_dtypes):
    # cond 3, uncond 1, scale 3: 1 + 3 (3 - 1) = 7; the node has lam = 4/3
    denoiser = classifier_free(constant(3.0), constant(1.0), 3.0, window)
    np.testing.assert_allclose(denoiser(jnp.zeros((2, 3)), NODE), expected)


def test_guidance_may_differ_from_sample_to_sample():
    denoiser = classifier_free(constant(3.0), constant(1.0), jnp.asarray([1.0, 2.0]))
    np.testing.assert_allclose(denoiser(jnp.zeros((2, 2, 2)), NODE)[:, 0, 0], [3.0, 5.0])
