"""What a run's config holds, what it may name, and what it must not say."""

from typing import Any

import numpy as np
from ml_collections import ConfigDict, config_dict

from jaxcil import heads
from jaxcil.errors import InputError, unknown_name
from jaxcil.experiment import recipe
from jaxcil.experiment.auxiliary import AUXILIARY, EXTRACTORS
from jaxcil.extractors.by_name import SIGNED
from jaxcil.heads.by_name import HEADS, default_options, make_head

EVALUATE_ON = ("test", "held_out")
STREAMS = ("whole", "random")


def defaults() -> Any:
    """A ConfigDict of `jaxcil run` with every field: the handwritten digits, 2 classes first and 2 a task."""
    config = ConfigDict()
    config.dataset = "digits"  # or a folder that holds train/CLASS/*.png and test/CLASS/*.png
    config.data_dir = config_dict.placeholder(str)
    config.image_size = config_dict.placeholder(int)
    config.classes = config_dict.placeholder(str)  # a class list, or names by commas; None takes all
    # For sets that no device holds, images are read while others are trained on, the same for all seeds: "whole"
    # brings them to image_size, "random" is a random resized crop for training and the middle for evaluation
    config.stream = config_dict.placeholder(str)
    config.evaluate_on = "test"
    config.scenario = dict(first_classes=2, classes_per_task=2, task_sizes=(), class_order="seed-1993")
    config.seeds = (0, 1, 2, 3, 4)
    config.extractors = ("plain", "future_proof", "real_future")
    config.heads = ("ncm", "fetril", "fecam")
    config.head_options = {name: default_options(name) for name in HEADS}
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
        images_per_class=config_dict.placeholder(int),
        known_share=1.0,  # of the classes to come
        share=config_dict.placeholder(
            float
        ),  # of a batch; None, and always for the bound: as many as there are
        loss_weight=1.0,
        augment_alike=True,
    )
    config.synthetic = dict(
        path=config_dict.placeholder(str),  # a data set of `jaxcil generate`; None makes one
        filter=config_dict.placeholder(str),  # of that data set: only images that it keeps
        model="digits",
        templates=("a handwritten digit {}", "the digit {}", "a scan of the number {}", "{}"),
        images_per_class=200,
        guidance_scale=2.0,
        order=3,
        calls=20,
        seed=0,
        batch_size=100,
        shard_size=200,
    )
    return config


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
    _check_head_options(config)
    recipe.check(config.extractor)
    _check_signs(config)
    _check_future_proof(config)
    if config.stream is not None:
        _check_stream(config)


def _check_head_options(config: Any) -> None:
    for name, options in config.head_options.items():
        if name not in HEADS:
            raise unknown_name("head with options", name, HEADS)
        for option in options:
            if option not in HEADS[name].options:
                raise unknown_name(f"option of {name}", option, HEADS[name].options)
    for name in config.heads:
        make_head(name, np.zeros(1, np.int32), **config.head_options.get(name, {}))  # refuses bad values


def _check_signs(config: Any) -> None:
    """FeCAM would refuse the features itself, but after the training."""
    for name in config.heads:
        if HEADS[name].maker is not heads.fecam or config.extractor.network not in SIGNED:
            continue
        if {**default_options(name), **config.head_options.get(name, {})}["beta"] != 1:
            raise InputError(
                f"{name}'s Tukey transform needs features >= 0, and those of {config.extractor.network} have both "
                f"signs; switch it off with head_options.{name}.beta=1.0, or take another network or other heads"
            )


def _check_stream(config: Any) -> None:
    if config.stream not in STREAMS:
        raise unknown_name("stream", config.stream, STREAMS)
    if config.image_size is None or config.evaluate_on != "test":
        raise InputError("a stream needs image_size, and is evaluated on the test images")
    changed = config.extractor.augmentation
    if config.stream == "random" and (changed.crop or changed.random_resized_crop):
        raise InputError("stream=random crops already; leave augmentation.crop and random_resized_crop out")
    if config.stream == "random" and set(AUXILIARY) & set(config.extractors):
        raise InputError(
            "stream=random crops real images alone; with synthetic ones take stream=whole and "
            "augmentation.random_resized_crop, which crops both"
        )


def _check_future_proof(config: Any) -> None:
    settings, batch_size = config.future_proof, config.extractor.batch_size
    share = settings.share
    if share is not None and not 0 < round(share * batch_size) < batch_size:
        raise InputError(
            f"future_proof.share must leave real and other images in a batch of {batch_size}, got {share}"
        )
    if settings.loss_weight < 0:
        raise InputError(f"future_proof.loss_weight must not be negative, got {settings.loss_weight}")
    if settings.images_per_class is not None and settings.images_per_class < 1:
        raise InputError(f"future_proof.images_per_class must be at least 1, got {settings.images_per_class}")
    if not all(isinstance(name, str) for name in settings.classes):
        raise InputError(f"future_proof.classes must be names of classes, got {settings.classes}")
    if settings.source is None:
        return
    if not settings.classes:
        raise InputError(
            "future_proof.source needs future_proof.classes, the names of the classes taken from it"
        )
    if config.synthetic.path is not None or config.synthetic.filter is not None:
        raise InputError(
            "future_proof.source takes the place of synthetic images; leave synthetic.path and filter out"
        )
    if settings.source == config.dataset and config.evaluate_on == "held_out":
        raise InputError(
            "future_proof.source is the data set whose training images are held out; take another"
        )
