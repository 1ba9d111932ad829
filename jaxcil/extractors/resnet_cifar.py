"""The residual network of small images (He et al., 2016, section 4.2): image -> feature.

A 3x3 convolution, then three stages of `blocks` residual blocks each, the second and third halving the
resolution, then the mean over the map. 5 blocks a stage make ResNet-32, 1 makes ResNet-8. Shortcuts are of
type A, without parameters: where a block strides, every second pixel with zero channels appended.
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and their shortcut."""

    channels: int
    stride: int = 1
    convolution: Callable[..., Array] = lax.conv_general_dilated

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps [B, H, W, I] to [B, H / stride, W / stride, channels]."""
        y = _conv(self.channels, self.stride, self.convolution, "conv_a")(x)
        y = nn.relu(_norm(train, "bn_a")(y))
        y = _conv(self.channels, 1, self.convolution, "conv_b")(y)
        y = _norm(train, "bn_b")(y)
        shortcut = x[:, :: self.stride, :: self.stride]
        shortcut = jnp.pad(shortcut, ((0, 0),) * 3 + ((0, self.channels - x.shape[-1]),))
        return nn.relu(shortcut + y)


class ResNetCIFAR(nn.Module):
    """Features [B, 4 * width], not negative, of images [B, H, W, 3] in [-1, 1].

    Attributes:
      blocks: residual blocks a stage; 6 * blocks + 2 layers in all.
      width: channels of the first stage; the others have twice and four times as many.
      convolution: what computes the convolutions; training passes `jaxcil.convolution.conv_general_dilated`.
    """

    blocks: int = 5
    width: int = 16
    convolution: Callable[..., Array] = lax.conv_general_dilated

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array:
        """With train=True batch statistics normalise, and the collection "batch_stats" must be mutable."""
        x = _conv(self.width, 1, self.convolution, "conv_1_3x3")(images)
        x = nn.relu(_norm(train, "bn_1")(x))
        for stage in range(3):
            for block in range(self.blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                name = f"stage_{stage + 1}_{block}"
                x = ResidualBlock(self.width * 2**stage, stride, self.convolution, name=name)(x, train)
        return x.mean(axis=(1, 2))


def _conv(channels: int, stride: int, convolution: Callable[..., Array], name: str) -> nn.Conv:
    return nn.Conv(
        channels,
        (3, 3),
        (stride, stride),
        padding=(
            (1, 1),
            (1, 1),
        ),  # on both sides; "SAME" would pad a strided convolution below and right only
        use_bias=False,
        kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
        conv_general_dilated=convolution,
        name=name,
    )


def _norm(train: bool, name: str) -> nn.BatchNorm:
    # flax's fast variance E[x^2] - E[x]^2 cancels; epsilon and momentum are torch's defaults
    return nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, use_fast_variance=False, name=name)
