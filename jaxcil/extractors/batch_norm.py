"""Batch normalisation (Ioffe and Szegedy, 2015) with its gradient written out, and a residual sum that is stored.

For x [B, ..., C], m and v the mean and biased variance over all axes but the last, r = (v + epsilon)^(-1/2),

    y  = (x - m) r scale + bias                                                           (1)
    dx = r scale (dy - mean(dy) - (x - m) r^2 mean(dy (x - m)))                           (2)

Equation (2) asks for two sums over dy where the derivative that jax finds asks for four, and for no x - m that is
kept from the forward pass. The variance is taken around the mean: mean(x^2) - m^2 cancels.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

EPSILON, MOMENTUM = 1e-5, 0.1  # torch's


class BatchNorm(nn.Module):
    """Normalises over all axes but the last, with torch's conventions.

    Running statistics move by a tenth towards those of the batch, whose variance enters them unbiased (with n - 1).
    flax's own takes the biased one. Parameters "scale" and "bias" and statistics "mean" and "var" are float32.

    Attributes:
      train: batch statistics normalise, and move the running ones if "batch_stats" is mutable.
      scale_init: initial value of the scale.
    """

    train: bool
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps x [B, ..., C] to the same shape and dtype."""
        channels = x.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        scale = self.param("scale", self.scale_init, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        if not self.train:
            factor = scale * lax.rsqrt(running_var.value + EPSILON)
            return _affine(x, running_mean.value, factor, bias)
        y, mean, var = batch_normalise(x, scale, bias)
        if not self.is_initializing():
            count = x.size // x.shape[-1]
            for running, new in ((running_mean, mean), (running_var, var * (count / max(1, count - 1)))):
                running.value = (1 - MOMENTUM) * running.value + MOMENTUM * lax.stop_gradient(new)
        return y


@jax.custom_vjp
def batch_normalise(x: Array, scale: Array, bias: Array) -> tuple[Array, Array, Array]:
    """Equation (1).

    Args:
      x: [B, ..., C].
      scale: [C] float32.
      bias: [C] float32.

    Returns:
      y in the shape and dtype of x, and mean and biased variance [C], which carry no gradient.
    """
    return _forward(x, scale, bias)[0]


def _forward(x: Array, scale: Array, bias: Array):
    wide, axes = x.astype(scale.dtype), tuple(range(x.ndim - 1))
    mean = wide.mean(axes)
    var = jnp.square(wide - _like(mean, x)).mean(axes)
    inverse = lax.rsqrt(var + EPSILON)
    return (_affine(x, mean, inverse * scale, bias), mean, var), (x, scale, mean, inverse)


def _backward(residuals: tuple[Array, ...], cotangents: tuple[Array, Array, Array]):
    x, scale, mean, inverse = residuals
    wide, dy, axes = x.astype(scale.dtype), cotangents[0].astype(scale.dtype), tuple(range(x.ndim - 1))
    count = x.size // x.shape[-1]
    dbias = dy.sum(axes)
    centred = wide - _like(mean, x)
    dscale = inverse * (dy * centred).sum(axes)
    dx = _like(inverse * scale, x) * (
        dy - _like(inverse * dscale / count, x) * centred - _like(dbias / count, x)
    )
    return dx.astype(x.dtype), dscale, dbias


batch_normalise.defvjp(_forward, _backward)


def _affine(x: Array, mean: Array, factor: Array, bias: Array) -> Array:
    wide = x.astype(factor.dtype)
    return ((wide - _like(mean, x)) * _like(factor, x) + _like(bias, x)).astype(x.dtype)


def _like(values: Array, x: Array) -> Array:
    return values.reshape(*[1] * (x.ndim - 1), -1)


@jax.custom_vjp
def relu_of_sum(a: Array, b: Array) -> Array:
    """max(a + b, 0) of two arrays of one shape, to the bit, as max(a, -b) + b.

    The last operation has two whole arrays as operands, and XLA's CPU compiler stores the result of such a one
    before a convolution reads it. A maximum with 0 it computes anew for every reader, and so all the residual
    blocks of a stage for each of them.
    """
    return jnp.maximum(a, -b) + b


def _relu_forward(a: Array, b: Array) -> tuple[Array, Array]:
    y = relu_of_sum(a, b)
    return y, y


def _relu_backward(y: Array, dy: Array) -> tuple[Array, Array]:
    gradient = jnp.where(y > 0, dy, 0)
    return gradient, gradient


relu_of_sum.defvjp(_relu_forward, _relu_backward)
