"""Stable Diffusion as a folder in diffusers' format: `load` and `save`."""

import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcil import files
from jaxcil.diffusion import weights
from jaxcil.diffusion.config import config_of, require
from jaxcil.diffusion.pipeline import PREDICTIONS, StableDiffusion
from jaxcil.diffusion.text_encoder import CLIPTextModel
from jaxcil.diffusion.tokenizer import read_tokenizer, write_tokenizer
from jaxcil.diffusion.unet import UNet2DCondition
from jaxcil.diffusion.vae import AutoencoderKL
from jaxcil.errors import InputError, unknown_name

# Part of a pipeline -> our class, and the library and class that model_index.json names.
PARTS = {
    "unet": (UNet2DCondition, "diffusers", "UNet2DConditionModel"),
    "vae": (AutoencoderKL, "diffusers", "AutoencoderKL"),
    "text_encoder": (CLIPTextModel, "transformers", "CLIPTextModel"),
}


def load(folder: str | os.PathLike, dtype: Any = jnp.float32) -> StableDiffusion:
    """Reads a pipeline from a folder in diffusers' format.

    Args:
      folder: holds model_index.json and the folders unet, vae, text_encoder, tokenizer and scheduler.
      dtype: of the parameters and of the networks' computations: float32 or bfloat16. (Norms, softmax,
        latents and samplers compute in float32 in any case.)

    Raises:
      InputError: the folder is not complete, or holds what is not supported; the message names it.
    """
    folder = pathlib.Path(folder)
    if not (folder / "model_index.json").is_file():
        raise InputError(
            f"{str(folder)!r} is not a folder with a Stable Diffusion pipeline: that holds model_index.json "
            f"and the folders {', '.join(PARTS)}, tokenizer and scheduler. Is it the name of a model on the "
            "hub? Download it first: huggingface_hub.snapshot_download(name) returns the folder."
        )
    index = _read_config(folder, "model_index.json")
    modules, parameters = {}, {}
    for part, (module, _, name) in PARTS.items():
        found = (index.get(part) or (None, None))[1]
        if str(found).removeprefix("Flax") != name:
            raise InputError(f"the {part} of {folder} must be a {name}, but model_index.json says {found}.")
        if not (folder / part / "config.json").is_file():
            raise InputError(f"{folder / part} has no config.json.")
        modules[part] = module.from_config(_read_config(folder / part, "config.json"), dtype=dtype)
        shapes = jax.eval_shape(modules[part].initial, jax.eval_shape(lambda: jax.random.key(0)))
        parameters[part] = jax.device_put(weights.read(folder / part, part, shapes, dtype))
    config = _read_config(folder / "scheduler", "scheduler_config.json")
    model = StableDiffusion(
        parameters=parameters,
        **modules,
        tokenizer=read_tokenizer(folder / "tokenizer"),
        scheduler=json.dumps(config, sort_keys=True),
    )
    _check(model)
    return model


def save(folder: str | os.PathLike, model: StableDiffusion, dtype: Any = jnp.float16) -> None:
    """Writes a pipeline as a folder in diffusers' format, which torch libraries read too.

    Every file is replaced as a whole, and model_index.json comes last: a folder that has it is complete.

    Args:
      folder: where to; it may exist.
      model: the model.
      dtype: of the tensors in the files: float16 or float32.

    Raises:
      InputError: a parameter is not finite, or too large for the dtype.
    """
    folder = pathlib.Path(folder)
    if np.dtype(dtype) not in (np.float16, np.float32):
        raise InputError(f"a pipeline is saved in float16 or float32, not in {np.dtype(dtype).name}.")
    _check(model)
    (folder / "model_index.json").unlink(missing_ok=True)
    for part, (_, _, name) in PARTS.items():
        weights.write(folder / part, part, model.parameters[part], dtype)
        config = config_of(getattr(model, part))
        if part == "text_encoder":
            # Not one of diffusers' classes: transformers tells the class by these two.
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


def _check(model: StableDiffusion) -> None:
    """Parts that must fit one another."""
    if model.prediction_type not in PREDICTIONS:
        raise unknown_name("prediction type of this kind", model.prediction_type, PREDICTIONS)
    text, width = model.text_encoder, model.unet.cross_attention_dim
    width = width[0] if isinstance(width, tuple) else width
    require(
        text.hidden_size == width,
        f"the UNet takes text states of {width} numbers, the text encoder gives {text.hidden_size}.",
    )
    require(
        model.tokenizer.length <= text.max_position_embeddings,
        f"the tokenizer gives {model.tokenizer.length} ids, the text encoder takes "
        f"{text.max_position_embeddings} at most.",
    )
    require(
        model.tokenizer.size <= text.vocab_size,
        f"the tokenizer knows {model.tokenizer.size} tokens, the text encoder {text.vocab_size}.",
    )


def _read_config(folder: pathlib.Path, name: str) -> dict[str, Any]:
    if not (folder / name).is_file():  # diffusers would take the folder for a name on the hub
        raise InputError(f"there is no {folder / name}. Is the folder complete?")
    from diffusers.configuration_utils import ConfigMixin  # takes 0.8 s, and only folders need it

    reader: Any = type("Reader", (ConfigMixin,), {"config_name": name})
    try:
        return reader.load_config(folder)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / name} cannot be read: {error}") from None


def _write_config(path: pathlib.Path, class_name: str, config: dict[str, Any]) -> None:
    from diffusers.configuration_utils import ConfigMixin

    writer: Any = type(class_name, (ConfigMixin,), {"config_name": path.name})()
    writer.register_to_config(**{name: value for name, value in config.items() if name[0] != "_"})
    files.write(path, writer.to_json_string())
