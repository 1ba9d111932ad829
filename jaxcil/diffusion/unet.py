"""The UNet of Stable Diffusion 1.x and 2.x (Rombach et al., arXiv:2112.10752).

The parameter tree is that of diffusers' linen class, so that its files load unchanged; the values follow
diffusers' torch class, which differs in two epsilons and a gelu (and is what the weights were trained with).
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh

from jaxcil.diffusion.config import module_fields, per_level, require
from jaxcil.diffusion.layers import (
    Downsample,
    ResnetBlock,
    Settings,
    Upsample,
    convolve,
    group_norm,
    sinusoids,
)
from jaxcil.diffusion.transformer import SpatialTransformer
from jaxcil.errors import InputError

# Keys of config.json that are not implemented, and the values that have no effect.
INERT = {
    "act_fn": ("silu", "swish"),
    "addition_embed_type": (),
    "attention_type": ("default",),
    "class_embed_type": (),
    "class_embeddings_concat": (False,),
    "cross_attention_norm": (),
    "downsample_padding": (1,),
    "dropout": (0.0,),
    "dual_cross_attention": (False,),
    "encoder_hid_dim": (),
    "encoder_hid_dim_type": (),
    "mid_block_only_cross_attention": (False, True),  # of another kind of middle block
    "num_attention_heads": (),
    "resnet_out_scale_factor": (1.0,),
    "resnet_skip_time_act": (False,),
    "resnet_time_scale_shift": ("default",),
    "reverse_transformer_layers_per_block": (),
    "time_cond_proj_dim": (),
    "time_embedding_act_fn": (),
    "time_embedding_dim": (),
    "time_embedding_type": ("positional",),
    "timestep_post_act": (),
}


class UNet2DCondition(nn.Module):
    """Noise (or v) from noisy latents, a time and a text. Fields are those of diffusers' config.json."""

    sample_size: int | tuple[int, int] | None = None  # latent side of the training images; not used here
    in_channels: int = 4
    out_channels: int = 4
    down_block_types: tuple[str, ...] = (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D")
    mid_block_type: str | None = "UNetMidBlock2DCrossAttn"
    up_block_types: tuple[str, ...] = ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3)
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int | tuple[int, ...] = 2
    transformer_layers_per_block: int | tuple[int, ...] = 1
    attention_head_dim: int | tuple[int, ...] = 8  # despite its name the NUMBER of heads
    cross_attention_dim: int | tuple[int, ...] = 1280
    use_linear_projection: bool = False
    upcast_attention: bool | None = False  # for torch in float16; the softmax is float32 here anyway
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    flip_sin_to_cos: bool = True
    freq_shift: float = 0
    center_input_sample: bool = False  # 2 x - 1 in place of x
    conv_in_kernel: int = 3
    conv_out_kernel: int = 3
    mid_block_scale_factor: float = 1  # divides the sums of the middle residual blocks
    num_class_embeds: int | None = (
        None  # number of class labels, whose embedding is added to that of the time
    )
    only_cross_attention: bool | tuple[bool, ...] = False  # a level's first attention is to the text too
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
    ) -> "UNet2DCondition":
        """The network of a config.json, with XLA's attention; `placement.place` chooses another.

        Args:
          config: the mapping; missing keys have diffusers' defaults.
          dtype: of the computation.
          convolution: handed to every convolution; for training `jaxcil.convolution.conv_general_dilated`.

        Raises:
          InputError: names every setting that is not supported or does not fit the others.
        """
        fields = module_fields("UNet", cls, config, INERT)
        module = cls(**fields, dtype=jnp.dtype(dtype), convolution=convolution)
        _check(module)
        return module

    @nn.nowrap
    def initial(self, key: Array) -> dict[str, Any]:
        """Random parameters, float32, as a nested dict; under `jax.eval_shape` only their shapes."""
        side = 2 ** (len(self.block_out_channels) - 1)
        latents = jnp.zeros((1, side, side, self.in_channels))
        width = per_level("cross_attention_dim", self.cross_attention_dim, len(self.block_out_channels))[0]
        labels = None if self.num_class_embeds is None else jnp.zeros(1, jnp.int32)
        return dict(self.init(key, latents, jnp.zeros(()), jnp.zeros((1, 1, width)), labels)["params"])

    @nn.compact
    def __call__(
        self, latents: Array, time: Array | float, text: Array, class_labels: Array | None = None
    ) -> Array:
        """The raw output of the network.

        Args:
          latents: [B, h, w, in_channels] of unit variance; any size from 1 x 1 up.
          time: scalar or [B], 0 to 999 (fractions are allowed).
          text: [B, L, cross_attention_dim].
          class_labels: [B] int32 in [0, num_class_embeds), for a network that has these, and only for one.

        Returns:
          [B, h, w, out_channels] in the compute dtype.

        Raises:
          InputError: class labels are missing, or not expected.
        """
        check_labels(self.num_class_embeds, class_labels)
        widths = self.block_out_channels
        levels = len(widths)
        settings = Settings(
            self.norm_num_groups, self.norm_eps, self.dtype, self.convolution, self.implementation, self.mesh
        )
        resnets = per_level("layers_per_block", self.layers_per_block, levels)
        layers = per_level("transformer_layers_per_block", self.transformer_layers_per_block, levels)
        heads = per_level("attention_head_dim", self.attention_head_dim, levels)
        crossed = per_level("only_cross_attention", self.only_cross_attention, levels)

        def transformer(level: int, only_cross: int | bool) -> Callable[..., SpatialTransformer]:
            linear = self.use_linear_projection
            return functools.partial(
                SpatialTransformer, heads[level], layers[level], linear, bool(only_cross), settings
            )

        time = jnp.broadcast_to(jnp.asarray(time, jnp.float32), latents.shape[:1])
        embedded = sinusoids(time, widths[0], self.flip_sin_to_cos, self.freq_shift)
        embedded = TimeEmbedding(4 * widths[0], self.dtype, name="time_embedding")(embedded)
        if self.num_class_embeds is not None and class_labels is not None:
            table = nn.Embed(self.num_class_embeds, 4 * widths[0], dtype=self.dtype, name="class_embedding")
            embedded = embedded + table(class_labels)
        text = text.astype(self.dtype)

        latents = 2 * latents - 1 if self.center_input_sample else latents
        x = convolve(settings, widths[0], self.conv_in_kernel, "conv_in")(latents.astype(self.dtype))
        skips = [x]
        for i, kind in enumerate(self.down_block_types):
            x, new = DownBlock(
                features=widths[i],
                resnets=resnets[i],
                transformer=transformer(i, crossed[i]) if kind == "CrossAttnDownBlock2D" else None,
                last=i == levels - 1,
                settings=settings,
                name=f"down_blocks_{i}",
            )(x, embedded, text)
            skips += new
        if self.mid_block_type is not None:
            x = MidBlock(
                widths[-1], transformer(-1, False), self.mid_block_scale_factor, settings, name="mid_block"
            )(x, embedded, text)
        for i, kind in enumerate(self.up_block_types):
            level = levels - 1 - i
            here = skips[-(resnets[level] + 1) :]
            skips = skips[: -len(here)]
            x = UpBlock(
                features=widths[level],
                transformer=transformer(level, crossed[level]) if kind == "CrossAttnUpBlock2D" else None,
                settings=settings,
                name=f"up_blocks_{i}",
            )(x, here, embedded, text, skips[-1].shape[1:3] if skips else None)
        x = nn.silu(group_norm(settings, "conv_norm_out")(x))
        return convolve(settings, self.out_channels, self.conv_out_kernel, "conv_out")(x)


