"""Which auxiliary images a training sees next to a task's own: the table of variants.

    plain                 none

    future_proof          synthetic images of the classes to come, in the first training (FPCIL, arXiv:2404.03200)
    real_future           real training images of the classes to come: the upper bound
    shuffled_labels       those of future_proof, with permuted labels: what the images give without the classes
    known_classes         equally many synthetic images, of the first classes only: what more images give without new
                          classes. They come from all first classes in turn, and repeat where the set has fewer

    sddr                  synthetic images of past classes, in every later training (SDDR, arXiv:2306.17560), in both
    sddr_classification   of its losses; or in one of them alone
    sddr_distillation
    real_past             real training images of the past classes in their place: the upper bound
    sddr_shuffled_labels  those of sddr, with permuted labels
    sddr_wrong_classes    equally many synthetic images of other classes, labelled as past ones, one class as another

    future_proof_sddr     both

A variant is auxiliary rows per task, their labels, and a wrapper of the learner. The settings under auxiliary.future
choose among the auxiliary images of the classes to come (how many, which classes, real images of others), those under
auxiliary.past among those of past classes; the controls follow that choice.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxcil.data.scenario import Scenario
from jaxcil.learners.fpcil import fpcil
from jaxcil.learners.sddr import sddr

SHUFFLE_SEED = 0


class Labels(NamedTuple):
    """Labels of the pool: int32 places in the class order; from C on, classes that never come."""

    real: np.ndarray  # [N]
    auxiliary: np.ndarray  # [M], of the rows after them
    most_future: int | None = (
        None  # images of each class to come, and of each past class, that a variant takes
    )
    most_past: int | None = None

    @property
    def all(self) -> np.ndarray:
        """int32 [N + M]."""
        return np.concatenate([self.real, self.auxiliary]).astype(np.int32)


class Variant(NamedTuple):
    """A row of the table."""

    needs: tuple[str, ...]  # synthetic images: of the classes to come ("future"), of the first ones ("first")
    rows: Callable[[Scenario, Labels, int], np.ndarray]  # of the pool, added to a task
    labels: Callable[[Scenario, Labels, int], np.ndarray]  # int32 [N + M], as a task sees them
    wrap: Callable[[Any, "Mixing"], Any]  # learner -> learner
    kinds: tuple[str, ...] = ()  # whose images it adds: of classes to come ("future"), of past ones ("past")
    one_loss: bool = False  # whether it differs from another variant in the distillation loss alone


class FutureMixing(NamedTuple):
    """How images of classes to come are mixed into batches and losses; as the attributes of `FPCIL`."""

    loss_weight: float | None
    batch_fraction: float | None
    augmentation: Any


class PastMixing(NamedTuple):
    """How images of past classes are; as the attributes of `SDDR`."""

    batch_fraction: float
    classification_weight: float | None
    distillation_weight: float | None
    on_top: bool
    balanced: bool
    augmentation: Any


class Mixing(NamedTuple):
    """Of both kinds."""

    future: FutureMixing
    past: PastMixing


NOTHING = np.zeros(0, np.int32)


def _none(scenario: Scenario, labels: Labels, task: int) -> np.ndarray:
    del scenario, labels, task
    return NOTHING


def _future(scenario: Scenario, labels: Labels, task: int) -> np.ndarray:
    """Auxiliary rows of classes to come."""
    if task:
        return NOTHING
    future = (labels.auxiliary >= scenario.task_sizes[0]) & _within(labels.auxiliary, labels.most_future)
    return (len(labels.real) + np.flatnonzero(future)).astype(np.int32)


def _real_future(scenario: Scenario, labels: Labels, task: int) -> np.ndarray:
    """Real rows of classes to come."""
    return np.flatnonzero((labels.real >= scenario.task_sizes[0]) & (task == 0)).astype(np.int32)


def _known(scenario: Scenario, labels: Labels, task: int) -> np.ndarray:
    """Auxiliary rows of the first classes, equally many as of those to come."""
    known = np.flatnonzero(labels.auxiliary < scenario.task_sizes[0])
    in_turn = np.lexsort((labels.auxiliary[known], number_in_class(labels.auxiliary[known])))
    rows = np.resize(known[in_turn], len(_future(scenario, labels, task)))
    return (len(labels.real) + rows).astype(np.int32)


def _past(scenario: Scenario, labels: Labels, task: int) -> np.ndarray:
    """Auxiliary rows of past classes."""
    past = labels.auxiliary < sum(scenario.task_sizes[:task])
    rows = np.flatnonzero(past & _within(labels.auxiliary, labels.most_past))
    return (len(labels.real) + rows).astype(np.int32)


def _real_past(scenario: Scenario, labels: Labels, task: int) -> np.ndarray:
    """Real rows of past classes, at most as many of each as `most_past`."""
    past = labels.real < sum(scenario.task_sizes[:task])
    return np.flatnonzero(past & _within(labels.real, labels.most_past)).astype(np.int32)


def _of_others(scenario: Scenario, labels: Labels, task: int) -> np.ndarray:
    """Auxiliary rows of the classes whose images take the place of past ones."""
    replaced = _wrong(scenario, labels.auxiliary)
    past = (replaced >= 0) & (replaced < sum(scenario.task_sizes[:task]))
    rows = np.flatnonzero(past & _within(labels.auxiliary, labels.most_past))
    return (len(labels.real) + rows).astype(np.int32)


def _future_then_past(scenario: Scenario, labels: Labels, task: int) -> np.ndarray:
    return (_past if task else _future)(scenario, labels, task)


def _as_they_are(scenario: Scenario, labels: Labels, task: int) -> np.ndarray:
    del scenario, task
    return labels.all


def _shuffled(rows: Callable[[Scenario, Labels, int], np.ndarray]) -> Callable[..., np.ndarray]:
    """Labels permuted among some auxiliary rows of a task."""

    def labels_of(scenario: Scenario, labels: Labels, task: int) -> np.ndarray:
        permuted, chosen = labels.all, rows(scenario, labels, task)
        permuted[chosen] = np.random.default_rng(SHUFFLE_SEED).permutation(permuted[chosen])
        return permuted

    return labels_of


def _wrongly_labelled(scenario: Scenario, labels: Labels, task: int) -> np.ndarray:
    """Auxiliary images with the label of the class whose place they take."""
    del task
    wrong = labels.all
    wrong[len(labels.real) :] = _wrong(scenario, labels.auxiliary)
    return wrong


def _wrong(scenario: Scenario, labels: np.ndarray) -> np.ndarray:
    """For the class c that is the first task's size behind it in the circle of classes; others have none, -1."""
    total = scenario.num_classes
    return np.where(labels < total, (labels - scenario.task_sizes[0]) % total, -1)


