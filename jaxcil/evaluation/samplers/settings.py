"""Settings of `jaxcil compare-samplers` and `jaxcil calibrate-sampler`."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from jaxcil.errors import InputError
from jaxcil.evaluation.samplers.compared import DATA, SAMPLERS
from jaxcil.evaluation.worth.settings import JudgeSettings
from jaxcil.solvers import NoiseScale, phi, power, product, strength
from jaxcil.synthesis.dataset import prompts
from jaxcil.workdir.settings import config_dict, field, group, resolve

TEMPLATES = ("a handwritten digit {}", "the digit {}", "a scan of the number {}", "{}")
SEEDS: dict[str, Any] = {"low": 0, "below": 2**32}
POSITIVE = 1e-6  # the least value of what must not be 0
# Noise scales by name: their parameters, and how they are made of them
FAMILIES: dict[str, tuple[tuple[str, ...], Callable[..., NoiseScale]]] = {
    "strength": (("s",), lambda s: strength(phi(7), s)),
    "power": (("eta",), power),
    "product": (("s", "eta"), lambda s, eta: product(strength(phi(7), s), power(eta))),
}


@dataclasses.dataclass(frozen=True)
class LimitSettings:
    """Images that represent the model's own distribution.

    With 50 calls from the same noise ER-ODE is 0.0015 from its images with 100 calls, a thirtieth of the distance
    between two sets of 1,000 images.
    """

    sampler: str = field("er_ode_3_corrector", "that draws the limit", choices=SAMPLERS)
    nfe: int = field(100, "denoiser calls per image", low=2)
    images: int = field(1000, "a multiple of digits.batch_size", low=10)
    seed: int = field(1000, "of their noise, none of digits.seeds", **SEEDS)


@dataclasses.dataclass(frozen=True)
class DigitsSettings:
    """A text-to-image model, and real images that it is compared with."""

    model: str = field("digits", "or a folder with a Stable Diffusion 1.x or 2.x of diffusers")
    dataset: str = field(
        "digits", "real images: the judge learns its train split, its test split is compared with"
    )
    data_dir: str | None = field(None, "where data sets are kept; none: the usual folder")
    generator_split: str = field("generator", "the split of the real images that the model was trained on")
    templates: tuple[str, ...] = field(TEMPLATES, "prompts, with {} for the class name")
    nfe: tuple[int, ...] = field((5, 7, 10, 20, 50), "denoiser calls per image, rising", low=2, high=1000)
    seeds: tuple[int, ...] = field((0, 1, 2), "of the noise, one per repetition", **SEEDS)
    images: int = field(500, "per sampler, calls and seed; a multiple of batch_size", low=10)
    batch_size: int = field(100, "images per call of the model", low=1)
    limit: LimitSettings = group(LimitSettings)
    judge: JudgeSettings = group(JudgeSettings)


@dataclasses.dataclass(frozen=True)
class ComparisonSettings:
    """What `jaxcil compare-samplers` measures."""

    samplers: tuple[str, ...] = field(tuple(SAMPLERS), "that are compared", choices=SAMPLERS)
    data: tuple[str, ...] = field(tuple(DATA), "that samplers are compared on", choices=DATA)
    nfe: tuple[int, ...] = field(
        (5, 7, 10, 15, 20, 30, 50, 100), "denoiser calls on all data but digits, rising", low=2, high=1000
    )
    seed: int = field(0, "of the mixtures", **SEEDS)
    repetitions: int = field(8, "on the mixtures", low=1)
    points: int = field(8192, "drawn from a mixture by each sampler", low=8)
    directions: int = field(64, "of the sliced Wasserstein distance", low=1)
    order_nfe: tuple[int, ...] = field(
        (10, 20, 40, 80, 160, 320, 640, 1280),
        "denoiser calls, even and rising, of the orders; none: no orders",
        low=4,
    )
    digits: DigitsSettings = group(DigitsSettings)


@dataclasses.dataclass(frozen=True)
class ParameterSettings:
    """Parameters to start from; those that a family does not have are not used. Nearly phi 7, the paper's default."""

    s: float = field(1.0, "factor of phi 7", low=POSITIVE)
    eta: float = field(0.02, "exponent of the power", low=POSITIVE)


