"""Stable Diffusion as a folder in diffusers' format: `load` and `save`."""

import dataclasses
import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from jaxcil.diffusion import hub, weights
from jaxcil.diffusion.config import config_of, require
from jaxcil.diffusion.model import StableDiffusion
from jaxcil.diffusion.pipeline import PREDICTIONS
from jaxcil.diffusion.text_encoder import CLIPTextModel
from jaxcil.diffusion.tokenizer import read_tokenizer, write_tokenizer
from jaxcil.diffusion.unet import UNet2DCondition
from jaxcil.diffusion.vae import AutoencoderKL
from jaxcil.errors import InputError, unknown_name
from jaxcil.solvers.beta_grid import scheduler_betas
from jaxcil.workdir import files

# Part of a pipeline -> our class, and the library and class that model_index.json names.
PARTS = {
    "unet": (UNet2DCondition, "diffusers", "UNet2DConditionModel"),
    "vae": (AutoencoderKL, "diffusers", "AutoencoderKL"),
    "text_encoder": (CLIPTextModel, "transformers", "CLIPTextModel"),
}

SAVED = ("float16", "bfloat16", "float32")


def load(
    name: str | os.PathLike = hub.DEFAULT_MODEL,
    dtype: Any = jnp.float32,
    revision: str | None = None,
    variant: str | None = None,
    *,
    sharding: Sharding | None = None,
) -> StableDiffusion:
    """Reads a pipeline in diffusers' format from a folder, or by its name from the Hugging Face hub.

    Files of weights are mapped into memory, and each tensor is cast and placed before the next is read. A hub file that
    is not in the cache is fetched.

    Args:
      name: a folder that holds model_index.json and the folders unet, vae, text_encoder, tokenizer and scheduler; or
        OWNER/MODEL, see `hub.resolve`.
      dtype: of the parameters and of the networks' computations: float32 or bfloat16. (Norms, softmax,
        latents and samplers compute in float32 in any case.)
      revision: of a model on the hub: a branch, a tag or a commit.
      variant: the tag in the names of the weights to read, such as "fp16"; None: those without a tag, or with the
        only tag.
      sharding: of every parameter; None: on the default device.

    Raises:
      InputError: the pipeline is incomplete, or has a part that is not supported; the message names it.
    """
    folder = _located(name, revision, variant)
    index = _read_config(folder, "model_index.json")
    modules = {}
    for part, (module, _, class_name) in PARTS.items():
        named = index.get(part)
        kind = named[1] if isinstance(named, list | tuple) and len(named) == 2 else named
        require(kind is not None, f"{folder / 'model_index.json'} names no {part}. Is the pipeline complete?")
        require(
            str(kind).removeprefix("Flax") == class_name,
            f"the {part} of {folder} must be a {class_name}, but model_index.json says {kind}.",
        )
        modules[part] = module.from_config(_read_config(folder / part, "config.json"), dtype=dtype)
    scheduler = _read_config(folder / "scheduler", "scheduler_config.json")
    model = StableDiffusion(
        parameters=None,
        **modules,
        tokenizer=read_tokenizer(folder / "tokenizer"),
        scheduler=json.dumps(scheduler, sort_keys=True),
    )
    _check(model)  # before gigabytes are read
    key, parameters = jax.eval_shape(lambda: jax.random.key(0)), {}
    for part, module in modules.items():
        shapes = jax.eval_shape(module.initial, key)
        parameters[part] = weights.read(
            folder / part, part, shapes, dtype, variant=variant, sharding=sharding
        )
    return dataclasses.replace(model, parameters=parameters)


