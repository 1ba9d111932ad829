import jax
import jax.numpy as jnp
import numpy as np

from jaxcil.solvers import GaussianMixture, Node


def test_denoiser_is_the_mean_of_the_posterior():
    # Importance sampling of E[x0 | x]: 4e5 draws, effective number above 1e4, standard error below 5e-3.
    mixture = GaussianMixture(jnp.asarray([0.4, 0.6]), jnp.asarray([[1.0], [-0.5]]), jnp.asarray([0.3, 0.5]))
    node = Node(jnp.asarray(0.0), jnp.asarray(0.8), jnp.asarray(0.6))
    draws = mixture.draw(jax.random.key(0), 400_000)[:, 0]
    x = jnp.asarray([[-1.0], [0.2], [1.1]])
    weights = jax.nn.softmax(-((x - 0.8 * draws[None]) ** 2) / (2 * 0.6**2), axis=1)
    posterior = jnp.sum(weights * draws[None], 1, keepdims=True)
    np.testing.assert_allclose(mixture.denoiser(x, node), posterior, atol=1.5e-2)


def test_draws_have_the_mixture_s_moments():
    # 2e5 draws: standard error of the mean 2e-3.
    mixture = GaussianMixture(
        jnp.asarray([0.25, 0.75]), jnp.asarray([[2.0, 0], [-1, 1]]), jnp.asarray([0.1, 0.4])
    )
    draws = mixture.draw(jax.random.key(1), 200_000)
    np.testing.assert_allclose(draws.mean(0), [-0.25, 0.75], atol=1.5e-2)
    np.testing.assert_allclose(draws.var(0), [0.1225 + 1.6875, 0.1225 + 0.1875], rtol=2e-2)


def test_a_point_mass_is_always_predicted():
    point = GaussianMixture(jnp.ones(1), jnp.asarray([[3.0, -2.0]]), jnp.zeros(1))
    node = Node(jnp.asarray(0.0), jnp.asarray(0.5), jnp.asarray(0.7))
    np.testing.assert_allclose(point.denoiser(jnp.ones((2, 2)), node), [[3, -2]] * 2)
