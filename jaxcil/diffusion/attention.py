"""Attention as one function, by the kernel that fits the device."""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh

from jaxcil.diffusion.layers import Settings
from jaxcil.errors import InputError, unknown_name
from jaxcil.parallel import mesh

IMPLEMENTATIONS = ("xla", "cudnn", "flash")
# Numbers of tokens from which a kernel is worth its overhead; for TPUs it is maxdiffusion's.
CUDNN_TOKENS, FLASH_TOKENS = 1024, 4096
# The limit of cuDNN on any GPU. Hopper takes 256, which would help no level of these networks below 1024 x 1024.
CUDNN_FEATURES = 128
LANES = 128  # of a TPU's vector registers, to which the flash kernel's features and blocks are padded


def attend(
    query: Array,
    key: Array,
    value: Array,
    *,
    causal: bool = False,
    implementation: str = "xla",
    on: Mesh | None = None,
) -> Array:
    """softmax(query key^T / sqrt(D)) value, with scores and softmax in float32.

    Args:
      query: [B, T, heads, D].
      key: [B, S, heads, D].
      value: [B, S, heads, D].
      causal: position t sees positions up to t.
      implementation: "xla" holds the scores, B heads T S float32 numbers, in memory. "cudnn" (a GPU) and
        "flash" (the Pallas kernel for TPUs) do not; they run where `kernel` applies them, and XLA elsewhere.
      on: the mesh over whose devices B is spread, which "flash" needs; None: one device.

    Returns:
      [B, T, heads, D] in the dtype of the query.

    Raises:
      InputError: an unknown implementation, cuDNN without a GPU, or "flash" for devices that are not TPUs.
    """
    if implementation not in IMPLEMENTATIONS:
        raise unknown_name("attention implementation", implementation, IMPLEMENTATIONS)
    if implementation == "cudnn" and jax.default_backend() != "gpu":
        raise InputError(
            f'attention by "cudnn" needs an NVIDIA GPU, and this process computes on {jax.default_backend()}. '
            "Place the model on a mesh of the present devices: jaxcil.diffusion.place chooses what they support."
        )
    if implementation == "flash" and _platform(on) != "tpu":
        raise InputError(
            f'attention by "flash" is a kernel for TPUs, and this would run on {_platform(on)}. '
            "Place the model on a mesh of the present devices: jaxcil.diffusion.place chooses what they support."
        )
    chosen = "xla" if causal else kernel(implementation, query.shape, key.shape, query.dtype)
    if chosen == "flash":
        flash = functools.partial(_flash, scale=1 / math.sqrt(query.shape[-1]))
        run = flash if on is None else mesh.over_images(on, flash)
        return run(query, key, value)
    return jax.nn.dot_product_attention(query, key, value, is_causal=causal, implementation=chosen)  # type: ignore


def _platform(on: Mesh | None) -> str:
    """The platform that will run: a mesh may be of a topology that is compiled for ahead of time."""
    return jax.default_backend() if on is None else mesh.platform(on)


def kernel(implementation: str, query: tuple[int, ...], key: tuple[int, ...], dtype: Any) -> str:
    """The kernel for an attention without a mask: the implementation if it applies, else "xla".

    Args:
      implementation: one of `IMPLEMENTATIONS`.
      query: the shape [B, T, heads, D].
      key: the shape [B, S, heads, D].
      dtype: of both.
    """
    _, queries, _, features = query
    if implementation == "cudnn":
        half = jnp.dtype(dtype) in (jnp.float16, jnp.bfloat16)
        fits = half and features % 8 == 0 and features <= CUDNN_FEATURES and queries >= CUDNN_TOKENS
    else:
        fits = min(queries, key[1]) >= FLASH_TOKENS
    return implementation if fits else "xla"


def _flash(query: Array, key: Array, value: Array, scale: float) -> Array:
    """The TPU kernel on [B, T, heads, D], which needs tokens and features in multiples of the lanes.

    Padded features are zeros, which change no score and are cut off the result. Padded tokens are a separate segment,
    which real tokens do not see.
    """
    from jax.experimental.pallas.ops.tpu import flash_attention as tpu  # only TPUs need Pallas

    def padded(x: Array) -> Array:
        tokens, features = (-size % LANES for size in (x.shape[1], x.shape[3]))
        return jnp.pad(x, ((0, 0), (0, tokens), (0, 0), (0, features))).transpose(0, 2, 1, 3)

    def segments(x: Array) -> Array:
        tokens = x.shape[1] + -x.shape[1] % LANES
        return jnp.broadcast_to(jnp.asarray(jnp.arange(tokens) < x.shape[1], jnp.int32), (x.shape[0], tokens))

    whole = query.shape[1] % LANES == key.shape[1] % LANES == 0
    block_q, block_k = (_block(x.shape[1]) for x in (query, key))
    out = tpu.flash_attention(
        padded(query),
        padded(key),
        padded(value),
        segment_ids=None if whole else tpu.SegmentIds(segments(query), segments(key)),
        sm_scale=scale,
        block_sizes=tpu.BlockSizes(block_q=block_q, block_k_major=block_k, block_k=block_k, block_b=1),
    )
    return out.transpose(0, 2, 1, 3)[:, : query.shape[1], :, : query.shape[3]]


def _block(tokens: int) -> int:
    """The largest block of the kernel that divides a padded number of tokens."""
    return next(size for size in (512, 256, LANES) if (tokens + -tokens % LANES) % size == 0)


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
    """Attention between four dense layers, which become layers of the calling module.

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
        on=settings.mesh,
    )
    return nn.Dense(x.shape[-1], dtype=settings.dtype, name=names[3])(mixed.reshape(x.shape))
