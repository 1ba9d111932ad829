"""What a synthetic image set is worth: recognised by real data, useful for real data, near to it, and not copied.

Four questions, each answered over all images and for every class alone:

- Do the images show what their labels say? Accuracy on them of a classifier trained on real images.
- Do they teach it? Accuracy on real test images of a classifier trained on them.
- Are they distributed as real images are? Fréchet and kernel distance, precision and recall, to real training images.
- Are they copies, of each other or of what the generator was trained on?

Next to every answer is that of real images: a distance has no scale of its own. The real training images are halved;
synthetic images, real test images and the second half are measured against the first, with equally many images per
class from each, since the Fréchet distance, precision and recall depend on how many there are.
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jax import Array

from jaxcil.data.datasets import ImageSet
from jaxcil.errors import InputError, unknown_name
from jaxcil.evaluation.reports.standard_errors import proportion
from jaxcil.evaluation.worth.copies import FeaturedImages, copies
from jaxcil.evaluation.worth.feature_distances import NEIGHBOURS, feature_distances
from jaxcil.evaluation.worth.judge import Judge, in_batches, train_judge
from jaxcil.evaluation.worth.settings import JudgeSettings, WorthSettings
from jaxcil.parallel import mesh
from jaxcil.synthesis.dataset.manifest import package_versions
from jaxcil.workdir.progress import Progress
from jaxcil.workdir.settings import as_dict

SCHEMA = 1
FEWEST = NEIGHBOURS + 1  # images per class of each set that is compared


class Sets(NamedTuple):
    """Images of the synthetic set's classes; labels are positions in the class names of the real training set."""

    synthetic: ImageSet
    real_train: ImageSet  # to train a judge on
    real_test: ImageSet  # to test judges on
    seen: ImageSet  # real images that the generator was trained on, in which copies are looked for


def joined(synthetic: ImageSet, real_train: ImageSet, real_test: ImageSet, seen: ImageSet) -> Sets:
    """Sets that can be compared: of one image size, with labels joined by class name.

    Raises:
      InputError: a class name that the real training images do not have, images of another size, or too few.
    """
    if not len(synthetic.labels):
        raise InputError("the synthetic set has no images; draw or import some first")
    others = {"synthetic": synthetic, "real test": real_test, "seen": seen}
    for name, data in others.items():
        if data.images.shape[1:] != real_train.images.shape[1:]:
            raise InputError(
                f"{name} images are {_size(data)} pixels, real training images {_size(real_train)}. Bring them to "
                "one size: real ones by this config's image_size, synthetic ones where they are made or imported."
            )
    given = (synthetic, real_train, real_test, seen)
    joint = [_relabelled(data, real_train.class_names) for data in given]
    labels = np.unique(joint[0].labels)
    if len(labels) < 2:
        raise InputError("the synthetic set has one class, and a classifier needs two; add images of another")
    sets = Sets(*(_of_classes(data, labels) for data in joint))
    fewest = {"synthetic": FEWEST, "real training": 2 * FEWEST, "real test": FEWEST, "seen": 1}
    for label in labels:
        for (name, least), data in zip(fewest.items(), sets):
            count = int((data.labels == label).sum())
            if count < least:
                raise InputError(
                    f"class {real_train.class_names[label]!r} has {count} {name} images, and a comparison needs "
                    f"{least}. Add some, or omit the class from the synthetic set."
                )
    return sets


def judges(sets: Sets, settings: JudgeSettings, directory: pathlib.Path) -> tuple[Judge, Judge]:
    """Judges trained on the real and on the synthetic images; a training that was stopped resumes.

    Args:
      sets: from `joined`.
      settings: how they are trained.
      directory: where their training states are saved.
    """
    from jaxcil.training.checkpoint import Checkpoints  # Orbax takes a second to import

    def trained(name: str, data: ImageSet) -> Judge:
        with (
            Checkpoints(directory / name) as checkpoints,
            Progress(f"classifier of {name} images", settings.steps, "steps") as progress,
        ):
            return train_judge(
                data, settings, checkpoints, notify=lambda report: progress.reach(report.done, report.note)
            )

    return trained("real", sets.real_train), trained("synthetic", sets.synthetic)