class TimeEmbedding(nn.Module):
    """Two dense layers with silu between them."""

    features: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, C] to [B, features]."""
        hidden = nn.silu(nn.Dense(self.features, dtype=self.dtype, name="linear_1")(x))
        return nn.Dense(self.features, dtype=self.dtype, name="linear_2")(hidden)


class DownBlock(nn.Module):
    """One level on the way down; every result is a skip."""

    features: int
    resnets: int
    transformer: Callable[..., SpatialTransformer] | None  # takes its name; None: a level without one
    last: bool
    settings: Settings

    @nn.compact
    def __call__(self, x: Array, time: Array, text: Array) -> tuple[Array, list[Array]]:
        """Maps x [B, H, W, C] to half the size (the last level keeps it), and returns the skips."""
        skips = []
        for i in range(self.resnets):
            x = ResnetBlock(self.features, self.settings, name=f"resnets_{i}")(x, time)
            if self.transformer is not None:
                x = self.transformer(name=f"attentions_{i}")(x, text)
            skips.append(x)
        if not self.last:
            x = Downsample((1, 1), self.settings, name="downsamplers_0")(x)
            skips.append(x)
        return x, skips


class MidBlock(nn.Module):
    """Residual block, transformer, residual block at the smallest size."""

    features: int
    transformer: Callable[..., SpatialTransformer]
    divisor: float  # of the residual sums
    settings: Settings

    @nn.compact
    def __call__(self, x: Array, time: Array, text: Array) -> Array:
        """Maps [B, H, W, C] to the same shape."""
        x = ResnetBlock(self.features, self.settings, self.divisor, name="resnets_0")(x, time)
        x = self.transformer(name="attentions_0")(x, text)
        return ResnetBlock(self.features, self.settings, self.divisor, name="resnets_1")(x, time)


class UpBlock(nn.Module):
    """One level on the way up; it takes its skips from the end of the list."""

    features: int
    transformer: Callable[..., SpatialTransformer] | None
    settings: Settings

    @nn.compact
    def __call__(
        self, x: Array, skips: list[Array], time: Array, text: Array, size: tuple[int, ...] | None
    ) -> Array:
        """Maps x [B, H, W, C] and its skips to [B, *size, features]; without a size it is kept."""
        for i, skip in enumerate(reversed(skips)):
            x = jnp.concatenate([x, skip], axis=-1)
            x = ResnetBlock(self.features, self.settings, name=f"resnets_{i}")(x, time)
            if self.transformer is not None:
                x = self.transformer(name=f"attentions_{i}")(x, text)
        # the next skip's size, not twice this one: sides that the levels do not divide were rounded up
        return x if size is None else Upsample(self.settings, name="upsamplers_0")(x, size)


def _check(module: UNet2DCondition) -> None:
    """Checks settings that must fit one another, before flax sees them."""
    widths = module.block_out_channels
    levels = len(widths)
    for name, known in (
        ("down_block_types", ("CrossAttnDownBlock2D", "DownBlock2D")),
        ("up_block_types", ("CrossAttnUpBlock2D", "UpBlock2D")),
    ):
        kinds = getattr(module, name)
        fits = len(kinds) == levels and set(kinds) <= set(known)
        require(fits, f"{name} must be {levels} of {', '.join(known)}, got {', '.join(map(str, kinds))}.")
    require(
        module.mid_block_type in (None, "UNetMidBlock2DCrossAttn"),
        f"mid_block_type must be UNetMidBlock2DCrossAttn or null, got {module.mid_block_type!r}.",
    )
    for name in ("layers_per_block", "transformer_layers_per_block", "only_cross_attention"):
        per_level(name, getattr(module, name), levels)
    for name in ("conv_in_kernel", "conv_out_kernel"):
        size = getattr(module, name)
        require(size % 2 == 1, f"{name} must be odd, to keep the size of the latents, got {size}.")
    text = per_level("cross_attention_dim", module.cross_attention_dim, levels)
    require(len(set(text)) == 1, f"cross_attention_dim must be the same at all levels, got {text}.")
    heads = per_level("attention_head_dim", module.attention_head_dim, levels)
    require(
        all(width % number == 0 for width, number in zip(widths, heads)),
        f"attention_head_dim, the number of heads, must divide block_out_channels: {heads} and {widths}.",
    )
    require(
        all(width % module.norm_num_groups == 0 for width in widths),
        f"norm_num_groups must divide block_out_channels: {module.norm_num_groups} and {widths}.",
    )


def check_labels(count: int | None, class_labels: Array | None) -> None:
    """Refuses class labels that a UNet with `count` classes (None: no classes) lacks or does not take."""
    if count is not None and class_labels is None:
        raise InputError(
            f"this UNet was trained with {count} classes: pass class_labels [B], 0 to {count - 1}."
        )
    if count is None and class_labels is not None:
        raise InputError("this UNet has no classes of its own (num_class_embeds): omit class_labels.")
