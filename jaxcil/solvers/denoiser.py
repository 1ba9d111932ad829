"""From what a network predicts to the x0 prediction that a plan asks for; guidance and thresholding.

With x = alpha x0 + sigma epsilon, v = alpha epsilon - sigma x0, the score s = -epsilon / sigma and the velocity
u = epsilon - x0,

    x0 = (x - sigma epsilon) / alpha = (x + sigma^2 s) / alpha                          (1)
    x0 = alpha x - sigma v,    where alpha^2 + sigma^2 = 1                              (2)
    x0 = x - sigma u,          where alpha = 1 - sigma.                                 (3)

A denoiser is a function (x [B, ...], node) -> x0 prediction [B, ...]; node holds three scalars. A network that
predicts x0 is a denoiser as it is. All else here turns functions into denoisers whose results have the dtype of
x, so that a network may compute in bfloat16 under a float32 state.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxcil.solvers.grid import Grid, is_concrete
from jaxcil.solvers.plan import Node

Denoiser = Callable[[Array, Node], Array]


def from_epsilon(fn: Denoiser) -> Denoiser:
    """A denoiser from fn(x, node) -> epsilon, by (1). Not for a node with alpha = 0."""

    def denoiser(x: Array, node: Node) -> Array:
        epsilon = fn(x, node).astype(x.dtype)
        return (x - jnp.asarray(node.sigma, x.dtype) * epsilon) / jnp.asarray(node.alpha, x.dtype)

    return denoiser


def from_score(fn: Denoiser) -> Denoiser:
    """A denoiser from fn(x, node) -> gradient of log p(x) [B, ...], by (1). Not for a node with alpha = 0."""

    def denoiser(x: Array, node: Node) -> Array:
        score = fn(x, node).astype(x.dtype)
        sigma = jnp.asarray(node.sigma, x.dtype)
        return (x + sigma * (sigma * score)) / jnp.asarray(node.alpha, x.dtype)

    return denoiser


def from_v(fn: Denoiser) -> Denoiser:
    """A denoiser from fn(x, node) -> v, by (2). Only for grids with alpha^2 + sigma^2 = 1."""

    def denoiser(x: Array, node: Node) -> Array:
        v = fn(x, node).astype(x.dtype)
        return jnp.asarray(node.alpha, x.dtype) * x - jnp.asarray(node.sigma, x.dtype) * v

    return denoiser


def from_flow(fn: Denoiser) -> Denoiser:
    """A denoiser from fn(x, node) -> velocity u, by (3). Only for grids with alpha = 1 - sigma, 0 included."""

    def denoiser(x: Array, node: Node) -> Array:
        return x - jnp.asarray(node.sigma, x.dtype) * fn(x, node).astype(x.dtype)

    return denoiser


def classifier_free(
    cond: Denoiser,
    uncond: Denoiser,
    scale: ArrayLike,
    window: tuple[ArrayLike, ArrayLike] | None = None,
    rescale: ArrayLike = 0.0,
) -> Denoiser:
    """Classifier-free guidance of x0 predictions, as `guided`; two calls per row.

    Without rescaling it is linear in the prediction, and so the same for x0, epsilon, v and u. Rescaling is not:
    Lin et al. apply it to what their network predicts, v, and here it acts on x0.

    Args:
      cond: denoiser with the condition.
      uncond: denoiser without, or with a negative one.
      scale: a scalar or [B]; 0 is `uncond`, 1 is `cond`.
      window: guide only where low <= lam <= high, with (low, high) in lam = sigma / alpha, the sigma of EDM;
        `cond` alone outside (Kynkäänniemi et al., arXiv:2404.07724).
      rescale: a scalar or [B] in [0, 1].

    Raises:
      ValueError: a window with low > high.
    """
    if window is not None and is_concrete(window) and not np.all(np.less_equal(*window)):
        raise ValueError(f"the window of guidance must be (low, high) with low <= high, got {window}.")

    def denoiser(x: Array, node: Node) -> Array:
        positive, negative = cond(x, node).astype(x.dtype), uncond(x, node).astype(x.dtype)
        prediction = guided(negative, positive, scale, rescale)
        if window is None:
            return prediction
        lam = Grid(*node).lam
        low, high = (jnp.asarray(end, lam.dtype) for end in window)
        return jnp.where((low <= lam) & (lam <= high), prediction, positive)

    return denoiser


def guided(negative: Array, positive: Array, scale: ArrayLike, rescale: ArrayLike) -> Array:
    """Classifier-free guidance of predictions [B, ...] of any one kind.

        e  = negative + scale (positive - negative)                                     (4)
        e' = rescale e std(positive) / std(e) + (1 - rescale) e                         (5)

    with deviations over the entries of a sample; where one of them is 0, e' = e. (5) takes back the overexposure
    that large scales bring.

    Args:
      negative: prediction without the condition, or with a negative one.
      positive: prediction with it, of the same dtype.
      scale: a scalar or [B].
      rescale: a scalar or [B] in [0, 1]; Lin et al. take 0.7.

    References:
      Ho and Salimans, arXiv:2207.12598, equation 6 (whose w is scale - 1); Lin, Liu, Li and Yang,
      arXiv:2305.08891, equations 15 and 16.
    """
    prediction = negative + _per_sample(scale, positive) * (positive - negative)
    entries = tuple(range(1, positive.ndim))
    ddof = 1 if math.prod(positive.shape[1:]) > 1 else 0  # Lin et al.'s; a single number would give 0 / 0
    target, actual = (jnp.var(e, axis=entries, keepdims=True, ddof=ddof) for e in (positive, prediction))
    varied = (target > 0) & (actual > 0)  # double where: neither the root nor the quotient has a slope at 0
    ratio = jnp.sqrt(jnp.where(varied, target, 1.0)) / jnp.sqrt(jnp.where(varied, actual, 1.0))
    rescale = _per_sample(rescale, positive)
    return rescale * prediction * ratio + (1 - rescale) * prediction


def classifier_guided(
    denoiser: Denoiser, log_prob: Callable[[Array, Node], Array], scale: ArrayLike
) -> Denoiser:
    """Guidance by the gradient of a classifier of noisy samples.

    epsilon becomes epsilon - scale sigma g with g = grad log p(y | x), and so

        x0 becomes x0 + scale sigma^2 / alpha g.

    At scale 1, and with the exact p(y | x) of the noisy x, the result is the exact denoiser of the data given y. Not
    for a node with alpha = 0.

    Args:
      denoiser: the unguided one.
      log_prob: (x [B, ...], node) -> [B], differentiable; entry b depends on sample b alone.
      scale: a scalar or [B].

    References:
      Dhariwal and Nichol, arXiv:2105.05233, algorithm 2.
    """

    def guided_denoiser(x: Array, node: Node) -> Array:
        gradient = jax.grad(lambda x: jnp.sum(log_prob(x, node)))(x)
        alpha, sigma = jnp.asarray(node.alpha, x.dtype), jnp.asarray(node.sigma, x.dtype)
        return denoiser(x, node).astype(x.dtype) + _per_sample(scale, x) * (sigma**2 / alpha) * gradient

    return guided_denoiser


def clipped(denoiser: Denoiser, low: ArrayLike = -1.0, high: ArrayLike = 1.0) -> Denoiser:
    """x0 predictions clipped to [low, high], the range of the data.

    Raises:
      ValueError: not low < high.
    """
    if is_concrete(low, high) and not np.all(np.asarray(low) < np.asarray(high)):
        raise ValueError(f"expected low < high, got {low} and {high}.")

    def clipped_denoiser(x: Array, node: Node) -> Array:
        low_end, high_end = (jnp.asarray(end, x.dtype) for end in (low, high))
        return jnp.clip(denoiser(x, node).astype(x.dtype), low_end, high_end)

    return clipped_denoiser


def dynamic_threshold(denoiser: Denoiser, quantile: ArrayLike = 0.995, limit: ArrayLike = 1.0) -> Denoiser:
    """x0 predictions clipped to [-s, s] and scaled by limit / s, with an s for each sample.

    s is the larger of limit and the quantile of |x0| over the sample's entries: a prediction inside [-limit, limit]
    stays as it is. (diffusers bounds s from above too, by default at 1, which makes it plain clipping.)

    Args:
      denoiser: of data in [-limit, limit].
      quantile: in [0, 1].
      limit: > 0.

    Raises:
      ValueError: quantile or limit out of range.

    References:
      Saharia et al., arXiv:2205.11487, section 2.3.
    """
    if jnp.ndim(quantile) or jnp.ndim(limit):
        raise ValueError(f"quantile and limit must be one number each, got {quantile} and {limit}.")
    if is_concrete(quantile, limit) and not (0 <= np.asarray(quantile) <= 1 and np.asarray(limit) > 0):
        raise ValueError(f"quantile must lie in [0, 1] and limit be above 0, got {quantile} and {limit}.")

    def bounded_denoiser(x: Array, node: Node) -> Array:
        prediction = denoiser(x, node).astype(x.dtype)
        # the place of a quantile among many entries is a number that half precision does not hold
        exact = jnp.float32 if jnp.finfo(x.dtype).bits < 32 else x.dtype
        size = jnp.abs(prediction).astype(exact).reshape(x.shape[0], -1)
        s = jnp.quantile(size, jnp.asarray(quantile, exact), axis=1).astype(x.dtype)
        top = jnp.asarray(limit, x.dtype)
        s = _per_sample(jnp.maximum(s, top), x)
        return jnp.clip(prediction, -s, s) * (top / s)

    return bounded_denoiser


def _per_sample(value: ArrayLike, x: Array) -> Array:
    """A scalar, or [B] as [B, 1, ...], in the dtype of x [B, ...]."""
    value = jnp.asarray(value, x.dtype)
    if value.shape not in ((), x.shape[:1]):
        raise ValueError(
            f"expected a scalar or one number per sample, {x.shape[0]} in all, got shape {value.shape}."
        )
    return value.reshape(value.shape + (1,) * (x.ndim - 1)) if value.ndim else value
