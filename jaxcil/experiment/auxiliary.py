"""The auxiliary images of a run: a synthetic data set, drawn if there is none, or real images in their place."""

import dataclasses
import pathlib
from typing import NamedTuple

import numpy as np

from jaxcil.data import datasets
from jaxcil.data.scenario import Scenario
from jaxcil.errors import InputError, unknown_name
from jaxcil.experiment.fields import Settings
from jaxcil.experiment.settings import lanes
from jaxcil.experiment.variants import NEED_SYNTHETIC, VARIANTS, number_in_class
from jaxcil.synthesis.dataset import filters
from jaxcil.synthesis.drawing.models import generate_by_name

FOLDER = "synthetic"
KNOWN_SEED = 0
OF_A_SET = ("path", "filter")  # fields that say which set, not how one is drawn


class AuxiliaryImages(NamedTuple):
    """Images next to the real ones of the data set, of the classes that the run's variants ask for."""

    images: np.ndarray  # uint8 [M, H, W, 3]
    labels: np.ndarray  # int32 [M], places in the class order; from C on, classes that never come
    other_classes: tuple[str, ...]  # the names of those
    source: str  # where they are from


def needed(settings: Settings) -> bool:
    """Whether a variant of a run takes auxiliary images that are not of its data set."""
    return any(variant in NEED_SYNTHETIC for variant, _ in lanes(settings))


def load_auxiliary(
    settings: Settings, scenario: Scenario, shape: tuple[int, int], workdir: pathlib.Path
) -> AuxiliaryImages:
    """The auxiliary images of a run, joined to its classes by name; drawn if there are none yet.

    Args:
      settings: `synthetic` says where the images are or how they are drawn, `auxiliary.future` which are taken.
      scenario: the classes.
      shape: height and width of the real images, which drawn ones get.
      workdir: a set that is drawn goes into its folder `synthetic`.

    Raises:
      InputError: a set without the classes that are to be taken, or of another image size; or, where neither `classes`
        nor `auxiliary.future.classes` chooses among them, one with a class that the data set does not have.
    """
    future = settings.auxiliary.future
    chosen = _chosen(settings, scenario)
    images, labels, names, source = _read(settings, scenario, shape, workdir)
    if images.shape[1:3] != shape:
        sizes = [" x ".join(map(str, reversed(size))) for size in (images.shape[1:3], shape)]
        raise InputError(
            f"images of {source} are {sizes[0]} (width x height), those of {settings.dataset} {sizes[1]}; make them "
            "of the same size, or set image_size"
        )
    others = tuple(name for name in future.classes if name not in scenario.class_names)
    known = (*scenario.class_names, *others)
    if not future.classes and settings.classes is None:
        for name in names:
            if name not in known:
                raise unknown_name("class name", name, known)
    if missing := sorted(set(chosen) - set(names)):
        raise InputError(f"{source} has no images of {', '.join(missing)}; it has {', '.join(names)}")
    position = np.array([known.index(name) if name in known else -1 for name in names], np.int32)
    labels = position[labels]
    taken = np.isin(labels, [known.index(name) for name in chosen])
    first = scenario.task_sizes[0]
    last = scenario.num_classes - scenario.task_sizes[-1]
    limits = [
        (name, limit, of)
        for name, limit, of in (
            ("future", future.images_per_class, labels >= first),
            ("past", settings.auxiliary.past.images_per_class, labels < last),
        )
        if _takes(settings, name)
    ]
    for name, limit, of in limits:
        counts = np.bincount(labels[taken & of], minlength=1)
        least = int(counts[counts > 0].min(initial=np.iinfo(np.int32).max))
        if limit is not None and least < limit:
            raise InputError(
                f"auxiliary.{name}.images_per_class is {limit}, but {source} has {least} images of "
                f"{known[int(np.flatnonzero(counts == least)[0])]}; take fewer, or more images"
            )
    bounds = [limit for _, limit, _ in limits if limit is not None]
    if bounds and len(bounds) == len(limits):  # what no variant takes is not kept in memory
        taken &= (labels < first) | (number_in_class(labels) < max(bounds))
    return AuxiliaryImages(images[taken], labels[taken], others, source)


def _read(
    settings: Settings, scenario: Scenario, shape: tuple[int, int], workdir: pathlib.Path
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], str]:
    """Images, labels, class names and the place of a whole set."""
    synthetic, future = settings.synthetic, settings.auxiliary.future
    if future.source is not None:
        data = datasets.load(future.source, "train", settings.image_size, settings.data_dir)
        return data.images, data.labels, data.class_names, future.source
    if synthetic.path is not None:
        images, labels, names = filters.read(synthetic.path, synthetic.filter)
        return images, labels, names, synthetic.path
    if shape[0] != shape[1]:
        raise InputError(
            f"images are drawn square, but those of {settings.dataset} are {shape[1]} x {shape[0]} (width x "
            "height); set image_size"
        )
    drawing = {name: value for name, value in dataclasses.asdict(synthetic).items() if name not in OF_A_SET}
    place = workdir / FOLDER
    generate_by_name(place, _drawn_classes(settings, scenario), image_size=shape[0], **drawing)
    images, labels, names = filters.read(place, None)
    return images, labels, names, str(place)


def _drawn_classes(settings: Settings, scenario: Scenario) -> tuple[str, ...]:
    """Always all classes, whatever the variants, so that a run may grow: those to come, the first ones, then others."""
    first = scenario.task_sizes[0]
    others = [name for name in settings.auxiliary.future.classes if name not in scenario.class_names]
    return (*scenario.class_names[first:], *scenario.class_names[:first], *others)


def _chosen(settings: Settings, scenario: Scenario) -> tuple[str, ...]:
    """Names of the classes whose auxiliary images a run takes, of the first task only where a control asks for it."""
    first, settings_of = scenario.task_sizes[0], settings.auxiliary.future
    future = scenario.class_names[first:]
    if not future:
        raise InputError(
            f"the first task has all {scenario.num_classes} classes, so that none is to come; make "
            "scenario.first_classes smaller"
        )
    if settings_of.classes:
        future = settings_of.classes
        if again := sorted(set(future) & set(scenario.class_names[:first])):
            raise InputError(f"auxiliary.future.classes names classes of the first task: {', '.join(again)}")
    count = round(settings_of.known_fraction * len(future))
    if count == 0:
        raise InputError(
            f"auxiliary.future.known_fraction must leave at least one of {len(future)} classes, got "
            f"{settings_of.known_fraction}"
        )
    known = np.sort(np.random.default_rng(KNOWN_SEED).permutation(len(future))[:count])
    chosen = tuple(future[place] for place in known)
    if any("first" in VARIANTS[variant].needs for variant, _ in lanes(settings)):
        chosen = (*chosen, *scenario.class_names[:first])
    return chosen


def _takes(settings: Settings, which: str) -> bool:
    """Whether a variant of the run takes synthetic images of classes to come ("future"), or of past ones."""
    named = {variant for variant, _ in lanes(settings) if VARIANTS[variant].needs}
    return any(which in VARIANTS[variant].kinds for variant in named)
