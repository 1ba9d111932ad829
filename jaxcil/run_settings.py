"""What a run's config holds, what it may name, and what it must not say."""

import inspect
from typing import Any

import numpy as np
from ml_collections import ConfigDict, config_dict

from jaxcil import heads, recipe
from jaxcil.errors import InputError, unknown_name
from jaxcil.future_images import EXTRACTORS

# name of a run's head: its maker, and what the name says of its options
HEADS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ncm": (heads.ncm, {}),
    "ncm_euclidean": (heads.ncm, {"metric": "euclidean"}),
    "fetril": (heads.fetril, {}),
    "fetril_pycil": (heads.fetril, {"preset": "pycil"}),
    "fetril_fc": (heads.fetril, {"preset": "pycil", "classifier": "fc"}),
    "fetril_ridge": (heads.fetril, {"classifier": "ridge"}),
    "fecam": (heads.fecam, {}),
    "fecam_common": (heads.fecam, {"mode": "common"}),
    "fecam_diagonal": (heads.fecam, {"mode": "diagonal"}),
    "slda": (heads.slda, {}),
    "acil": (heads.acil, {}),
    "ds_al": (heads.ds_al, {}),
    "ranpac": (heads.ranpac, {}),
    "linear": (heads.linear, {}),
}
GROUPS_CLASSES = (heads.fetril, heads.fecam)  # they need a bound on the images of one class
EVALUATE_ON = ("test", "held_out")


def defaults() -> ConfigDict:
    """A config of `jaxcil run` with every field: the handwritten digits, 2 classes first and 2 a task."""
    config = ConfigDict()
    config.dataset = "digits"  # or a folder that holds train/CLASS/*.png and test/CLASS/*.png
    config.data_dir = config_dict.placeholder(str)
    config.image_size = config_dict.placeholder(int)
    config.classes = config_dict.placeholder(str)  # a class list, or names by commas; None takes all
    config.stream = False  # for sets that no device holds: images are read while others are trained on
    config.evaluate_on = "test"
    config.scenario = dict(first_classes=2, classes_a_task=2, task_sizes=(), class_order="seed-1993")
    config.seeds = (0, 1, 2, 3, 4)
    config.extractors = ("plain", "future_proof", "real_future")
    config.heads = ("ncm", "fetril", "fecam")
    config.head_options = {name: _options(name) for name in HEADS}
    config.extractor = dict(
        network="resnet8",
        classifier="linear",
        dtype="float32",
        steps=config_dict.placeholder(int),  # or
        epochs=config_dict.placeholder(int),  # passes over the real images of the first task
        batch_size=128,
        learning_rate=0.1,
        momentum=0.9,
        nesterov=False,
        weight_decay=5e-4,
        schedule="cosine",
        milestones=(),  # in epochs, or in steps where steps are given, as is
        warmup=0,
        label_smoothing=0.0,
        average_decay=config_dict.placeholder(float),
        augmentation=dict(
            crop=0,
            border="black",
            random_resized_crop=False,
            flip=False,
            policy=config_dict.placeholder(str),
            cutout=0,
            brightness=0.0,
            contrast=0.0,
            saturation=0.0,
            hue=0.0,
            grayscale=0.0,
            blur=0.0,
        ),
        chunk=100,
    )
    config.future_proof = dict(
        source=config_dict.placeholder(
            str
        ),  # a data set whose training images stand in for the synthetic ones
        classes=(),  # whose images are taken; empty: the classes to come. Names that never come are allowed here
        images_a_class=config_dict.placeholder(int),
        known_share=1.0,  # of the classes to come
        share=config_dict.placeholder(float),  # of a batch; None: as many as there are
        loss_weight=1.0,
        augment_alike=True,
    )
    config.synthetic = dict(
        path=config_dict.placeholder(str),  # a data set of `jaxcil generate`; None makes one
        filter=config_dict.placeholder(str),  # of that data set: only images that it keeps
        model="digits",
        templates=("a handwritten digit {}", "the digit {}", "a scan of the number {}", "{}"),
        images_a_class=200,
        guidance_scale=2.0,
        order=3,
        calls=20,
        seed=0,
        batch_size=100,
        shard_size=200,
    )
    return config


def _options(name: str) -> dict[str, Any]:
    """What may be set of a head, at its default."""
    maker, given = HEADS[name]
    decided = {*given, "preset", "images_a_class"}
    defaults = {key: value.default for key, value in inspect.signature(maker).parameters.items()}
    return {
        key: config_dict.placeholder(str) if value is None else value
        for key, value in defaults.items()
        if key not in decided
    }


def make_head(name: str, train_labels: np.ndarray, **options: Any) -> Any:
    """A head by its name.

    Args:
      name: one of HEADS.
      train_labels: int32 [N], of all training images: their largest class bounds what a head makes room for.
      **options: in addition to those of its name.

    Raises:
      InputError: a value that the head refuses.
    """
    maker, given = HEADS[name]
    options = {**given, **options}
    if maker in GROUPS_CLASSES:
        options["images_a_class"] = int(np.bincount(train_labels).max())
    return maker(**options)


def check(config: Any) -> None:
    """Refuses names that do not exist and numbers that make no sense.

    Args:
      config: a ConfigDict with the fields of `defaults`.
    """
    for kind, names, known in (
        ("head", config.heads, HEADS),
        ("extractor", config.extractors, EXTRACTORS),
        ("split to evaluate on", (config.evaluate_on,), EVALUATE_ON),
    ):
        for name in names:
            if name not in known:
                raise unknown_name(kind, name, known)
        if not names:
            raise InputError(f"the config names no {kind}; there are: {', '.join(known)}")
        if len(set(names)) < len(names):
            raise InputError(f"the config names a {kind} twice: {', '.join(names)}")
    if not config.seeds or len(set(config.seeds)) < len(config.seeds):
        raise InputError(f"seeds must be at least one number, none twice; got {config.seeds}")
    for seed in config.seeds:
        if not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise InputError(f"a seed is a whole number from 0 to 2^32 - 1, got {seed!r}")
    if config.image_size is not None and config.image_size < 1:
        raise InputError(f"image_size must be at least 1, got {config.image_size}")
    recipe.check(config.extractor)
    _check_future_proof(config.future_proof, config.extractor.batch_size)


def _check_future_proof(settings: Any, batch_size: int) -> None:
    share = settings.share
    if share is not None and not 0 < round(share * batch_size) < batch_size:
        raise InputError(
            f"future_proof.share must leave real and other images in a batch of {batch_size}, got {share}"
        )
    if settings.loss_weight < 0:
        raise InputError(f"future_proof.loss_weight must not be negative, got {settings.loss_weight}")
    if settings.images_a_class is not None and settings.images_a_class < 1:
        raise InputError(f"future_proof.images_a_class must be at least 1, got {settings.images_a_class}")
    if settings.source is not None and not settings.classes:
        raise InputError(
            "future_proof.source needs future_proof.classes, the names of the classes taken from it"
        )


def check_counts(settings: Any, group: str, *fields: str) -> None:
    """Refuses numbers below 1.

    Args:
      settings: the part of a config that has the fields.
      group: its name, for the message.
      *fields: that must be at least 1.
    """
    for field in fields:
        if settings[field] < 1:
            raise InputError(f"{group}.{field} must be at least 1, got {settings[field]}")
