"""Which images beside those of the first task an extractor is trained on: FPCIL's, its bound's, its controls'.

    plain             none
    future_proof      synthetic images of the classes to come (arXiv:2404.03200)
    real_future       real training images of the classes to come: the upper bound
    shuffled_labels   those of future_proof, their labels permuted among them: what the images give without the classes
    known_classes     as many synthetic images, of the first classes only: what more images give without new classes.
                      They come in turn from all first classes, and come again where the set has fewer

The ablations of future_proof (how many images, which share of the classes to come is known, other classes, real images
of other classes) choose among the auxiliary images; the controls follow it.
"""

import pathlib
from typing import Any, NamedTuple

import numpy as np

from jaxcil.data import datasets
from jaxcil.data.scenario import Scenario
from jaxcil.errors import InputError, unknown_name
from jaxcil.synthesis.dataset import filters
from jaxcil.synthesis.drawing.models import generate_by_name

EXTRACTORS = ("plain", "future_proof", "real_future", "shuffled_labels", "known_classes")
AUXILIARY = (
    "future_proof",
    "shuffled_labels",
    "known_classes",
)  # those that need images beside the data set's
SHUFFLE_SEED, KNOWN_SEED = 0, 0


class Auxiliary(NamedTuple):
    """Images beside the real ones of the data set."""

    images: np.ndarray  # uint8 [M, H, W, 3]
    labels: np.ndarray  # int32 [M], places in the class order; from C on, classes that will never come
    other_classes: tuple[str, ...]  # the names of those


class Selection(NamedTuple):
    """What one extractor is trained on beside the first task."""

    rows: np.ndarray  # int32 [F] into the real images and the auxiliary ones behind them
    labels: np.ndarray  # int32 [N + M] of all of them


def auxiliary(config: Any, scenario: Scenario, shape: tuple[int, int], workdir: pathlib.Path) -> Auxiliary:
    """The auxiliary images of a run, joined to its classes by name; drawn if there are none yet.

    Args:
      config: of the run; `synthetic` says where the images are or how they are drawn, `future_proof` which of them
        are taken.
      scenario: the classes.
      shape: height and width of the real images, which drawn ones get.
      workdir: a set that is drawn goes into its folder `synthetic`.

    Raises:
      InputError: an image set without the classes that are wanted, or, where neither `classes` nor
        `future_proof.classes` chooses among them, with a class that the data set does not have.
    """
    wanted = _wanted(config, scenario)
    settings = config.synthetic.to_dict()
    path, filter_name = settings.pop("path"), settings.pop("filter", None)
    if config.future_proof.source is not None:
        place = config.future_proof.source
        data = datasets.load(place, "train", config.image_size, config.data_dir)
        images, labels, names = data
    else:
        if path is None and filter_name is not None:
            raise InputError(
                "synthetic.filter is of a data set that exists; give its folder as synthetic.path, or leave the "
                "filter out"
            )
        place = workdir / "synthetic" if path is None else pathlib.Path(path)
        if path is None:
            if shape[0] != shape[1]:
                raise InputError(
                    f"images are drawn square, but those of {config.dataset} are {shape[0]} x {shape[1]}; "
                    "set image_size"
                )
            generate_by_name(place, wanted, image_size=shape[0], **settings)
        images, labels, names = filters.read(place, filter_name)
    others = tuple(name for name in config.future_proof.classes if name not in scenario.class_names)
    known = (*scenario.class_names, *others)
    if not config.future_proof.classes and config.classes is None:
        for name in names:
            if name not in known:
                raise unknown_name("class name", name, known)
    if missing := sorted(set(wanted) - set(names)):
        raise InputError(f"{place} has no images of {', '.join(missing)}; it has {', '.join(names)}")
    position = np.array([known.index(name) if name in known else -1 for name in names], np.int32)
    labels = position[labels]
    taken = np.isin(labels, [known.index(name) for name in wanted])
    if (limit := config.future_proof.images_per_class) is not None:
        future = taken & (labels >= scenario.task_sizes[0])
        counts = np.bincount(labels[future])
        if (least := int(counts[counts > 0].min())) < limit:
            raise InputError(
                f"future_proof.images_per_class is {limit}, but {place} has {least} images of "
                f"{known[int(np.flatnonzero(counts == least)[0])]}; take fewer, or more images"
            )
        taken &= (labels < scenario.task_sizes[0]) | (_number_in_class(labels) < limit)
    return Auxiliary(images[taken], labels[taken], others)


def select(name: str, scenario: Scenario, real: np.ndarray, extra: Auxiliary | None) -> Selection:
    """What an extractor is trained on beside the first task.

    Args:
      name: one of EXTRACTORS.
      scenario: the classes.
      real: int32 [N] labels of the real training images.
      extra: the auxiliary images; None if no extractor needs them.
    """
    first = scenario.task_sizes[0]
    behind = np.zeros(0, np.int32) if extra is None else extra.labels
    labels = np.concatenate([real, behind]).astype(np.int32)
    synthetic = np.arange(len(labels)) >= len(real)
    future = np.flatnonzero(synthetic & (labels >= first))
    if name == "plain":
        rows = np.zeros(0, np.int32)
    elif name == "real_future":
        rows = np.flatnonzero(~synthetic & (labels >= first))
    elif name == "known_classes":
        known = np.flatnonzero(synthetic & (labels < first))
        in_turn = np.lexsort((labels[known], _number_in_class(labels[known])))
        rows = np.resize(known[in_turn], len(future))
    else:
        rows = future
    if name == "shuffled_labels":
        labels[future] = np.random.default_rng(SHUFFLE_SEED).permutation(labels[future])
    return Selection(rows.astype(np.int32), labels)


def _wanted(config: Any, scenario: Scenario) -> tuple[str, ...]:
    """Names of the classes whose auxiliary images a run takes, of the first task only where a control asks for it."""
    first = scenario.task_sizes[0]
    future = scenario.class_names[first:]
    if not future:
        raise InputError(
            f"the first task has all {scenario.num_classes} classes, so future_proof has none to come; "
            "make first_classes smaller"
        )
    if config.future_proof.classes:
        future = tuple(config.future_proof.classes)
        if again := sorted(set(future) & set(scenario.class_names[:first])):
            raise InputError(f"future_proof.classes names classes of the first task: {', '.join(again)}")
    share = config.future_proof.known_share
    count = round(share * len(future))
    if not 0 < share <= 1 or count == 0:
        raise InputError(
            f"future_proof.known_share must leave at least one of {len(future)} classes and be at most 1, got {share}"
        )
    known = np.sort(np.random.default_rng(KNOWN_SEED).permutation(len(future))[:count])
    wanted = tuple(future[place] for place in known)
    if "known_classes" in config.extractors:
        wanted = (
            *wanted,
            *scenario.class_names[:first],
        )  # behind, so that the others are drawn as they are without
    return wanted


def _number_in_class(labels: np.ndarray) -> np.ndarray:
    """How many rows of the same label stand before each row."""
    order = np.argsort(labels, kind="stable")
    counts = np.unique(labels, return_counts=True)[1]
    numbers = np.empty(len(labels), np.int64)
    numbers[order] = np.concatenate([np.arange(count) for count in counts])
    return numbers
