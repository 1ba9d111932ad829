"""What the residual networks of this package share: the basic block (He et al., 2016, section 3) and its layers."""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax

from jaxcil.extractors.batch_norm import BatchNorm, relu_of_sum

Shortcut = Literal["A", "B"]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and their shortcut, which is the identity where no shape changes.

    Attributes:
      channels: of the output.
      stride: of the first convolution.
      convolution: what computes the convolutions.
      shortcut: where a shape changes, "A": every second pixel with zero channels appended; "B": a strided 1x1
        convolution, normalised.
      last_relu: whether the sum is rectified.
      zero_scale: whether the second normalisation's scale starts at 0, so that the block starts as its shortcut.
      dtype: of the computation; None: that of the parameters.
    """

    channels: int
    stride: int = 1
    convolution: Callable[..., Array] = lax.conv_general_dilated
    shortcut: Shortcut = "A"
    last_relu: bool = True
    zero_scale: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps [B, H, W, I] to [B, H / stride, W / stride, channels]."""
        conv, scale = self._conv, nn.initializers.zeros if self.zero_scale else nn.initializers.ones
        y = conv(3, self.stride, "conv_a")(x)
        y = nn.relu(BatchNorm(train, name="bn_a")(y))
        y = conv(3, 1, "conv_b")(y)
        y = BatchNorm(train, scale, name="bn_b")(y)
        if self.stride > 1 or x.shape[-1] != self.channels:
            if self.shortcut == "A":
                x = x[:, :: self.stride, :: self.stride]
                x = jnp.pad(x, ((0, 0),) * 3 + ((0, self.channels - x.shape[-1]),))
            else:
                x = conv(1, self.stride, "shortcut_conv")(x)
                x = BatchNorm(train, name="shortcut_bn")(x)
        return relu_of_sum(x, y) if self.last_relu else x + y

    def _conv(self, size: int, stride: int, name: str) -> nn.Conv:
        return conv(self.channels, size, stride, self.convolution, self.dtype, name)


def conv(
    channels: int, size: int, stride: int, convolution: Callable[..., Array], dtype: Any, name: str
) -> nn.Conv:
    """A convolution without bias that keeps the resolution or divides it by the stride, as torch pads it."""
    return nn.Conv(
        channels,
        (size, size),
        (stride, stride),
        padding=size // 2,  # on both sides; "SAME" would pad a strided convolution below and right only
        use_bias=False,
        dtype=dtype,
        kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
        conv_general_dilated=convolution,
        name=name,
    )


def pooled(maps: Array) -> Array:
    """The mean [B, D] over maps [B, H, W, D], float32 at least."""
    return maps.astype(jnp.promote_types(maps.dtype, jnp.float32)).mean(axis=(1, 2))
