"""The configurations of released models, and models without weights for planning and timing.

Values are those of the config.json files on the hub; keys that these omit have diffusers' defaults.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcil.diffusion.model import StableDiffusion
from jaxcil.diffusion.text_encoder import CLIPTextModel
from jaxcil.diffusion.tokenizer import Tokenizer
from jaxcil.diffusion.unet import UNet2DCondition
from jaxcil.diffusion.vae import AutoencoderKL

NO_TOKENIZER = Tokenizer(text="", bos="", eos="", pad="")
BLOCK = 2**20  # random numbers that made-up parameters repeat: drawing 860 million would take a minute

_UNET = {"block_out_channels": (320, 640, 1280, 1280), "layers_per_block": 2}
_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "scaling_factor": 0.18215,
}
_SCHEDULER = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}

# Name -> part of a pipeline -> its configuration.
RELEASED: dict[str, dict[str, dict[str, Any]]] = {
    # Stable Diffusion 1.5, 512 x 512; 1.4 differs in its weights only
    "sd15": {
        "unet": _UNET | {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
        "vae": _VAE | {"sample_size": 512},
        "text_encoder": {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "hidden_act": "quick_gelu",
        },
        "scheduler": _SCHEDULER | {"prediction_type": "epsilon"},
    },
    # Stable Diffusion 2.1, 768 x 768
    "sd21": {
        "unet": _UNET
        | {
            "sample_size": 96,
            "cross_attention_dim": 1024,
            "attention_head_dim": (5, 10, 20, 20),
            "use_linear_projection": True,
            "upcast_attention": True,
        },
        "vae": _VAE | {"sample_size": 768},
        "text_encoder": {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 23,
            "num_attention_heads": 16,
            "hidden_act": "gelu",
        },
        "scheduler": _SCHEDULER | {"prediction_type": "v_prediction"},
    },
}


def abstract(
    configs: Mapping[str, Mapping[str, Any]], tokenizer: Tokenizer = NO_TOKENIZER, dtype: Any = jnp.float32
) -> StableDiffusion:
    """A model whose parameters are `jax.ShapeDtypeStruct`s.

    Args:
      configs: of unet, vae, text_encoder and scheduler, as in RELEASED.
      tokenizer: its length counts in any case.
      dtype: of parameters and computation.
    """
    networks = {
        "unet": UNet2DCondition.from_config(configs["unet"], dtype=dtype),
        "vae": AutoencoderKL.from_config(configs["vae"], dtype=dtype),
        "text_encoder": CLIPTextModel.from_config(configs["text_encoder"], dtype=dtype),
    }
    key = jax.eval_shape(lambda: jax.random.key(0))
    parameters = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype),
        {part: jax.eval_shape(network.initial, key) for part, network in networks.items()},
    )
    scheduler = json.dumps(configs["scheduler"], sort_keys=True)
    return StableDiffusion(parameters=parameters, **networks, tokenizer=tokenizer, scheduler=scheduler)


def made_up_parameters(shapes: Any) -> Any:
    """Parameters that keep the scale of activations: no overflow, and no zeros, which run faster.

    Args:
      shapes: nested dicts of `jax.ShapeDtypeStruct`, as in an `abstract` model.
    """
    block = np.random.default_rng(0).standard_normal(BLOCK, np.float32)

    def made_up(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.Array:
        if path[-1].key in ("scale", "bias"):
            return jnp.full(leaf.shape, path[-1].key == "scale", leaf.dtype)
        values = block / math.sqrt(math.prod(leaf.shape[:-1]))
        return jnp.asarray(np.resize(values.astype(leaf.dtype), leaf.shape))

    return jax.tree_util.tree_map_with_path(made_up, shapes)
