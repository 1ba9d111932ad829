"""Gaussian mixtures with their exact denoisers: data on which every sampler can be judged.

For x0 from a mixture with weights w_m, means mu_m [D] and isotropic standard deviations s_m, and
x = alpha x0 + sigma epsilon,

    v_m = alpha^2 s_m^2 + sigma^2,    r_m proportional to w_m v_m^(-D/2) exp(-|x - alpha mu_m|^2 / (2 v_m)),
    E[x0 | x] = sum_m r_m (mu_m + alpha s_m^2 / v_m (x - alpha mu_m)).                  (1)
"""

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

from jaxcil.solvers.plan import Node


@flax.struct.dataclass
class GaussianMixture:
    """M Gaussians in D dimensions; a sample may have any shape of D entries."""

    weights: Array  # [M] positive, of sum 1
    means: Array  # [M, D]
    stds: Array  # [M], 0 allowed: a point mass

    def denoiser(self, x: Array, node: Node) -> Array:
        """The posterior mean (1) of x [B, ...] at a node with sigma > 0."""
        flat = x.reshape(x.shape[0], 1, -1)
        alpha, sigma = jnp.asarray(node.alpha, x.dtype), jnp.asarray(node.sigma, x.dtype)
        means, stds = self.means[None], self.stds[None]
        away = flat - alpha * means  # [B, M, D]
        variance = alpha**2 * stds**2 + sigma**2  # [1, M]
        log_weight = jnp.log(self.weights)[None] - flat.shape[-1] / 2 * jnp.log(variance)
        log_weight = log_weight - jnp.sum(away**2, -1) / (2 * variance)
        means = means + (alpha * stds**2 / variance)[..., None] * away
        return jnp.sum(jax.nn.softmax(log_weight, -1)[..., None] * means, 1).reshape(x.shape)

    def draw(self, key: Array, count: int) -> Array:
        """Samples [count, D]."""
        pick, spread = jax.random.split(key)
        chosen = jax.random.categorical(pick, jnp.log(self.weights), shape=(count,))
        z = jax.random.normal(spread, (count, self.means.shape[1]), self.means.dtype)
        return self.means[chosen] + self.stds[chosen, None] * z
