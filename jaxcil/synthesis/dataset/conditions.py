"""What the images of a data set are drawn from, beside noise: the prompt and the guidance scale of each.

Both are functions of (class, index) and of what the manifest says of the class and of all images. Several guidance
scales are taken in turn beside the templates and the phrases of the class, so that a class's images at one scale
have the same mix of prompts as at another.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxcil.errors import InputError
from jaxcil.synthesis.dataset import prompts
from jaxcil.synthesis.dataset.manifest import Manifest


def prompt_of(manifest: Manifest, label: int, index: int) -> str:
    """The prompt of image `index` of a class."""
    name = manifest.class_names[label]
    return prompts.prompt(manifest.config["templates"], name, index, manifest.phrases.get(name, ()))


def scale_of(manifest: Manifest, label: int, index: int) -> float:
    """The guidance scale of image `index` of a class."""
    scales = manifest.config["guidance_scale"]
    if not isinstance(scales, list):
        return scales
    phrases = manifest.phrases.get(manifest.class_names[label], ())
    period = len(manifest.config["templates"]) * max(1, len(phrases))
    return scales[prompts.in_turn(index, period, len(scales))]


def checked_scales(guidance_scale: float | Sequence[float]) -> float | list[float]:
    """Guidance scales as the manifest holds them: a number where there is one, else a list.

    Raises:
      InputError: there is none, or one is not a finite number.
    """
    given: list[Any] = list(guidance_scale) if isinstance(guidance_scale, tuple | list) else [guidance_scale]
    numbers = all(isinstance(scale, int | float | np.number) for scale in given)
    if not given or not numbers or not np.isfinite(given).all():
        raise InputError(
            f"guidance_scale must be finite, a number or several in a tuple, got {guidance_scale!r}."
        )
    scales = [float(scale) for scale in given]
    return scales[0] if len(scales) == 1 else scales