def save(folder: str | os.PathLike, model: StableDiffusion, dtype: Any = jnp.float16) -> None:
    """Writes a pipeline as a folder in diffusers' format, which torch libraries also read.

    Every file is replaced as a whole, and model_index.json is written last: a folder that has it is complete.

    Args:
      folder: the target; it may exist.
      model: the model.
      dtype: of the tensors in the files: float16, bfloat16 or float32.

    Raises:
      InputError: a parameter is not finite, or too large for the dtype.
    """
    folder = pathlib.Path(folder)
    if np.dtype(dtype).name not in SAVED:
        raise unknown_name("dtype to save a pipeline in", np.dtype(dtype).name, SAVED)
    _check(model)
    for part in PARTS:  # before any existing file is touched
        weights.check_finite(part, model.parameters[part], dtype)
    (folder / "model_index.json").unlink(missing_ok=True)
    for part, (_, _, name) in PARTS.items():
        weights.write(folder / part, part, model.parameters[part], dtype)
        config = config_of(getattr(model, part))
        if part == "text_encoder":
            # Not one of diffusers' classes: transformers recognises the class by these two.
            config |= {"architectures": [name], "model_type": "clip_text_model"}
            files.write(folder / part / "config.json", json.dumps(config, indent=2, sort_keys=True) + "\n")
        else:
            _write_config(folder / part / "config.json", name, config)
    write_tokenizer(folder / "tokenizer", model.tokenizer)
    config = model.scheduler_config
    scheduler = config.get("_class_name", "DDIMScheduler")
    _write_config(folder / "scheduler" / "scheduler_config.json", scheduler, config)
    index: dict[str, Any] = {part: [library, name] for part, (_, library, name) in PARTS.items()}
    index |= {"tokenizer": ["transformers", "CLIPTokenizer"], "scheduler": ["diffusers", scheduler]}
    index |= {
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
    }
    _write_config(folder / "model_index.json", "StableDiffusionPipeline", index)


def _located(name: str | os.PathLike, revision: str | None, variant: str | None) -> pathlib.Path:
    """The folder of a pipeline."""
    folder = pathlib.Path(name)
    if not folder.exists() and isinstance(name, str) and hub.is_name(name):
        return hub.resolve(name, revision, variant)[0]
    if folder.is_file() or not (folder / hub.INDEX).is_file():
        raise InputError(
            f"{str(name)!r} is not a folder with a Stable Diffusion pipeline: that holds {hub.INDEX} and the folders "
            f"{', '.join(PARTS)}, tokenizer and scheduler. Convert single files with jaxcil convert-pipeline; "
            "models on the hub are named OWNER/MODEL."
        )
    require(revision is None, f"{folder} is a folder, which has no revisions: omit revision={revision!r}.")
    return folder


def _check(model: StableDiffusion) -> None:
    """Checks parts that must fit one another."""
    try:
        betas = scheduler_betas(model.scheduler_config)
    except (TypeError, ValueError) as error:
        raise InputError(f"the scheduler's configuration gives no noise levels: {error}") from None
    require(
        betas.ndim == 1 and betas.size > 0 and bool(np.all((betas > 0) & (betas <= 1))),
        "the scheduler's trained_betas must be a list of numbers in (0, 1].",
    )
    if model.prediction_type not in tuple(PREDICTIONS):  # by equality: a list has no hash
        raise unknown_name("prediction type of this kind", model.prediction_type, PREDICTIONS)
    latent, unet = model.vae.latent_channels, model.unet
    require(
        unet.out_channels == latent and unet.in_channels >= latent,
        f"latents of the autoencoder have {latent} channels, but the UNet takes {unet.in_channels} and returns "
        f"{unet.out_channels}.",
    )
    text, width = model.text_encoder, model.unet.cross_attention_dim
    width = width[0] if isinstance(width, tuple) else width
    require(
        text.hidden_size == width,
        f"the UNet takes text states of width {width}, the text encoder returns {text.hidden_size}.",
    )
    require(
        model.tokenizer.length <= text.max_position_embeddings,
        f"the tokenizer returns {model.tokenizer.length} ids, the text encoder takes at most "
        f"{text.max_position_embeddings}.",
    )
    require(
        model.tokenizer.size <= text.vocab_size,
        f"the tokenizer has {model.tokenizer.size} tokens, the text encoder {text.vocab_size}.",
    )


def _read_config(folder: pathlib.Path, name: str) -> dict[str, Any]:
    if not (folder / name).is_file():  # diffusers would take the folder for a hub name
        raise InputError(f"there is no {folder / name}. Is the folder complete?")
    from diffusers.configuration_utils import ConfigMixin  # takes 0.8 s, and only folders need it

    reader: Any = type("Reader", (ConfigMixin,), {"config_name": name})
    try:
        return dict(reader.load_config(folder))
    except (OSError, ValueError, TypeError, AttributeError) as error:  # the last two: JSON, but no object
        raise InputError(f"{folder / name} cannot be read as a JSON object: {error}") from None


def _write_config(path: pathlib.Path, class_name: str, config: dict[str, Any]) -> None:
    from diffusers.configuration_utils import ConfigMixin

    writer: Any = type(class_name, (ConfigMixin,), {"config_name": path.name})()
    writer.register_to_config(**{name: value for name, value in config.items() if name[0] != "_"})
    files.write(path, writer.to_json_string())
