"""The autoencoder of Stable Diffusion: images to a Gaussian over latents, latents to images.

Parameter tree and values are those of diffusers' AutoencoderKL (linen tree, torch values). The latents here
are the autoencoder's own; the UNet sees them multiplied by `scaling_factor`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh

from jaxcil.diffusion.attention import project_and_attend
from jaxcil.diffusion.config import module_fields, require
from jaxcil.diffusion.layers import Downsample, ResnetBlock, Settings, Upsample, convolve, group_norm

# Keys of config.json that are not implemented, and the values that have no effect.
INERT = {
    "act_fn": ("silu", "swish"),
    "latents_mean": (),
    "latents_std": (),
    "mid_block_add_attention": (True,),
    "shift_factor": (0.0,),
    "use_post_quant_conv": (True,),
    "use_quant_conv": (True,),
}


class AutoencoderKL(nn.Module):
    """`encode` and `decode`. Fields are those of diffusers' config.json."""

    sample_size: int | tuple[int, ...] | None = 32  # image side in training; not used here
    in_channels: int = 3
    out_channels: int = 3
    down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",)
    up_block_types: tuple[str, ...] = ("UpDecoderBlock2D",)
    block_out_channels: tuple[int, ...] = (64,)
    layers_per_block: int = 1
    latent_channels: int = 4
    norm_num_groups: int = 32
    scaling_factor: float = 0.18215
    force_upcast: bool | None = True  # for torch in float16; not used here
    dtype: Any = jnp.float32
    convolution: Callable = jax.lax.conv_general_dilated
    implementation: str = "xla"
    mesh: Mesh | None = None

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        dtype: Any = jnp.float32,
        convolution: Callable = jax.lax.conv_general_dilated,
    ) -> "AutoencoderKL":
        """The autoencoder of a config.json; arguments as in `UNet2DCondition.from_config`."""
        fields = module_fields("autoencoder", cls, config, INERT)
        module = cls(**fields, dtype=jnp.dtype(dtype), convolution=convolution)
        _check(module)
        return module

    @property
    def factor(self) -> int:
        """Image side over latent side."""
        return 2 ** (len(self.block_out_channels) - 1)

    @nn.nowrap
    def initial(self, key: Array) -> dict[str, Any]:
        """Random parameters, float32, as a nested dict; under `jax.eval_shape` only their shapes."""
        return dict(self.init(key, jnp.zeros((1, self.factor, self.factor, self.in_channels)))["params"])

    def setup(self):
        """The two halves, and the convolutions of size 1 between them and the latents."""
        settings = Settings(
            self.norm_num_groups, 1e-6, self.dtype, self.convolution, self.implementation, self.mesh
        )
        shape = (self.block_out_channels, self.layers_per_block)
        self.encoder = Encoder(*shape, 2 * self.latent_channels, settings)
        self.decoder = Decoder(*shape, self.out_channels, settings)
        self.quant_conv = convolve(settings, 2 * self.latent_channels, 1, None)
        self.post_quant_conv = convolve(settings, self.latent_channels, 1, None)

    def __call__(self, images: Array) -> Array:
        """The reconstruction [B, H, W, 3] of images from their mean latents."""
        return self.decode(self.encode(images)[0])

    def encode(self, images: Array) -> tuple[Array, Array]:
        """The posterior of the latents.

        Args:
          images: [B, H, W, 3] in [-1, 1]; sides divisible by `factor`.

        Returns:
          Mean and log variance, the latter clipped to [-30, 20], both [B, H / factor, W / factor,
          latent_channels] float32, without the scaling factor.
        """
        moments = self.quant_conv(self.encoder(images.astype(self.dtype))).astype(jnp.float32)
        mean, log_variance = jnp.split(moments, 2, axis=-1)
        return mean, jnp.clip(log_variance, -30.0, 20.0)

    def decode(self, latents: Array) -> Array:
        """Images [B, H, W, 3] float32, about [-1, 1], of latents [B, h, w, C] without the scaling factor."""
        return self.decoder(self.post_quant_conv(latents.astype(self.dtype))).astype(jnp.float32)


