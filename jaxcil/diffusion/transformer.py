"""The transformer of the UNet: blocks of attention over the pixels of a map, to themselves and to the text."""

import flax.linen as nn
from jax import Array

from jaxcil.diffusion.attention import project_and_attend
from jaxcil.diffusion.layers import Settings, convolve, group_norm, layer_norm


class CrossAttention(nn.Module):
    """Attention of the UNet, to a map's own pixels or to the text."""

    heads: int
    settings: Settings

    @nn.compact
    def __call__(self, x: Array, context: Array) -> Array:
        """Maps x [B, T, C] and a context [B, S, D] to [B, T, C]."""
        names = ("to_q", "to_k", "to_v", "to_out_0")
        return project_and_attend(
            x, context, heads=self.heads, names=names, settings=self.settings, bias=False
        )


class GatedProjection(nn.Module):
    """GEGLU (Shazeer, arXiv:2002.05202): value * gelu(gate), the gelu exact."""

    features: int
    settings: Settings

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [..., C] to [..., features]."""
        both = nn.Dense(2 * self.features, dtype=self.settings.dtype, name="proj")(x)
        value, gate = both[..., : self.features], both[..., self.features :]
        return value * nn.gelu(gate, approximate=False)


class FeedForward(nn.Module):
    """Four times as wide inside, gated."""

    settings: Settings

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, T, C] to the same shape."""
        hidden = GatedProjection(4 * x.shape[-1], self.settings, name="net_0")(x)
        return nn.Dense(x.shape[-1], dtype=self.settings.dtype, name="net_2")(hidden)


class TransformerBlock(nn.Module):
    """Self-attention, attention to the text, feed-forward; each after a norm and added to its input."""

    heads: int
    only_cross_attention: bool  # the first attention is to the text too
    settings: Settings

    @nn.compact
    def __call__(self, x: Array, text: Array) -> Array:
        """Maps x [B, T, C] and text [B, L, D] to [B, T, C]. Padding of the text is attended to."""
        dtype = self.settings.dtype
        hidden = layer_norm(dtype, "norm1")(x)
        context = text if self.only_cross_attention else hidden
        x = x + CrossAttention(self.heads, self.settings, name="attn1")(hidden, context)
        hidden = layer_norm(dtype, "norm2")(x)
        x = x + CrossAttention(self.heads, self.settings, name="attn2")(hidden, text)
        return x + FeedForward(self.settings, name="ff")(layer_norm(dtype, "norm3")(x))


class SpatialTransformer(nn.Module):
    """Transformer blocks over the pixels of a map, between two projections, added to the map.

    Its group normalisation has epsilon 1e-6, whatever the configuration says for the others.
    """

    heads: int
    layers: int
    linear_projection: bool  # Stable Diffusion 2: Dense; 1: a convolution of size 1
    only_cross_attention: bool
    settings: Settings

    @nn.compact
    def __call__(self, x: Array, text: Array) -> Array:
        """Maps x [B, H, W, C] and text [B, L, D] to [B, H, W, C]."""
        batch, height, width, features = x.shape

        def project(name: str):
            if self.linear_projection:
                return nn.Dense(features, dtype=self.settings.dtype, name=name)
            return convolve(self.settings, features, 1, name)

        hidden = project("proj_in")(group_norm(self.settings, "norm", 1e-6)(x))
        hidden = hidden.reshape(batch, height * width, features)
        for i in range(self.layers):
            block = TransformerBlock(
                self.heads, self.only_cross_attention, self.settings, name=f"transformer_blocks_{i}"
            )
            hidden = block(hidden, text)
        return x + project("proj_out")(hidden.reshape(x.shape))
