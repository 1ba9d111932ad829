"""The text encoder of CLIP (Radford et al., arXiv:2103.00020), as Stable Diffusion uses it.

Parameter tree and values are those of transformers' CLIPTextModel. Attention is causal and nothing masks the
padding, as when the UNets were trained.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh

from jaxcil.diffusion.attention import project_and_attend
from jaxcil.diffusion.config import module_fields, require
from jaxcil.diffusion.layers import Settings, layer_norm
from jaxcil.errors import InputError, unknown_name

# Keys of config.json that are not implemented, and the values that have no effect.
INERT = {"use_attention_mask": (False,)}

ACTIVATIONS = {
    "quick_gelu": lambda x: x * nn.sigmoid(1.702 * x),
    "gelu": functools.partial(nn.gelu, approximate=False),
}


class CLIPTextModel(nn.Module):
    """Token ids to hidden states. Fields are those of transformers' config.json."""

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    projection_dim: int | None = 512  # for CLIP's projection; not used here, nor are the three ids
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    pad_token_id: int | None = 1
    bos_token_id: int | None = 49406
    eos_token_id: int | None = 49407
    dtype: Any = jnp.float32
    implementation: str = "xla"
    mesh: Mesh | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any], dtype: Any = jnp.float32) -> "CLIPTextModel":
        """The network of a config.json; it has no convolutions. See `UNet2DCondition.from_config`."""
        fields = module_fields("text encoder", cls, config, INERT)
        module = cls(**fields, dtype=jnp.dtype(dtype))
        if module.hidden_act not in ACTIVATIONS:
            raise unknown_name("activation (hidden_act)", module.hidden_act, ACTIVATIONS)
        require(
            module.hidden_size % module.num_attention_heads == 0,
            f"num_attention_heads must divide hidden_size: {module.num_attention_heads} and "
            f"{module.hidden_size}.",
        )
        return module

    @nn.nowrap
    def initial(self, key: Array) -> dict[str, Any]:
        """Random parameters, float32, as a nested dict; under `jax.eval_shape` only their shapes."""
        return dict(self.init(key, jnp.zeros((1, 1), jnp.int32))["params"])

    @nn.compact
    def __call__(self, ids: Array, clip_skip: int = 0) -> tuple[Array, list[Array]]:
        """Encodes token ids.

        Args:
          ids: [B, L] int32 in [0, vocab_size); L at most max_position_embeddings.
          clip_skip: number of final layers to skip, static.

        Returns:
          The hidden state [B, L, hidden_size] after the last layer that is not skipped and the final norm, for the
          UNet; and all hidden states before the norm: the embeddings and the output of each layer.

        Raises:
          InputError: clip_skip would leave no layer, or is traced.
        """
        if not isinstance(clip_skip, int) or not 0 <= clip_skip < self.num_hidden_layers:
            raise InputError(
                f"clip_skip must lie in [0, {self.num_hidden_layers}), the number of layers, and be static under jit, "
                f"got {clip_skip}."
            )
        settings = Settings(
            1,
            self.layer_norm_eps,
            self.dtype,
            jax.lax.conv_general_dilated,
            self.implementation,
            self.mesh,
        )
        layer = functools.partial(
            Layer, self.num_attention_heads, self.intermediate_size, self.hidden_act, settings
        )
        embed = functools.partial(
            Embeddings, self.vocab_size, self.max_position_embeddings, self.hidden_size, self.dtype
        )
        transformer = TextTransformer(embed, layer, self.num_hidden_layers, settings, name="text_model")
        return transformer(ids, clip_skip)


def pooled_row(states: Array, ids: Array, eos_token_id: int | None) -> Array:
    """The hidden state [B, C] at the end of each text, of states [B, L, C] and ids [B, L].

    That is the first position that holds eos_token_id. The first CLIP files have 2 there, which is not what the
    tokenizer writes: for them the position of the largest id counts, as in transformers.
    """
    marks = ids if eos_token_id in (None, 2) else ids == eos_token_id
    return jnp.take_along_axis(states, jnp.argmax(marks, axis=1)[:, None, None], axis=1)[:, 0]


class TextTransformer(nn.Module):
    """Embeddings, layers, final norm."""

    embed: Callable[..., nn.Module]
    layer: Callable[..., nn.Module]
    layers: int
    settings: Settings

    @nn.compact
    def __call__(self, ids: Array, clip_skip: int) -> tuple[Array, list[Array]]:
        """As `CLIPTextModel`."""
        states = Encoder(self.layer, self.layers, name="encoder")(self.embed(name="embeddings")(ids))
        norm = layer_norm(self.settings.dtype, "final_layer_norm", self.settings.epsilon)
        return norm(states[-1 - clip_skip]), states


class Embeddings(nn.Module):
    """Embedded tokens plus embedded positions."""

    vocabulary: int
    positions: int
    features: int
    dtype: Any

    @nn.compact
    def __call__(self, ids: Array) -> Array:
        """Maps ids [B, L] to [B, L, features]."""
        tokens = nn.Embed(self.vocabulary, self.features, dtype=self.dtype, name="token_embedding")
        positions = nn.Embed(self.positions, self.features, dtype=self.dtype, name="position_embedding")
        return tokens(ids) + positions(jnp.arange(ids.shape[1]))[None]


class Encoder(nn.Module):
    """A level of the tree around the layers."""

    layer: Callable[..., nn.Module]
    layers: int

    @nn.compact
    def __call__(self, x: Array) -> list[Array]:
        """Maps [B, L, C] to the list of all hidden states, x first."""
        return LayerStack(self.layer, self.layers, name="layers")(x)


class LayerStack(nn.Module):
    """The layers, each under its number."""

    layer: Callable[..., nn.Module]
    layers: int

    @nn.compact
    def __call__(self, x: Array) -> list[Array]:
        """As `Encoder`."""
        states = [x]
        for i in range(self.layers):
            states.append(self.layer(name=str(i))(states[-1]))
        return states


class Layer(nn.Module):
    """Causal self-attention and a feed-forward network, each after a norm and added to its input."""

    heads: int
    features: int  # inside the feed-forward network
    activation: str
    settings: Settings

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, L, C] to the same shape."""
        dtype, epsilon = self.settings.dtype, self.settings.epsilon
        x = x + SelfAttention(self.heads, self.settings, name="self_attn")(
            layer_norm(dtype, "layer_norm1", epsilon)(x)
        )
        feed_forward = FeedForward(self.features, self.activation, dtype, name="mlp")
        return x + feed_forward(layer_norm(dtype, "layer_norm2", epsilon)(x))


class SelfAttention(nn.Module):
    """Attention of each token to itself and those before it."""

    heads: int
    settings: Settings

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, L, C] to the same shape."""
        names = ("q_proj", "k_proj", "v_proj", "out_proj")
        return project_and_attend(x, x, heads=self.heads, names=names, settings=self.settings, causal=True)


class FeedForward(nn.Module):
    """Two dense layers."""

    features: int
    activation: str
    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, L, C] to the same shape."""
        hidden = ACTIVATIONS[self.activation](nn.Dense(self.features, dtype=self.dtype, name="fc1")(x))
        return nn.Dense(x.shape[-1], dtype=self.dtype, name="fc2")(hidden)
