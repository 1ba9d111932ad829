"""Trains a small Stable Diffusion, part by part: the autoencoder, then text encoder and UNet.

The objectives are in `objectives.py`. Each of the two trainings keeps its newest state on disk, so that a killed
training resumes there. On one kind of machine the same settings give the same weights.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcil import convolution, keys
from jaxcil.diffusion.model import StableDiffusion
from jaxcil.diffusion.objectives import (
    AutoencoderTraining,
    DenoiserTraining,
    LabelledImages,
    latent_scale,
)
from jaxcil.diffusion.settings import (
    AutoencoderTrainingSettings,
    DenoiserTrainingSettings,
    GeneratorSettings,
)
from jaxcil.diffusion.text_encoder import CLIPTextModel
from jaxcil.diffusion.tokenizer import learn_tokenizer
from jaxcil.diffusion.unet import UNet2DCondition
from jaxcil.diffusion.vae import AutoencoderKL
from jaxcil.solvers.beta_grid import scheduler_betas
from jaxcil.training import loop
from jaxcil.training.learner import Part
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

Notify = Callable[[str, loop.Report], None]


def train_pipeline(
    images: np.ndarray,
    labels: np.ndarray,
    prompts: Sequence[Sequence[str]],
    *,
    settings: GeneratorSettings,
    checkpoints: Callable[[str], Any],
    notify: Notify,
) -> StableDiffusion:
    """A pipeline that draws images of the classes it was trained on.

    Args:
      images: uint8 [N, H, H, 3].
      labels: int32 [N].
      prompts: [classes][templates], the prompts of class c, equally many for each.
      settings: networks and trainings; its data set, templates and dtype are not used here.
      checkpoints: returns a context manager with the states of a training, given its name.
      notify: called at every checkpoint with the training's name.
    """
    root, autoencoder, text_encoder, unet = (
        keys.root_key(settings.seed),
        settings.autoencoder,
        settings.text_encoder,
        settings.unet,
    )
    words = learn_tokenizer(
        [prompt for row in prompts for prompt in row], settings.tokenizer.merges, settings.tokenizer.length
    )
    data = LabelledImages(jnp.asarray(images), jnp.asarray(labels))
    levels = len(autoencoder.block_out_channels)
    vae = AutoencoderKL.from_config(
        {
            **dataclasses.asdict(autoencoder),
            "down_block_types": ("DownEncoderBlock2D",) * levels,
            "up_block_types": ("UpDecoderBlock2D",) * levels,
            "sample_size": images.shape[1],
        },
        convolution=convolution.conv_general_dilated,
    )

    def run(name: str, training: Any, chosen: Any) -> Any:
        key = keys.purpose_key(root, name)
        states = loop.begin(jax.vmap(training.begin), key[None])
        with checkpoints(name) as kept:
            trained = loop.train(
                loop.program(type(training).step),
                training,
                states,
                data,
                [[Part(np.arange(len(images)), chosen.batch_size)]],
                key[None],
                steps=chosen.steps,
                chunk=settings.checkpoint_every,
                checkpoints=kept,
                notify=lambda report: notify(name, report),
            )
        return jax.tree.map(lambda leaf: leaf[0], trained.average)

    chosen = settings.autoencoder_training
    vae_parameters = run(
        "autoencoder",
        AutoencoderTraining(_optimizer(chosen), chosen.kl_weight, vae, chosen.steps, chosen.shift),
        chosen,
    )
    scale = latent_scale(vae, vae_parameters, images)
    clip = CLIPTextModel.from_config(
        {
            "vocab_size": len(json.loads(words.text)["model"]["vocab"]),
            "hidden_size": text_encoder.hidden_size,
            "intermediate_size": 4 * text_encoder.hidden_size,
            "projection_dim": text_encoder.hidden_size,
            "num_hidden_layers": text_encoder.layers,
            "num_attention_heads": text_encoder.heads,
            "max_position_embeddings": settings.tokenizer.length,
        }
    )
    depth = len(unet.block_out_channels)
    denoiser = UNet2DCondition.from_config(
        {
            "block_out_channels": unet.block_out_channels,
            "layers_per_block": unet.layers_per_block,
            "attention_head_dim": unet.heads,  # despite the name, the number of heads
            "norm_num_groups": unet.norm_num_groups,
            "cross_attention_dim": text_encoder.hidden_size,
            "down_block_types": (*("CrossAttnDownBlock2D",) * (depth - 1), "DownBlock2D"),
            "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * (depth - 1)),
            "in_channels": autoencoder.latent_channels,
            "out_channels": autoencoder.latent_channels,
            "sample_size": images.shape[1] // vae.factor,
        },
        convolution=convolution.conv_general_dilated,
    )
    chosen = settings.denoiser_training
    parameters = run(
        "denoiser",
        DenoiserTraining(
            optimizer=_optimizer(chosen),
            autoencoder=vae_parameters,
            scaling_factor=scale,
            prompt_ids=jnp.stack([jnp.asarray(words.encode(row)) for row in prompts]),
            empty_ids=jnp.asarray(words.encode([""])[0]),
            caption_dropout=chosen.caption_dropout,
            alphas_cumprod=jnp.asarray(np.cumprod(1 - scheduler_betas(SCHEDULER)), jnp.float32),
            vae=vae,
            text_encoder=clip,
            unet=denoiser,
            steps=chosen.steps,
            shift=chosen.shift,
        ),
        chosen,
    )
    return StableDiffusion(
        parameters={"vae": vae_parameters, **parameters},
        vae=vae.clone(scaling_factor=scale, convolution=jax.lax.conv_general_dilated),
        text_encoder=clip,
        unet=denoiser.clone(convolution=jax.lax.conv_general_dilated),
        tokenizer=words,
        scheduler=json.dumps(SCHEDULER),
    )


def _optimizer(chosen: AutoencoderTrainingSettings | DenoiserTrainingSettings) -> AdamW:
    return AdamW(chosen.learning_rate, chosen.weight_decay, chosen.warmup_steps)
