"""Converts pipelines that `load` does not read into a folder that it does, with diffusers and torch.

Needs the extra "convert". Pickles are read with torch's restricted unpickler, which runs no code.
"""

import importlib
import os
import pathlib
import shutil
from typing import Any

from jaxcil.diffusion import hub
from jaxcil.diffusion.folder import SAVED, load
from jaxcil.errors import InputError, unknown_name
from jaxcil.workdir import files

SINGLE_FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
SCHEDULER = pathlib.PurePath("scheduler", "scheduler_config.json")


def convert(
    source: str | os.PathLike,
    target: str | os.PathLike,
    dtype: str = "float16",
    *,
    config_folder: str | os.PathLike | None = None,
    lora: str | os.PathLike | None = None,
    lora_scale: float = 1.0,
) -> None:
    """Writes a pipeline as a folder of safetensors.

    Additions to the weights are merged in float32, and the result is rounded once. It is read back with `load` before
    it gets its name, so the folder is complete and valid, or absent.

    Args:
      source: a folder in diffusers' format with weights in any form; a single file with the key names of the original
        code; or OWNER/MODEL on the hub.
      target: the folder to write; it must not exist.
      dtype: of the tensors in the files: "float16", "bfloat16" or "float32".
      config_folder: for a single file: a folder in diffusers' format of the same networks, for configurations,
        tokenizer and scheduler; None: diffusers guesses, and asks the hub.
      lora: a file of low-rank additions (Hu et al., arXiv:2106.09685), to be merged into the weights.
      lora_scale: factor of these additions.

    Raises:
      InputError: the extra is not installed; the source is not recognised; the target exists; or the result is not
        a pipeline that `load` reads.
    """
    if dtype not in SAVED:
        raise unknown_name("dtype to save a pipeline in", dtype, SAVED)
    _check_source(source, config_folder)
    if lora is not None and not pathlib.Path(lora).is_file():
        raise InputError(f"there is no file {lora} with a LoRA.")
    _require_extra()
    torch = importlib.import_module("torch")
    with files.atomic_folder(target) as aside:
        try:
            pipeline, origin = _loaded(source, config_folder)
            parts = (pipeline.unet, pipeline.vae, pipeline.text_encoder)
            if lora is not None:
                for part in parts:
                    part.to(torch.float32)
                _merge(pipeline, pathlib.Path(lora), lora_scale)
            for part in parts:
                part.to(getattr(torch, dtype))
            pipeline.save_pretrained(aside, safe_serialization=True)
        except InputError:
            raise
        except Exception as error:  # errors of diffusers, transformers and torch have no common class
            raise InputError(f"{source} cannot be converted: {error or repr(error)}") from error
        if origin is not None and (origin / SCHEDULER).is_file():
            # diffusers would write its present defaults into it; an absent key means each sampler's own default
            shutil.copyfile(origin / SCHEDULER, aside / SCHEDULER)
        del pipeline, parts
        load(aside)


def _check_source(source: str | os.PathLike, config_folder: str | os.PathLike | None) -> None:
    path = pathlib.Path(source)
    if path.is_file():
        if path.suffix not in SINGLE_FILES:
            raise unknown_name("kind of single file", path.suffix, SINGLE_FILES)
        if config_folder is not None and not (pathlib.Path(config_folder) / hub.INDEX).is_file():
            raise InputError(
                f"{config_folder} holds no {hub.INDEX}: it must be a folder in diffusers' format."
            )
        return
    if config_folder is not None:
        raise InputError(f"a config folder is for single files, and {source} is not one.")
    if path.is_dir() and not (path / hub.INDEX).is_file():
        raise InputError(
            f"{source} holds no {hub.INDEX}: give a folder in diffusers' format, or a single file."
        )
    if not path.is_dir() and not (isinstance(source, str) and hub.is_name(source)):
        raise InputError(f"there is no {source}; give a folder, a single file, or OWNER/MODEL on the hub.")


def _require_extra() -> None:
    for name in ("torch", "transformers", "peft"):
        try:
            importlib.import_module(name)
        except ImportError:
            raise InputError(
                f'converting needs {name}, which is not installed: pip install "jaxcil[convert]"'
            ) from None


def _loaded(
    source: str | os.PathLike, config_folder: str | os.PathLike | None
) -> tuple[Any, pathlib.Path | None]:
    """The pipeline, and the folder of its scheduler."""
    kind: Any = importlib.import_module("diffusers").StableDiffusionPipeline
    without = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    if not pathlib.Path(source).is_file():
        folder = source if pathlib.Path(source).is_dir() else kind.download(str(source), **without)
        return kind.from_pretrained(folder, **without), pathlib.Path(folder)
    if config_folder is not None:
        pipeline = kind.from_single_file(
            str(source), config=str(config_folder), local_files_only=True, **without
        )
        return pipeline, pathlib.Path(config_folder)
    try:
        return kind.from_single_file(str(source), **without), None
    except Exception as error:
        raise InputError(
            f"{source} cannot be converted: {error} Its configurations were requested from the hub; if that cannot be "
            "reached, give a folder that holds them: --config_folder=FOLDER."
        ) from error


def _merge(pipeline: Any, file: pathlib.Path, scale: float) -> None:
    """Adds scale alpha / rank B A to the weights that a LoRA names."""
    try:
        pipeline.load_lora_weights(str(file.parent), weight_name=file.name)
    except Exception as error:
        raise InputError(f"{file} cannot be read as a LoRA of this pipeline: {error}") from error
    if not pipeline.get_list_adapters():
        raise InputError(f"{file} holds no low-rank additions to the networks of this pipeline.")
    pipeline.fuse_lora(lora_scale=scale)
    pipeline.unload_lora_weights()
