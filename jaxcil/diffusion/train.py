"""Trains a small Stable Diffusion, part by part: the autoencoder, then text encoder and UNet.

The objectives stand in `objectives.py`. Each of the two trainings keeps its newest state on disk, so that a killed
training goes on where it was. On one kind of machine the same settings give the same weights.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcil import convolution, keys
from jaxcil.diffusion.byte_pairs import learn_tokenizer
from jaxcil.diffusion.model import StableDiffusion
from jaxcil.diffusion.objectives import (
    AutoencoderTraining,
    DenoiserTraining,
    LabelledImages,
    latent_scale,
)
from jaxcil.diffusion.text_encoder import CLIPTextModel
from jaxcil.diffusion.unet import UNet2DCondition
from jaxcil.diffusion.vae import AutoencoderKL
from jaxcil.solvers.beta_grid import scheduler_betas
from jaxcil.training import loop
from jaxcil.training.optimizer import AdamW

# Stable Diffusion's noise schedule, with the keys of its scheduler_config.json.
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}

Tell = Callable[[str, loop.Report], None]


def train_pipeline(
    images: np.ndarray,
    labels: np.ndarray,
    prompts: Sequence[Sequence[str]],
    *,
    tokenizer: Mapping[str, int],
    autoencoder: Mapping[str, Any],
    autoencoder_training: Mapping[str, Any],
    text_encoder: Mapping[str, int],
    unet: Mapping[str, Any],
    denoiser_training: Mapping[str, Any],
    seed: int,
    chunk: int,
    checkpoints: Callable[[str], Any],
    tell: Tell,
) -> StableDiffusion:
    """A pipeline that draws images of the classes it was trained on.

    Args:
      images: uint8 [N, H, H, 3].
      labels: int32 [N].
      prompts: [classes][templates], the prompts of class c, equally many for each.
      tokenizer: merges, length.
      autoencoder: fields of its config.json: block_out_channels, layers_per_block, norm_num_groups,
        latent_channels.
      autoencoder_training: steps, batch_size, learning_rate, weight_decay, warmup_steps, kl_weight, shift.
      text_encoder: hidden_size, layers, heads.
      unet: block_out_channels, layers_per_block, heads, norm_num_groups.
      denoiser_training: steps, batch_size, learning_rate, weight_decay, warmup_steps, caption_dropout, shift.
      seed: of all randomness.
      chunk: steps between two checkpoints.
      checkpoints: gives a context manager with the states of the training of that name.
      tell: called after every chunk with the training's name.
    """
    root = keys.root_key(seed)
    words = learn_tokenizer([prompt for row in prompts for prompt in row], **tokenizer)
    data = LabelledImages(jnp.asarray(images), jnp.asarray(labels))
    levels = len(autoencoder["block_out_channels"])
    vae = AutoencoderKL.from_config(
        {
            **autoencoder,
            "down_block_types": ("DownEncoderBlock2D",) * levels,
            "up_block_types": ("UpDecoderBlock2D",) * levels,
            "sample_size": images.shape[1],
        },
        convolution=convolution.conv_general_dilated,
    )

    def run(name: str, training: Any, settings: Mapping[str, Any]) -> Any:
        key = keys.purpose_key(root, name)
        states = loop.begin(jax.vmap(training.begin), key[None])
        with checkpoints(name) as kept:
            trained = loop.train(
                loop.program(training.step),
                states,
                data,
                np.arange(len(images)),
                key[None],
                steps=settings["steps"],
                batch_size=settings["batch_size"],
                chunk=chunk,
                checkpoints=kept,
                tell=lambda report: tell(name, report),
            )
        return jax.tree.map(lambda leaf: leaf[0], trained.average)

    settings = autoencoder_training
    vae_parameters = run(
        "autoencoder",
        AutoencoderTraining(
            _optimizer(settings), settings["kl_weight"], vae, settings["steps"], settings["shift"]
        ),
        settings,
    )
    scale = latent_scale(vae, vae_parameters, images)
    clip = CLIPTextModel.from_config(
        {
            "vocab_size": len(json.loads(words.text)["model"]["vocab"]),
            "hidden_size": text_encoder["hidden_size"],
            "intermediate_size": 4 * text_encoder["hidden_size"],
            "projection_dim": text_encoder["hidden_size"],
            "num_hidden_layers": text_encoder["layers"],
            "num_attention_heads": text_encoder["heads"],
            "max_position_embeddings": tokenizer["length"],
        }
    )
    depth = len(unet["block_out_channels"])
    denoiser = UNet2DCondition.from_config(
        {
            "block_out_channels": unet["block_out_channels"],
            "layers_per_block": unet["layers_per_block"],
            "attention_head_dim": unet["heads"],  # the number of heads, whatever its name says
            "norm_num_groups": unet["norm_num_groups"],
            "cross_attention_dim": text_encoder["hidden_size"],
            "down_block_types": (*("CrossAttnDownBlock2D",) * (depth - 1), "DownBlock2D"),
            "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * (depth - 1)),
            "in_channels": autoencoder["latent_channels"],
            "out_channels": autoencoder["latent_channels"],
            "sample_size": images.shape[1] // vae.factor,
        },
        convolution=convolution.conv_general_dilated,
    )
    settings = denoiser_training
    parameters = run(
        "denoiser",
        DenoiserTraining(
            optimizer=_optimizer(settings),
            autoencoder=vae_parameters,
            scaling_factor=scale,
            prompt_ids=jnp.stack([jnp.asarray(words.encode(row)) for row in prompts]),
            empty_ids=jnp.asarray(words.encode([""])[0]),
            caption_dropout=settings["caption_dropout"],
            alphas_cumprod=jnp.asarray(np.cumprod(1 - scheduler_betas(SCHEDULER)), jnp.float32),
            vae=vae,
            text_encoder=clip,
            unet=denoiser,
            steps=settings["steps"],
            shift=settings["shift"],
        ),
        settings,
    )
    return StableDiffusion(
        parameters={"vae": vae_parameters, **parameters},
        vae=vae.clone(scaling_factor=scale, convolution=jax.lax.conv_general_dilated),
        text_encoder=clip,
        unet=denoiser.clone(convolution=jax.lax.conv_general_dilated),
        tokenizer=words,
        scheduler=json.dumps(SCHEDULER),
    )


def _optimizer(settings: Mapping[str, Any]) -> AdamW:
    return AdamW(settings["learning_rate"], settings["weight_decay"], settings["warmup_steps"])
