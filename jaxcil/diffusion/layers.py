"""Blocks that the UNet and the autoencoder share, in diffusers' parameter tree.

All maps are [B, H, W, C]. Where flax's defaults differ from the trained networks, these blocks follow the
networks: epsilons are given, variances are those of centred values (flax's default is
E[x^2] - E[x]^2), and statistics are float32 whatever the compute dtype.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh


class Settings(NamedTuple):
    """The settings that all blocks of one network share."""

    groups: int  # of every group normalisation
    epsilon: float  # of the normalisations in residual blocks and of the last one
    dtype: Any  # of the computation; the dtype of the parameters is their own
    convolution: Callable  # the signature of jax.lax.conv_general_dilated
    implementation: str  # of attention, as is the mesh: see attention.attend
    mesh: Mesh | None


def convolve(
    settings: Settings, features: int, size: int, name: str | None, strides: int = 1, padding: Any = None
):
    """A square convolution; without explicit padding it keeps the size of the map at stride 1."""
    return nn.Conv(
        features,
        (size, size),
        strides=(strides, strides),
        padding=size // 2 if padding is None else padding,
        dtype=settings.dtype,
        conv_general_dilated=functools.partial(_convolve_small, settings.convolution),
        name=name,
    )


def group_norm(settings: Settings, name: str, epsilon: float | None = None):
    """Group normalisation over contiguous ranges of channels."""
    return nn.GroupNorm(
        num_groups=settings.groups,
        epsilon=settings.epsilon if epsilon is None else epsilon,
        dtype=settings.dtype,
        use_fast_variance=False,
        name=name,
    )


def layer_norm(dtype: Any, name: str, epsilon: float = 1e-5):
    """Layer normalisation over the last axis."""
    return nn.LayerNorm(epsilon=epsilon, dtype=dtype, use_fast_variance=False, name=name)


class ResnetBlock(nn.Module):
    """Norm, silu, convolution, twice, added to the input; the embedded time enters between the two."""

    features: int
    settings: Settings
    divisor: float = 1.0  # of the sum

    @nn.compact
    def __call__(self, x: Array, time: Array | None = None) -> Array:
        """Maps x [B, H, W, C] and, in the UNet, the embedded time [B, E] to [B, H, W, features]."""
        hidden = nn.silu(group_norm(self.settings, "norm1")(x))
        hidden = convolve(self.settings, self.features, 3, "conv1")(hidden)
        if time is not None:
            projection = nn.Dense(self.features, dtype=self.settings.dtype, name="time_emb_proj")
            hidden = hidden + projection(nn.silu(time))[:, None, None, :]
        hidden = nn.silu(group_norm(self.settings, "norm2")(hidden))
        hidden = convolve(self.settings, self.features, 3, "conv2")(hidden)
        if x.shape[-1] != self.features:
            x = convolve(self.settings, self.features, 1, "conv_shortcut")(x)
        return (x + hidden) / self.divisor


class Downsample(nn.Module):
    """A convolution of stride 2. The UNet pads both sides by one, the autoencoder only right and bottom."""

    padding: tuple[int, int]
    settings: Settings

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, H, W, C] to half the size, rounded up (UNet) or down (autoencoder)."""
        return convolve(self.settings, x.shape[-1], 3, "conv", 2, (self.padding, self.padding))(x)


class Upsample(nn.Module):
    """Nearest-neighbour enlargement and a convolution."""

    settings: Settings

    @nn.compact
    def __call__(self, x: Array, size: tuple[int, ...] | None = None) -> Array:
        """Maps [B, H, W, C] to twice the size, or to the given one."""
        height, width = size or (2 * x.shape[1], 2 * x.shape[2])
        x = enlarge(enlarge(x, 1, height), 2, width)
        return convolve(self.settings, x.shape[-1], 3, "conv")(x)


def enlarge(x: Array, axis: int, size: int) -> Array:
    """Nearest neighbours along an axis: row i is row floor(i * old / size) of x.

    `jax.image.resize` takes the pixel whose centre is nearest, which differs if the size is not a multiple of the
    old one.
    """
    old = x.shape[axis]
    if size == 2 * old:
        return jnp.repeat(x, 2, axis=axis)
    return jnp.take(x, np.arange(size) * old // size, axis=axis)


def sinusoids(time: Array, features: int, flip_sin_to_cos: bool, freq_shift: float) -> Array:
    """Sines and cosines of the time at frequencies from 1 to about 1/10000.

        f_i = exp(-ln(10000) i / (features/2 - freq_shift)),  i = 0 .. features/2 - 1

    In float32 whatever the compute dtype: times reach 999, where bfloat16 has only every fourth number.

    Args:
      time: [B] float32.
      features: even.
      flip_sin_to_cos: cosines first.
      freq_shift: 0 in Stable Diffusion.

    Returns:
      [B, features] float32.
    """
    half = features // 2
    frequencies = jnp.exp(-np.log(10000.0) * jnp.arange(half, dtype=jnp.float32) / (half - freq_shift))
    angles = time[:, None] * frequencies[None]
    sin, cos = jnp.sin(angles), jnp.cos(angles)
    return jnp.concatenate([cos, sin] if flip_sin_to_cos else [sin, cos], axis=-1)


def _convolve_small(
    convolution: Callable, x: Array, kernel: Array, strides: Any, padding: Any, **how: Any
) -> Array:
    """The convolution, with a map of fewer pixels than the kernel padded beforehand.

    For these XLA swaps map and kernel, which is 4 to 16 times slower on a CPU. The barrier prevents it from merging
    padding and convolution again.
    """
    if math.prod(x.shape[1:3]) < math.prod(kernel.shape[:2]):
        x = jax.lax.optimization_barrier(jnp.pad(x, ((0, 0), *padding, (0, 0))))
        padding = ((0, 0),) * len(padding)
    return convolution(x, kernel, strides, padding, **how)