@dataclasses.dataclass(frozen=True)
class CalibrationSettings:
    """What `jaxcil calibrate-sampler` fits. A batch has P = classes x templates prompts, and R latents of each."""

    model: str = field("digits", "or a folder with a Stable Diffusion 1.x or 2.x of diffusers")
    class_names: tuple[str, ...] = field(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
        "all drawn equally often",
    )
    templates: tuple[str, ...] = field(TEMPLATES, "prompts, with {} for the class name; all equally often")
    guidance_scale: float = field(2.0, "1: no guidance")
    nfe: int = field(10, "denoiser calls that the noise scale is fitted for", low=1)
    order: int = field(3, "of the solver", low=1, high=3)
    derivative: str = field("corrected", "of the solver", choices=("published", "corrected"))
    start: str = field("euler", "of the solver", choices=("euler", "corrector"))
    family: str = field("product", "of noise scales", choices=FAMILIES)
    parameters: ParameterSettings = group(ParameterSettings)
    images_per_prompt: int = field(2, "R, of a batch", low=2)
    reference_nfe: int = field(40, "denoiser calls of the reference, more than nfe", low=2)
    reference_batches: int = field(6, "of the reference, for each seed", low=1)
    steps: int = field(60, "of the fit", low=1)
    learning_rate: float = field(0.15, "of the fit, in log parameters", low=POSITIVE)
    seed: int = field(0, "of the noise that the fit sees", **SEEDS)
    held_out_seeds: tuple[int, ...] = field((11, 12, 13, 14, 15, 16), "of noise that judges the fit", **SEEDS)
    held_out_batches: int = field(6, "for each held-out seed", low=1)


def comparison_defaults() -> Any:
    """A ConfigDict with every field of `jaxcil compare-samplers`: all samplers on all data."""
    return config_dict(ComparisonSettings)


def calibration_defaults() -> Any:
    """A ConfigDict with every field of `jaxcil calibrate-sampler`: the embedded generator at 10 calls."""
    return config_dict(CalibrationSettings)


def comparison_settings(config: Any) -> ComparisonSettings:
    """The settings of a ConfigDict.

    Raises:
      InputError: a value that its field does not take, or values that do not go together.
    """
    settings: ComparisonSettings = resolve(ComparisonSettings, config)
    digits = settings.digits
    for name, names in (("samplers", settings.samplers), ("data", settings.data)):
        if not names or len(set(names)) < len(names):
            raise InputError(f"{name} must be one name or more, none twice; got {', '.join(names) or 'none'}")
    _check_rising("nfe", settings.nfe)
    _check_rising("digits.nfe", digits.nfe)
    if settings.order_nfe:
        _check_rising("order_nfe", settings.order_nfe)
    if any(nfe % 2 for nfe in settings.order_nfe):
        raise InputError(f"order_nfe must be even numbers, got {settings.order_nfe}")
    for name, images in (("digits.images", digits.images), ("digits.limit.images", digits.limit.images)):
        if images % digits.batch_size:
            raise InputError(f"{name} must be a multiple of digits.batch_size, got {images}")
    seeds = (*digits.seeds, digits.limit.seed)
    if len(seeds) < 2 or len(set(seeds)) < len(seeds):
        raise InputError(f"digits.seeds and digits.limit.seed must differ, got {seeds}")
    prompts.check_templates(digits.templates)
    return settings


def calibration_settings(config: Any) -> CalibrationSettings:
    """The settings of a ConfigDict.

    Raises:
      InputError: a value that its field does not take, or values that do not go together.
    """
    settings: CalibrationSettings = resolve(CalibrationSettings, config)
    prompts.check_class_names(settings.class_names)
    prompts.check_templates(settings.templates)
    if settings.reference_nfe <= settings.nfe:
        raise InputError(
            f"the reference needs more calls than the {settings.nfe} that are fitted, got {settings.reference_nfe}"
        )
    seeds = settings.held_out_seeds
    if len(seeds) < 2 or len({*seeds, settings.seed}) < len(seeds) + 1:
        raise InputError(
            f"held-out seeds must be two or more, all different and none that of the fit ({settings.seed}), got {seeds}"
        )
    return settings


def _check_rising(name: str, numbers: Sequence[int]) -> None:
    if not numbers or list(numbers) != sorted(set(numbers)):
        raise InputError(f"{name} must be rising numbers, got {tuple(numbers)}")
