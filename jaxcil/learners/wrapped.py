"""A learner around another one, whose trainings see further images: what `fpcil` and `sddr` share."""

import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax.numpy as jnp
from jax import Array

from jaxcil.data.augmentation import augmentation
from jaxcil.data.augmentation.augmentation import Augmentation
from jaxcil.training.learner import Batch, Fit, Phase


@flax.struct.dataclass
class Wrapped:
    """All that the learner inside does, without a change.

    Attributes:
      learner: any learner.
    """

    learner: Any

    @property
    def frozen_after(self) -> int | None:
        """The learner's."""
        return self.learner.frozen_after

    @property
    def reading_names(self) -> tuple[str, ...]:
        """The learner's."""
        return self.learner.reading_names

    @property
    def logit_readings(self) -> tuple[str, ...]:
        """The learner's."""
        return getattr(self.learner, "logit_readings", ())

    def init(self, key: Array, example_images: Array) -> Any:
        """The learner's state."""
        return self.learner.init(key, example_images)

    def features(self, state: Any, images: Array) -> Array:
        """The learner's features [B, D]."""
        return self.learner.features(state, images)

    def readings(self, state: Any, features: Array) -> dict[str, Array]:
        """The learner's readings."""
        return self.learner.readings(state, features)

    def scores(self, state: Any, images: Array) -> Array:
        """The learner's scores [B, C]."""
        return self.learner.scores(state, images)


def passed_on(phase: Phase) -> Phase:
    """A phase of the learner inside as a phase of the one around it."""
    if isinstance(phase, Fit):
        start = None if phase.start is None else _inner(phase.start)
        return phase._replace(rows=_inner(phase.rows), fit=_inner(phase.fit), start=start)
    return phase._replace(
        parts=_inner(phase.parts), begin=_inner(phase.begin), step=_inner(phase.step), end=_inner(phase.end)
    )


@functools.lru_cache(maxsize=256)
def _inner(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of a phase, called with the learner inside; one object for each function, so that it compiles once."""

    def call(outer: Wrapped, *arguments: Any) -> Any:
        return function(outer.learner, *arguments)

    return call


def with_real_augmented(batch: Batch, changes: Augmentation | None, key: Array) -> Batch:
    """A batch whose real images alone are changed at random; None: the learner changes all alike."""
    if changes is None:
        return batch
    images = augmentation.to_float(batch.images)
    kept = batch.auxiliary[:, None, None, None]
    return batch._replace(images=jnp.where(kept, images, changes(key, images)))
