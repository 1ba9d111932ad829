"""How a config's `extractor` says that an extractor is made and trained."""

from typing import Any

import numpy as np

from jaxcil.data.augmentation.augmentation import Augmentation
from jaxcil.errors import InputError, unknown_name
from jaxcil.extractors.by_name import DTYPES, NETWORKS, OUTPUT_LAYERS
from jaxcil.training.optimizer import sgd


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
        "classifier": OUTPUT_LAYERS[settings.classifier](),
    }


def check(settings: Any) -> None:
    """Refuses names that do not exist and numbers that make no sense in `extractor` of a config."""
    for kind, name, known in (
        ("network", settings.network, NETWORKS),
        ("classifier", settings.classifier, OUTPUT_LAYERS),
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
