"""Stable Diffusion 1.5 by its shape, with made-up parameters: what it computes in is all that a time depends on.

Needs neither the weights nor diffusers, so that it runs on any machine with jax and flax.
"""

import dataclasses
import json
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcil
from jaxcil.diffusion.model import StableDiffusion
from jaxcil.diffusion.released import RELEASED
from jaxcil.diffusion.text_encoder import CLIPTextModel
from jaxcil.diffusion.tokenizer import read_tokenizer
from jaxcil.diffusion.unet import UNet2DCondition
from jaxcil.diffusion.vae import AutoencoderKL

MODEL = RELEASED["sd15"]
SCHEDULER = MODEL["scheduler"]
BLOCK = 2**20  # random numbers that all parameters repeat: drawing 860 million takes a minute


def stable_diffusion(dtype: Any = jnp.float32) -> StableDiffusion:
    """All parts of Stable Diffusion 1.5 with 860, 84 and 123 million made-up parameters.

    The tokenizer is that of the embedded digits, with rows of 77: any ids below 49408 take the same time.

    Args:
      dtype: of parameters and computation.
    """
    networks = {"unet": unet(dtype), "vae": vae(dtype), "text_encoder": text_encoder(dtype)}
    tokenizer = read_tokenizer(pathlib.Path(jaxcil.__file__).parent / "data/digits/generator/tokenizer")
    return StableDiffusion(
        parameters={name: made_up_parameters(network, dtype) for name, network in networks.items()},
        **networks,
        tokenizer=dataclasses.replace(tokenizer, length=77),
        scheduler=json.dumps(SCHEDULER),
    )


def unet(dtype: Any = jnp.float32) -> UNet2DCondition:
    """The UNet; latents of 64 x 64 are images of 512 x 512."""
    return UNet2DCondition.from_config(MODEL["unet"], dtype=dtype)


def vae(dtype: Any = jnp.float32) -> AutoencoderKL:
    """The autoencoder."""
    return AutoencoderKL.from_config(MODEL["vae"], dtype=dtype)


def text_encoder(dtype: Any = jnp.float32) -> CLIPTextModel:
    """CLIP's text encoder, ViT-L/14."""
    return CLIPTextModel.from_config(MODEL["text_encoder"], dtype=dtype)


def parameter_shapes(network: Any) -> Any:
    """Shapes of the parameters, without making one."""
    return jax.eval_shape(network.initial, jax.eval_shape(lambda: jax.random.key(0)))


def made_up_parameters(network: Any, dtype: Any = jnp.float32) -> Any:
    """Parameters that keep the scale of what goes through a network: no overflow, and no zeros that run fast."""
    block = np.random.default_rng(0).standard_normal(BLOCK, np.float32)

    def made_up(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.Array:
        if path[-1].key in ("scale", "bias"):
            return jnp.full(leaf.shape, path[-1].key == "scale", dtype)
        values = block / math.sqrt(math.prod(leaf.shape[:-1]))
        return jnp.asarray(np.resize(values.astype(dtype), leaf.shape))

    return jax.tree_util.tree_map_with_path(made_up, parameter_shapes(network))
