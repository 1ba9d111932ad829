"""How a config's `extractor` says that an extractor is made and trained."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil.data.augment import Augmentation
from jaxcil.errors import InputError, unknown_name
from jaxcil.extractors.classifier import Cosine, Linear
from jaxcil.extractors.resnet import ResNet18
from jaxcil.extractors.resnet_cifar import ResNetCIFAR
from jaxcil.extractors.resnet_rebuffi import ResNetRebuffi
from jaxcil.training.optimizer import sgd

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "resnet8": functools.partial(ResNetCIFAR, blocks=1),
    "resnet14": functools.partial(ResNetCIFAR, blocks=2),
    "resnet20": functools.partial(ResNetCIFAR, blocks=3),
    "resnet32": functools.partial(ResNetCIFAR, blocks=5),
    "resnet32_lucir": functools.partial(ResNetCIFAR, blocks=5, shortcut="B", last_relu=False),
    "resnet32_podnet": ResNetRebuffi,
    "resnet18": functools.partial(ResNet18, stem="cifar"),
    "resnet18_pycil": functools.partial(ResNet18, stem="pycil"),
    "resnet18_imagenet": functools.partial(ResNet18, stem="imagenet"),
}
SIGNED = ("resnet32_lucir", "resnet32_podnet")  # no ReLU at their end: features of both signs
CLASSIFIERS = {"linear": Linear, "cosine": Cosine}
DTYPES = ("float32", "bfloat16")


def network(settings: Mapping[str, Any], convolution: Callable[..., Array]) -> nn.Module:
    """The network of an extractor.

    Args:
      settings: `extractor` of a config.
      convolution: what computes its convolutions.
    """
    return NETWORKS[settings["network"]](convolution=convolution, dtype=jnp.dtype(settings["dtype"]))


def training(settings: Any, first_task_images: int) -> dict[str, Any]:
    """The attributes of `FPCIL` that are about its first training.

    Args:
      settings: `extractor` of a config. Where it counts in epochs, an epoch is a pass over the real images of the
        first task, whatever other images the extractor sees: all variants take the same steps.
      first_task_images: how many they are.

    Raises:
      InputError: not exactly one of steps and epochs, or a number that makes no sense.
    """
    if (settings.steps is None) == (settings.epochs is None):
        raise InputError(
            f"give extractor.steps or extractor.epochs, one of them; got {settings.steps}, {settings.epochs}"
        )
    for field, low, high in (
        *(
            ("learning_rate", 0, np.inf),
            ("weight_decay", 0, np.inf),
            ("momentum", 0, 1),
            ("warmup", 0, np.inf),
        ),
    ):
        if not low <= settings[field] < high:
            raise InputError(f"extractor.{field} must lie in [{low}, {high}), got {settings[field]}")
    length, kind = (settings.steps, "steps") if settings.epochs is None else (settings.epochs, "epochs")
    for field, last in (("warmup", settings.warmup), ("milestones", max(settings.milestones, default=0))):
        if last >= length:
            raise InputError(
                f"extractor.{field} must end before the training does, after {length} {kind}; got {last}"
            )
    unit = 1 if settings.epochs is None else max(1, first_task_images // settings.batch_size)
    return {
        "steps": length * unit,
        "optimizer": sgd(
            settings.learning_rate,
            settings.weight_decay,
            momentum=settings.momentum,
            schedule=settings.schedule,
            milestones=tuple(milestone * unit for milestone in settings.milestones),
            warmup_steps=settings.warmup * unit,
            nesterov=settings.nesterov,
        ),
        "augmentation": Augmentation(**settings.augmentation),
        "label_smoothing": settings.label_smoothing,
        "average_decay": settings.average_decay,
        "classifier": CLASSIFIERS[settings.classifier](),
    }


def check(settings: Any) -> None:
    """Refuses names that do not exist and numbers that make no sense in `extractor` of a config."""
    for kind, name, known in (
        ("network", settings.network, NETWORKS),
        ("classifier", settings.classifier, CLASSIFIERS),
        ("dtype", settings.dtype, DTYPES),
    ):
        if name not in known:
            raise unknown_name(kind, name, known)
    for field in ("steps", "epochs", "batch_size", "chunk"):
        if settings[field] is not None and settings[field] < 1:
            raise InputError(f"extractor.{field} must be at least 1, got {settings[field]}")
    training(settings, first_task_images=settings.batch_size)
    if not 0 <= settings.label_smoothing < 1:
        raise InputError(f"extractor.label_smoothing must lie in [0, 1), got {settings.label_smoothing}")
    if settings.average_decay is not None and not 0 <= settings.average_decay < 1:
        raise InputError(f"extractor.average_decay must lie in [0, 1), got {settings.average_decay}")
