"""Settings of `jaxcil train-generator`."""

import dataclasses
from typing import Any

from jaxcil.workdir.settings import config_dict, field, group

MAX_STEPS, MAX_WIDTH = 10**8, 2**14
DTYPES = ("float16", "float32")


@dataclasses.dataclass(frozen=True)
class TokenizerSettings:
    """A tokenizer in the form of CLIP's, learned from the prompts."""

    merges: int = field(64, "maximum number of merged byte pairs", low=0, high=10**6)
    length: int = field(16, "token ids per prompt, with those of begin and end", low=3, high=1024)


@dataclasses.dataclass(frozen=True)
class AutoencoderSettings:
    """The autoencoder: fields of its config.json."""

    block_out_channels: tuple[int, ...] = field((16, 32, 32), "channels per level", low=1, high=MAX_WIDTH)
    layers_per_block: int = field(1, "residual blocks per level", low=1, high=64)
    norm_num_groups: int = field(
        8, "groups of the normalisations; divides all channels", low=1, high=MAX_WIDTH
    )
    latent_channels: int = field(4, "channels of the latents", low=1, high=MAX_WIDTH)


@dataclasses.dataclass(frozen=True)
class AutoencoderTrainingSettings:
    """The training of the autoencoder."""

    steps: int = field(2500, "optimiser steps", low=1, high=MAX_STEPS)
    batch_size: int = field(64, "images per step", low=1, high=10**6)
    learning_rate: float = field(2e-3, "after the warm-up; decays to 0 by a cosine", low=0, high=10)
    weight_decay: float = field(1e-4, "of AdamW", low=0, high=10)
    warmup_steps: int = field(50, "steps of a linear warm-up, fewer than steps", low=0, high=MAX_STEPS)
    kl_weight: float = field(2e-5, "weight of the divergence against the squared error", low=0, high=10**6)
    shift: int = field(1, "random shifts of the images in pixels", low=0, high=1024)


@dataclasses.dataclass(frozen=True)
class TextEncoderSettings:
    """CLIP's text encoder."""

    hidden_size: int = field(64, "width; heads divides it", low=1, high=MAX_WIDTH)
    layers: int = field(2, "transformer layers", low=1, high=256)
    heads: int = field(4, "attention heads", low=1, high=1024)


@dataclasses.dataclass(frozen=True)
class UNetSettings:
    """The UNet."""

    block_out_channels: tuple[int, ...] = field((48, 64), "channels per level", low=1, high=MAX_WIDTH)
    layers_per_block: int = field(1, "residual blocks per level", low=1, high=64)
    heads: int = field(4, "attention heads; divides all channels", low=1, high=1024)
    norm_num_groups: int = field(
        8, "groups of the normalisations; divides all channels", low=1, high=MAX_WIDTH
    )


@dataclasses.dataclass(frozen=True)
class DenoiserTrainingSettings:
    """The training of text encoder and UNet."""

    steps: int = field(4000, "optimiser steps", low=1, high=MAX_STEPS)
    batch_size: int = field(128, "images per step", low=1, high=10**6)
    learning_rate: float = field(1.5e-3, "after the warm-up; decays to 0 by a cosine", low=0, high=10)
    weight_decay: float = field(1e-3, "of AdamW", low=0, high=10)
    warmup_steps: int = field(50, "steps of a linear warm-up, fewer than steps", low=0, high=MAX_STEPS)
    caption_dropout: float = field(0.12, "fraction of images trained with the empty prompt", low=0, high=1)
    shift: int = field(0, "random shifts of the images in pixels", low=0, high=1024)


@dataclasses.dataclass(frozen=True)
class GeneratorSettings:
    """A small Stable Diffusion, its images and its training."""

    dataset: str = field(
        "digits", "the images: a name that `jaxcil run` knows, or a folder of SPLIT/CLASS/*.png"
    )
    split: str = field("generator", "the split to train on")
    data_dir: str | None = field(None, "folder of TFDS; none: the user's")
    templates: tuple[str, ...] = field(
        ("a photo of a {}", "{}"), "prompts of an image, of which each step takes one"
    )
    tokenizer: TokenizerSettings = group(TokenizerSettings)
    autoencoder: AutoencoderSettings = group(AutoencoderSettings)
    autoencoder_training: AutoencoderTrainingSettings = group(AutoencoderTrainingSettings)
    text_encoder: TextEncoderSettings = group(TextEncoderSettings)
    unet: UNetSettings = group(UNetSettings)
    denoiser_training: DenoiserTrainingSettings = group(DenoiserTrainingSettings)
    seed: int = field(0, "of all randomness", low=0, high=2**32 - 1)
    checkpoint_every: int = field(50, "steps between two checkpoints", low=1, high=MAX_STEPS)
    dtype: str = field("float16", "of the saved weights", choices=DTYPES)


def defaults() -> Any:
    """The ConfigDict of a `train-generator` config; a config file changes what differs."""
    return config_dict(GeneratorSettings)
