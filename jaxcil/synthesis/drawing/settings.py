"""Settings of `jaxcil generate` and `jaxcil plan-pod`."""

import dataclasses
from typing import Any

import numpy as np

from jaxcil.data.encoding import FORMATS
from jaxcil.synthesis.dataset.prompts import PHOTO_TEMPLATES, SYNONYMS
from jaxcil.workdir.settings import as_dict, config_dict, field, resolve

DTYPES = ("float32", "bfloat16")
LARGEST_SEED = 2**32 - 1


@dataclasses.dataclass(frozen=True)
class GenerateSettings:
    """What is drawn, by which model and how."""

    model: str = field(
        "digits",
        "an embedded generator (digits), a folder with a Stable Diffusion 1.x or 2.x in diffusers' format, or "
        "OWNER/MODEL on the Hugging Face hub",
    )
    revision: str | None = field(None, "of OWNER/MODEL: a branch, a tag or a commit; none: main")
    variant: str | None = field(None, "the tag in the names of the model's weights, such as fp16")
    dtype: str | None = field(
        None, "of the networks; none: float32 on a CPU, bfloat16 elsewhere", choices=DTYPES
    )
    class_names: tuple[str, ...] = field((), "the classes, in the order of their labels")
    class_list: str | None = field(
        None,
        "in place of class_names: cifar10, cifar100, imagenet1k, tfds:BUILDER, or a file with a class per line "
        "(synonyms after commas, a definition after a semicolon)",
    )
    synonyms: str = field(
        "first", "which of the list's names for a class the prompts use; all: in turn", choices=SYNONYMS
    )
    templates: tuple[str, ...] = field(
        PHOTO_TEMPLATES, "prompts, taken in turn: {} is the class, {a|b} a choice"
    )
    negative_prompt: str = field("", "what to avoid, in all images")
    images_per_class: int = field(100, "images of each class", low=1, high=10**9)
    guidance_scale: tuple[float, ...] = field(
        (2.0,), "of classifier-free guidance, 1 is none; several are taken in turn"
    )
    order: int = field(3, "of the ER-SDE solver", low=1, high=3)
    nfe: int = field(20, "network calls per image", low=1, high=1000)
    plan: str | None = field(None, "plan.json of `jaxcil calibrate-sampler`, in place of order and nfe")
    seed: int = field(0, "of all noise", low=0, high=LARGEST_SEED)
    batch_size: int = field(8, "images per device and call", low=1, high=10**6)
    shard_size: int = field(1000, "images per file, at most lost by an interruption", low=1, high=10**9)
    image_size: int | None = field(
        None, "side of the stored images in pixels; none: the model's own size", low=1, high=2**14
    )
    format: str = field("png", "of the stored images; older TensorFlow cannot read webp", choices=FORMATS)
    quality: int | None = field(None, "of jpeg (none: 95) or webp (none: lossless)", low=1, high=100)
    licence: str | None = field(None, "of the images, for their card; none: that in the model's card")
    worker: str | None = field(
        None, "0/4: the first of four processes on hosts that do not see each other's locks"
    )


@dataclasses.dataclass(frozen=True)
class PodSettings:
    """What `jaxcil plan-pod` assumes in addition to the settings of `generate`."""

    images: int = field(10**6, "images to draw", low=1, high=10**15)
    utilization: float = field(0.4, "fraction of the chips' peak that is reached", low=1e-6, high=1.0)
    compiles: int = field(
        2, "maximum number of compilations; 1 does not look for the largest batch", low=1, high=100
    )


def defaults() -> Any:
    """The ConfigDict of a `generate` config; a config file changes what differs."""
    return config_dict(GenerateSettings)


def check(**values: Any) -> None:
    """Refuses values of fields of `GenerateSettings` that are of another type or out of range.

    Raises:
      InputError: names the field.
    """
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
    resolve(GenerateSettings, as_dict(GenerateSettings()) | plain)
