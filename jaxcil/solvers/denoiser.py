"""From what a network predicts to the x0 prediction that a plan asks for, and guidance.

With x = alpha x0 + sigma epsilon and v = alpha epsilon - sigma x0,

    x0 = (x - sigma epsilon) / alpha                                                    (1)
    x0 = alpha x - sigma v,    where alpha^2 + sigma^2 = 1.                             (2)

A denoiser is a function (x [B, ...], node) -> x0 prediction [B, ...]; node holds three scalars.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxcil.solvers.plan import Node

Denoiser = Callable[[Array, Node], Array]


def from_epsilon(fn: Denoiser) -> Denoiser:
    """A denoiser from fn(x, node) -> epsilon, by (1). Not for a node with alpha = 0."""

    def denoiser(x: Array, node: Node) -> Array:
        epsilon = fn(x, node).astype(x.dtype)
        return (x - node.sigma.astype(x.dtype) * epsilon) / node.alpha.astype(x.dtype)

    return denoiser


def from_v(fn: Denoiser) -> Denoiser:
    """A denoiser from fn(x, node) -> v, by (2). Only for grids with alpha^2 + sigma^2 = 1."""

    def denoiser(x: Array, node: Node) -> Array:
        v = fn(x, node).astype(x.dtype)
        return node.alpha.astype(x.dtype) * x - node.sigma.astype(x.dtype) * v

    return denoiser


def classifier_free(
    cond: Denoiser, uncond: Denoiser, scale: ArrayLike, window: tuple[ArrayLike, ArrayLike] | None = None
) -> Denoiser:
    """Classifier-free guidance, uncond + scale (cond - uncond); two calls a row.

    Linear in the prediction, so it is the same for x0, epsilon and v.

    Args:
      cond: denoiser with the condition.
      uncond: denoiser without, or with a negative one.
      scale: a scalar or [B]; 1 is no guidance.
      window: guide only where low <= lam <= high, with (low, high) in lam = sigma / alpha; `cond` alone
        outside (Kynkäänniemi et al., arXiv:2404.07724).
    """

    def denoiser(x: Array, node: Node) -> Array:
        with_condition = cond(x, node)
        factor = jnp.asarray(scale, x.dtype)
        if window is not None:
            # sigma against lam alpha: no division, so alpha = 0 is fine
            low, high = (jnp.asarray(end, x.dtype) * node.alpha.astype(x.dtype) for end in window)
            sigma = node.sigma.astype(x.dtype)
            factor = jnp.where((low <= sigma) & (sigma <= high), factor, 1.0)
        without = uncond(x, node)
        factor = factor.reshape(factor.shape + (1,) * (x.ndim - factor.ndim)) if factor.ndim else factor
        return without + factor * (with_condition - without)

    return denoiser
