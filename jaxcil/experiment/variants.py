"""Which auxiliary images a training sees next to a task's own: the table of variants.

    plain             none
    future_proof      synthetic images of the classes to come (FPCIL, arXiv:2404.03200)
    real_future       real training images of the classes to come: the upper bound
    shuffled_labels   those of future_proof, with permuted labels: what the images give without the classes
    known_classes     equally many synthetic images, of the first classes only: what more images give without new
                      classes. They come from all first classes in turn, and repeat where the set has fewer

A variant is auxiliary rows per task, their labels, and a wrapper of the learner. The settings under auxiliary.future
choose among the auxiliary images of the classes to come (how many, which classes, real images of others); the controls
follow that choice.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxcil.data.scenario import Scenario
from jaxcil.learners.fpcil import fpcil

SHUFFLE_SEED = 0


class Labels(NamedTuple):
    """Labels of the pool: int32 places in the class order; from C on, classes that never come."""

    real: np.ndarray  # [N]
    auxiliary: np.ndarray  # [M], of the rows after them

    @property
    def all(self) -> np.ndarray:
        """int32 [N + M]."""
        return np.concatenate([self.real, self.auxiliary]).astype(np.int32)


class Variant(NamedTuple):
    """A row of the table."""

    future: bool  # whether it takes synthetic images of classes to come
    known: bool  # whether it takes synthetic images of the first classes
    rows: Callable[[Scenario, Labels, int], np.ndarray]  # of the pool, added to a task
    labels: Callable[[Scenario, Labels], np.ndarray]  # int32 [N + M]
    wrap: Callable[[Any, Any], Any]  # (learner, how auxiliary images are mixed in) -> learner


class Mixing(NamedTuple):
    """How auxiliary images are mixed into batches and losses; as the attributes of `FPCIL`."""

    loss_weight: float | None
    batch_fraction: float | None
    augmentation: Any


def _none(scenario: Scenario, labels: Labels, task: int) -> np.ndarray:
    del scenario, labels, task
    return np.zeros(0, np.int32)


def _future(scenario: Scenario, labels: Labels, task: int) -> np.ndarray:
    """Auxiliary rows of classes to come."""
    if task:
        return np.zeros(0, np.int32)
    future = np.flatnonzero(labels.auxiliary >= scenario.task_sizes[0])
    return (len(labels.real) + future).astype(np.int32)


def _real_future(scenario: Scenario, labels: Labels, task: int) -> np.ndarray:
    """Real rows of classes to come."""
    return np.flatnonzero((labels.real >= scenario.task_sizes[0]) & (task == 0)).astype(np.int32)


def _known(scenario: Scenario, labels: Labels, task: int) -> np.ndarray:
    """Auxiliary rows of the first classes, equally many as of those to come."""
    known = np.flatnonzero(labels.auxiliary < scenario.task_sizes[0])
    in_turn = np.lexsort((labels.auxiliary[known], number_in_class(labels.auxiliary[known])))
    rows = np.resize(known[in_turn], len(_future(scenario, labels, task)))
    return (len(labels.real) + rows).astype(np.int32)


def _as_they_are(scenario: Scenario, labels: Labels) -> np.ndarray:
    del scenario
    return labels.all


def _shuffled(scenario: Scenario, labels: Labels) -> np.ndarray:
    """Labels permuted among the auxiliary rows of classes to come."""
    permuted, future = labels.all, _future(scenario, labels, 0)
    permuted[future] = np.random.default_rng(SHUFFLE_SEED).permutation(permuted[future])
    return permuted


def _alone(learner: Any, mixing: Mixing) -> Any:
    del mixing
    return learner


def _future_proofed(learner: Any, mixing: Mixing) -> Any:
    return fpcil(learner, **mixing._asdict())


def _bound(learner: Any, mixing: Mixing) -> Any:
    """Real images are taken as they come, whatever is set for auxiliary ones."""
    del mixing
    return fpcil(learner)


VARIANTS = {
    "plain": Variant(False, False, _none, _as_they_are, _alone),
    "future_proof": Variant(True, False, _future, _as_they_are, _future_proofed),
    "real_future": Variant(False, False, _real_future, _as_they_are, _bound),
    "shuffled_labels": Variant(True, False, _future, _shuffled, _future_proofed),
    "known_classes": Variant(True, True, _known, _as_they_are, _future_proofed),
}
NEED_SYNTHETIC = tuple(name for name, variant in VARIANTS.items() if variant.future or variant.known)


def number_in_class(labels: np.ndarray) -> np.ndarray:
    """How many rows of the same label come before each row."""
    order = np.argsort(labels, kind="stable")
    counts = np.unique(labels, return_counts=True)[1]
    numbers = np.empty(len(labels), np.int64)
    numbers[order] = np.concatenate([np.arange(count) for count in counts] or [np.zeros(0)])
    return numbers