class Encoder(nn.Module):
    """Images to the moments of the latents."""

    widths: tuple[int, ...]
    resnets: int
    out_channels: int
    settings: Settings

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, H, W, 3] to [B, h, w, out_channels]."""
        settings = self.settings
        x = convolve(settings, self.widths[0], 3, "conv_in")(x)
        for i, width in enumerate(self.widths):
            x = DownBlock(width, self.resnets, i == len(self.widths) - 1, settings, name=f"down_blocks_{i}")(
                x
            )
        x = MidBlock(self.widths[-1], settings, name="mid_block")(x)
        x = nn.silu(group_norm(settings, "conv_norm_out")(x))
        return convolve(settings, self.out_channels, 3, "conv_out")(x)


class Decoder(nn.Module):
    """Latents to images: the encoder reversed, with one more residual block per level."""

    widths: tuple[int, ...]
    resnets: int
    out_channels: int
    settings: Settings

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, h, w, latent_channels] to [B, H, W, out_channels]."""
        settings = self.settings
        x = convolve(settings, self.widths[-1], 3, "conv_in")(x)
        x = MidBlock(self.widths[-1], settings, name="mid_block")(x)
        for i, width in enumerate(reversed(self.widths)):
            last = i == len(self.widths) - 1
            x = UpBlock(width, self.resnets + 1, last, settings, name=f"up_blocks_{i}")(x)
        x = nn.silu(group_norm(settings, "conv_norm_out")(x))
        return convolve(settings, self.out_channels, 3, "conv_out")(x)


class DownBlock(nn.Module):
    """One level of the encoder."""

    features: int
    resnets: int
    last: bool
    settings: Settings

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, H, W, C] to [B, H / 2, W / 2, features]; the last level keeps the size."""
        for i in range(self.resnets):
            x = ResnetBlock(self.features, self.settings, name=f"resnets_{i}")(x)
        return x if self.last else Downsample((0, 1), self.settings, name="downsamplers_0")(x)


class UpBlock(nn.Module):
    """One level of the decoder."""

    features: int
    resnets: int
    last: bool
    settings: Settings

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, H, W, C] to [B, 2 H, 2 W, features]; the last level keeps the size."""
        for i in range(self.resnets):
            x = ResnetBlock(self.features, self.settings, name=f"resnets_{i}")(x)
        return x if self.last else Upsample(self.settings, name="upsamplers_0")(x)


class MidBlock(nn.Module):
    """Residual block, attention over pixels, residual block."""

    features: int
    settings: Settings

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, H, W, C] to the same shape."""
        x = ResnetBlock(self.features, self.settings, name="resnets_0")(x)
        x = PixelAttention(self.settings, name="attentions_0")(x)
        return ResnetBlock(self.features, self.settings, name="resnets_1")(x)


class PixelAttention(nn.Module):
    """Attention between all pixels with one head, added to its input."""

    settings: Settings

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, H, W, C] to the same shape."""
        hidden = group_norm(self.settings, "group_norm")(x).reshape(x.shape[0], -1, x.shape[-1])
        names = ("query", "key", "value", "proj_attn")
        hidden = project_and_attend(hidden, hidden, heads=1, names=names, settings=self.settings)
        return x + hidden.reshape(x.shape)


def _check(module: AutoencoderKL) -> None:
    """Checks settings that must fit one another, before flax sees them."""
    levels = len(module.block_out_channels)
    for name, kind in (("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")):
        kinds = getattr(module, name)
        require(
            len(kinds) == levels and set(kinds) == {kind},
            f"{name} must be {levels} times {kind}, got {', '.join(map(str, kinds))}.",
        )
    require(
        all(width % module.norm_num_groups == 0 for width in module.block_out_channels),
        f"norm_num_groups must divide block_out_channels: {module.norm_num_groups} and "
        f"{module.block_out_channels}.",
    )
