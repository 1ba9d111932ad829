"""Attention, behind one function, and the transformer of the UNet."""

import flax.linen as nn
import jax
from jax import Array

from jaxcil.diffusion.layers import Settings, convolve, group_norm, layer_norm
from jaxcil.errors import unknown_name

IMPLEMENTATIONS = ("xla",)


def attend(query: Array, key: Array, value: Array, *, causal: bool = False, implementation: str = "xla"):
    """softmax(query key^T / sqrt(D)) value, with scores and softmax in float32.

    Args:
      query: [B, T, heads, D].
      key: [B, S, heads, D].
      value: [B, S, heads, D].
      causal: position t sees positions up to t.
      implementation: "xla" holds the scores, B heads T S float32 numbers, in memory.

    Returns:
      [B, T, heads, D] in the dtype of the query.
    """
    if implementation not in IMPLEMENTATIONS:
        raise unknown_name("attention implementation", implementation, IMPLEMENTATIONS)
    return jax.nn.dot_product_attention(query, key, value, is_causal=causal, implementation=implementation)


def project_and_attend(
    x: Array,
    context: Array,
    *,
    heads: int,
    names: tuple[str, str, str, str],
    settings: Settings,
    bias: bool = True,
    causal: bool = False,
) -> Array:
    """Attention between four dense layers, which become layers of the module that calls this.

    Args:
      x: [B, T, C], the source of the queries.
      context: [B, S, D], the source of keys and values.
      heads: a divisor of C.
      names: of the layers for query, key, value and output; they differ from network to network.
      settings: those of the network.
      bias: of the first three layers; the output always has one.
      causal: see `attend`.

    Returns:
      [B, T, C].
    """
    query, key, value = (
        nn.Dense(x.shape[-1], use_bias=bias, dtype=settings.dtype, name=name)(source)
        for name, source in zip(names, (x, context, context))
    )
    mixed = attend(
        *(item.reshape(*item.shape[:2], heads, -1) for item in (query, key, value)),
        causal=causal,
        implementation=settings.implementation,
    )
    return nn.Dense(x.shape[-1], dtype=settings.dtype, name=names[3])(mixed.reshape(x.shape))


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
    settings: Settings

    @nn.compact
    def __call__(self, x: Array, text: Array) -> Array:
        """Maps x [B, T, C] and text [B, L, D] to [B, T, C]. Padding of the text is attended to."""

        dtype = self.settings.dtype
        hidden = layer_norm(dtype, "norm1")(x)
        x = x + CrossAttention(self.heads, self.settings, name="attn1")(hidden, hidden)
        hidden = layer_norm(dtype, "norm2")(x)
        x = x + CrossAttention(self.heads, self.settings, name="attn2")(hidden, text)
        return x + FeedForward(self.settings, name="ff")(layer_norm(dtype, "norm3")(x))


class SpatialTransformer(nn.Module):
    """Transformer blocks over the pixels of a map, between two projections, added to the map.

    Its group normalisation has epsilon 1e-6, whatever the configuration says of the others.
    """

    heads: int
    layers: int
    linear_projection: bool  # Stable Diffusion 2: Dense; 1: a convolution of size 1
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
            hidden = TransformerBlock(self.heads, self.settings, name=f"transformer_blocks_{i}")(hidden, text)
        return x + project("proj_out")(hidden.reshape(x.shape))