def evaluate(
    sets: Sets,
    by_real: Judge,
    by_synthetic: Judge,
    features: Callable[[Array], Array],
    *,
    duplicate_threshold: float,
    seed: int,
) -> dict[str, Any]:
    """The four answers, over all classes and for each as if there were no others.

    Args:
      sets: from `joined`.
      by_real: trained on the real training images.
      by_synthetic: trained on the synthetic images.
      features: uint8 images [N, H, W, 3] -> [N, D], in which images are compared.
      duplicate_threshold: two images at most this many grey levels apart are near-duplicates.
      seed: decides how the training images are halved, and which images represent a larger set.

    Returns:
      JSON values: "all", and "classes" by name, with the same fields. An estimate is {"value", "standard_error"}; an
      accuracy's standard error is over images, not over trainings.
    """
    featured = {
        name: FeaturedImages(data.images, data.labels, in_batches(features, data.images))
        for name, data in sets._asdict().items()
    }
    synthetic, real_test = sets.synthetic, sets.real_test
    right = {
        "recognised": (synthetic, _right(by_real, synthetic)),
        "real_test_trained_on_real": (real_test, _right(by_real, real_test)),
        "real_test_trained_on_synthetic": (real_test, _right(by_synthetic, real_test)),
    }
    labels = np.unique(synthetic.labels)
    drawn = {
        label: _drawn({name: _of(part, label) for name, part in featured.items()}, seed) for label in labels
    }

    def row(classes: np.ndarray) -> dict[str, Any]:
        parts = {name: _of(part, classes) for name, part in featured.items()}
        equal = {name: np.concatenate([drawn[label][name] for label in classes]) for name in drawn[labels[0]]}
        drawn_labels = np.repeat(classes, [len(drawn[label]["reference"]) for label in classes])
        hits = {name: correct[np.isin(data.labels, classes)] for name, (data, correct) in right.items()}
        return {
            "images": {name: len(part.labels) for name, part in parts.items()},
            "accuracy": {
                name: proportion(float(hit.mean()), len(hit))._asdict() for name, hit in hits.items()
            },
            "distances": feature_distances(equal, drawn_labels),
            "copies": copies(parts, equal, duplicate_threshold),
        }

    figures: dict[str, Any] = {
        "feature_dim": featured["synthetic"].features.shape[1],
        "all": row(labels),
        "classes": {},
    }
    with Progress("compared", len(labels), "classes") as progress:
        for done, label in enumerate(labels, 1):
            figures["classes"][sets.real_train.class_names[label]] = row(np.array([label]))
            progress.reach(done)
    return figures


def results(settings: WorthSettings, figures: Mapping[str, Any]) -> dict[str, Any]:
    """What worth.json holds.

    Args:
      settings: of the comparison.
      figures: from `evaluate`.
    """
    return {
        "schema": SCHEMA,
        "config": as_dict(settings),
        "versions": package_versions(),
        "device": mesh.device_kind(),
        **figures,
    }


def _drawn(of_class: Mapping[str, FeaturedImages], seed: int) -> dict[str, np.ndarray]:
    """Features of equally many images of one class: of both sets, and of two halves of the training images."""
    generator = np.random.default_rng(seed)
    synthetic, real_train, real_test = (
        generator.permutation(of_class[name].features) for name in ("synthetic", "real_train", "real_test")
    )
    half = len(real_train) // 2
    count = min(half, len(synthetic), len(real_test))
    sets = {
        "reference": real_train,
        "real_train": real_train[half:],
        "real_test": real_test,
        "synthetic": synthetic,
    }
    return {name: features[:count] for name, features in sets.items()}


def _right(judge: Judge, data: ImageSet) -> np.ndarray:
    return in_batches(judge.labels, data.images) == data.labels


def _of(part: FeaturedImages, labels: np.ndarray) -> FeaturedImages:
    kept = np.isin(part.labels, labels)
    return FeaturedImages(*(leaf[kept] for leaf in part))


def _of_classes(data: ImageSet, labels: np.ndarray) -> ImageSet:
    kept = np.isin(data.labels, labels)
    return data._replace(images=data.images[kept], labels=data.labels[kept])


def _relabelled(data: ImageSet, class_names: tuple[str, ...]) -> ImageSet:
    """Labels as positions in the real class names."""
    for name in data.class_names:
        if name not in class_names:
            raise unknown_name("class name", name, class_names)
    positions = np.array([class_names.index(name) for name in data.class_names], np.int32)
    return ImageSet(data.images, positions[data.labels], class_names)


def _size(data: ImageSet) -> str:
    return " x ".join(str(side) for side in data.images.shape[1:3])