def _alone(learner: Any, mixing: Mixing) -> Any:
    del mixing
    return learner


def _future_proofed(learner: Any, mixing: Mixing) -> Any:
    return fpcil(learner, **mixing.future._asdict())


def _bound(learner: Any, mixing: Mixing) -> Any:
    """Real images are taken as they come, whatever is set for auxiliary ones."""
    del mixing
    return fpcil(learner)


def _with_past(**changes: Any) -> Callable[[Any, Mixing], Any]:
    def wrap(learner: Any, mixing: Mixing) -> Any:
        return sddr(learner, **mixing.past._replace(**changes)._asdict())

    return wrap


def _with_both(learner: Any, mixing: Mixing) -> Any:
    return sddr(_future_proofed(learner, mixing), **mixing.past._asdict())


# real images are taken as they come, whatever is set for synthetic ones
REAL = {"augmentation": None, "classification_weight": None, "distillation_weight": None}
EVERY = ("future", "first")
FUTURE, PAST = ("future",), ("past",)
VARIANTS = {
    "plain": Variant((), _none, _as_they_are, _alone),
    "future_proof": Variant(FUTURE, _future, _as_they_are, _future_proofed, FUTURE),
    "real_future": Variant((), _real_future, _as_they_are, _bound, FUTURE),
    "shuffled_labels": Variant(FUTURE, _future, _shuffled(_future), _future_proofed, FUTURE),
    "known_classes": Variant(EVERY, _known, _as_they_are, _future_proofed, FUTURE),
    "sddr": Variant(EVERY, _past, _as_they_are, _with_past(), PAST),
    "sddr_classification": Variant(
        EVERY, _past, _as_they_are, _with_past(distillation_weight=0.0), PAST, True
    ),
    "sddr_distillation": Variant(
        EVERY, _past, _as_they_are, _with_past(classification_weight=0.0), PAST, True
    ),
    "real_past": Variant((), _real_past, _as_they_are, _with_past(**REAL), PAST),
    "sddr_shuffled_labels": Variant(EVERY, _past, _shuffled(_past), _with_past(), PAST),
    "sddr_wrong_classes": Variant(EVERY, _of_others, _wrongly_labelled, _with_past(), PAST),
    "future_proof_sddr": Variant(EVERY, _future_then_past, _as_they_are, _with_both, (*FUTURE, *PAST)),
}
NEED_SYNTHETIC = tuple(name for name, variant in VARIANTS.items() if variant.needs)


def _within(labels: np.ndarray, most: int | None) -> np.ndarray:
    """Whether a row is one of the first of its class."""
    return np.ones(len(labels), bool) if most is None else number_in_class(labels) < most


def number_in_class(labels: np.ndarray) -> np.ndarray:
    """How many rows of the same label come before each row."""
    order = np.argsort(labels, kind="stable")
    counts = np.unique(labels, return_counts=True)[1]
    numbers = np.empty(len(labels), np.int64)
    numbers[order] = np.concatenate([np.arange(count) for count in counts] or [np.zeros(0)])
    return numbers
