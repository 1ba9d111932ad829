"""The settings of a run: a config is resolved into them once, and no ConfigDict goes further."""

import dataclasses
from typing import Any

import numpy as np

from jaxcil import heads
from jaxcil.errors import InputError, unknown_name
from jaxcil.experiment.fields import LaterTrainingSettings, Settings, TrainingSettings
from jaxcil.experiment.variants import NEED_SYNTHETIC, PAST, VARIANTS
from jaxcil.extractors.by_name import SIGNED
from jaxcil.heads.by_name import HEADS, default_options, make_head
from jaxcil.learners.by_name import DEFAULT, LEARNERS, RECIPE, check_options
from jaxcil.workdir import settings as fields


def defaults() -> Any:
    """A ConfigDict of `jaxcil run` with every field: the handwritten digits, 2 classes first and 2 per task."""
    return fields.config_dict(Settings)


def resolve(config: Any, outside: tuple[str, ...] = ()) -> Settings:
    """The settings that a config describes, checked as far as they can be without data.

    Args:
      config: a ConfigDict with the fields of `defaults`, a nested dict with the same, or settings.
      outside: names of learners that are given to `experiment.run`.

    Raises:
      InputError: a value of another type or out of its range, an unknown name, or fields that exclude each other.
    """
    settings = config if isinstance(config, Settings) else fields.resolve(Settings, config)
    _check_names(settings, (*LEARNERS, *outside))
    _check_head_options(settings)
    for name, options in settings.learner_options.items():
        if name in LEARNERS and name not in outside:
            check_options(name, options)
            _check_recipe(name, options)
    _check_training(settings.training)
    _check_later(settings)
    _check_signs(settings)
    _check_auxiliary(settings)
    if settings.stream is not None:
        _check_stream(settings)
    return settings


def lanes(settings: Settings) -> tuple[tuple[str, str], ...]:
    """(variant, learner) of each lane, in the order of results: all that differ from plain, or those that are named."""
    named = {tuple(lane.split("/", 1)) for lane in settings.lanes}
    variants, learners = ({pair[place] for pair in named} for place in (0, 1))
    return tuple(
        (variant, learner)
        for learner in settings.learners
        for variant in settings.variants
        if VARIANTS[variant].kinds != PAST or learner not in LEARNERS or LEARNERS[learner].keeps_training
        if not (VARIANTS[variant].one_loss and learner in LEARNERS and not LEARNERS[learner].distils)
        if (variant, learner) in named or variant not in variants or learner not in learners
    )


def inert(settings: Settings) -> dict[str, str]:
    """Fields, or groups of fields, that the others make void, with the reason."""
    named = {variant for variant, _ in lanes(settings)}
    void: dict[str, str] = {}
    if not any("past" in VARIANTS[variant].kinds for variant in named):
        void["auxiliary.past"] = "no variant of this run takes images of past classes"
    void |= {
        f"head_options.{name}": "the run does not name it" for name in HEADS if name not in settings.heads
    }
    void |= {
        f"learner_options.{name}": "the run does not name it"
        for name in settings.learner_options
        if name not in settings.learners
    }
    if all(learner in LEARNERS and LEARNERS[learner].keeps_training for _, learner in lanes(settings)):
        reason = "no learner of this run is frozen"
        own = ("training.classifier", "training.label_smoothing", "training.average_decay")
        void |= dict.fromkeys(("heads", "head_options", *own), reason)
    if set(settings.learners) <= {DEFAULT}:
        reason = "no learner of this run keeps training"
        void |= {"later_training": reason, "memory": reason}
    elif all(LEARNERS[name].memory is False for name in settings.learners if name in LEARNERS) and (
        set(settings.learners) <= set(LEARNERS)
    ):
        void["memory"] = "no learner of this run chooses exemplars"
    drawing = [f"synthetic.{item.name}" for item in dataclasses.fields(settings.synthetic)]
    if not named & set(NEED_SYNTHETIC):
        reason = (
            f"no variant of this run takes synthetic images; those that do are {', '.join(NEED_SYNTHETIC)}"
        )
        void |= {"auxiliary.future": reason} | dict.fromkeys(drawing, reason)
    elif settings.synthetic.path is not None or settings.auxiliary.future.source is not None:
        given = "synthetic.path" if settings.synthetic.path is not None else "auxiliary.future.source"
        reason = (
            f"images of {given} are not drawn; to take fewer of them, set auxiliary.future.images_per_class"
        )
        void |= {name: reason for name in drawing if name not in ("synthetic.path", "synthetic.filter")}
    return void


def without_effect(settings: Settings) -> list[str]:
    """A sentence for every reason why fields that are set have no effect; options of heads that are not named aside."""
    usual = fields.flat_values(fields.as_dict(Settings()))
    changed = [
        name
        for name, value in fields.flat_values(fields.as_dict(settings)).items()
        if usual.get(name) != value
    ]
    reasons: dict[str, list[str]] = {}
    for prefix, reason in inert(settings).items():
        names = [name for name in changed if name == prefix or name.startswith(f"{prefix}.")]
        if names and "_options." not in prefix:
            reasons.setdefault(reason, []).extend(names)
    sentences = [f"{', '.join(names)}: without effect, since {reason}" for reason, names in reasons.items()]
    run = lanes(settings)
    for lane in settings.lanes:
        if tuple(lane.split("/", 1)) not in run:
            sentences.append(
                f"lane {lane}: not run, since variants and learners do not have it, or it is plain again"
            )
    for learner in settings.learners:
        if learner not in {name for _, name in run}:
            sentences.append(f"learner {learner}: not run, since no variant of this run differs for it")
    return sentences


def _check_names(settings: Settings, learners: tuple[str, ...]) -> None:
    for kind, names in (
        ("variant", settings.variants),
        ("learner", settings.learners),
        ("head", settings.heads),
        ("seed", settings.seeds),
    ):
        if not names:
            raise InputError(f"{kind}s is empty; give at least one {kind}")
        if len(set(names)) < len(names):
            raise InputError(f"{kind}s names one twice: {', '.join(map(str, names))}; give each once")
    for name in settings.learners:
        if name not in learners:
            raise unknown_name("learner", name, learners)
    for name in settings.learner_options:
        if name not in learners:
            raise unknown_name("learner with options", name, learners)
    for lane in settings.lanes:
        variant, slash, learner = lane.partition("/")
        if not slash:
            raise InputError(f"lanes has {lane!r}; expected VARIANT/LEARNER")
        if variant not in VARIANTS:
            raise unknown_name("variant in lanes", variant, VARIANTS)
        if learner not in learners:
            raise unknown_name("learner in lanes", learner, learners)
    if not lanes(settings):
        raise InputError(
            f"no variant of {', '.join(settings.variants)} goes with a learner of {', '.join(settings.learners)}; give "
            "plain as well, a learner that keeps training for images of past classes, or other lanes"
        )


def _check_head_options(settings: Settings) -> None:
    for name, options in settings.head_options.items():
        if name not in HEADS:
            raise unknown_name("head with options", name, HEADS)
        for option in options:
            if option not in HEADS[name].options:
                raise unknown_name(f"option of {name}", option, HEADS[name].options)
    for name in settings.heads:
        make_head(name, np.zeros(1, np.int32), **settings.head_options.get(name, {}))  # refuses bad values


def _check_recipe(name: str, options: dict[str, Any]) -> None:
    """The options that are fields of `later_training` have their ranges."""
    usual = fields.as_dict(LaterTrainingSettings())
    given = {field: value for field, value in options.items() if field in usual and field in RECIPE}
    fields.resolve(LaterTrainingSettings, usual | given, prefix=f"learner_options.{name}.")
    if given.get("epochs") is not None and given.get("steps") is not None:
        raise InputError(f"give learner_options.{name}.steps or epochs, not both")


def _check_later(settings: Settings) -> None:
    later = settings.later_training
    if later.steps is not None and later.epochs is not None:
        raise InputError(
            f"give later_training.steps or later_training.epochs, not both; got {later.steps}, {later.epochs}"
        )
    if list(later.milestones) != sorted(set(later.milestones)):
        raise InputError(f"later_training.milestones must grow, got {later.milestones}")
    if later.milestones and later.schedule not in (None, "step"):
        raise InputError(
            f"later_training.milestones are for later_training.schedule=step, got {later.schedule!r}"
        )


def _check_signs(settings: Settings) -> None:
    """FeCAM would refuse the features itself, but after the training."""
    network = settings.training.network
    if all(learner in LEARNERS and LEARNERS[learner].keeps_training for _, learner in lanes(settings)):
        return  # no head is used
    for name in settings.heads:
        if HEADS[name].maker is not heads.fecam or network not in SIGNED:
            continue
        if {**default_options(name), **settings.head_options.get(name, {})}["beta"] != 1:
            raise InputError(
                f"{name}'s Tukey transform needs features >= 0, but {network}'s features are signed; switch it off "
                f"with head_options.{name}.beta=1.0, or give another network or other heads"
            )


def _check_training(training: TrainingSettings) -> None:
    if (training.steps is None) == (training.epochs is None):
        raise InputError(
            f"give training.steps or training.epochs, one of them; got {training.steps}, {training.epochs}"
        )
    length, unit = (training.epochs, "epochs") if training.steps is None else (training.steps, "steps")
    for name, last in (("warmup", training.warmup), ("milestones", max(training.milestones, default=0))):
        if last >= length:  # type: ignore[operator]
            raise InputError(
                f"training.{name} must end before the training does, after {length} {unit}; got {last}"
            )
    if (training.schedule == "step") != bool(training.milestones):
        raise InputError(
            f"training.milestones are for training.schedule=step, which needs them; got {training.schedule!r}, "
            f"{training.milestones}"
        )
    if list(training.milestones) != sorted(set(training.milestones)):
        raise InputError(f"training.milestones must grow, got {training.milestones}")
    changes = training.augmentation
    if changes.crop and changes.random_resized_crop:
        raise InputError("training.augmentation crops once: set crop or random_resized_crop, not both")


def _check_stream(settings: Settings) -> None:
    if settings.image_size is None or settings.evaluate_on != "test":
        raise InputError("a stream needs image_size, and is evaluated on the test images")
    changes = settings.training.augmentation
    if settings.stream == "random" and (changes.crop or changes.random_resized_crop):
        raise InputError("stream=random crops already; omit augmentation.crop and random_resized_crop")
    named = {learner for _, learner in lanes(settings)}
    training = sorted(name for name in named if name in LEARNERS and LEARNERS[name].keeps_training)
    if training and len(settings.seeds) > 1:
        raise InputError(
            f"{', '.join(training)} choose other images with every seed, so a stream can serve one seed: give each of "
            f"{', '.join(map(str, settings.seeds))} a workdir of its own, or omit stream"
        )
    if "real_past" in {variant for variant, _ in lanes(settings)}:
        raise InputError(
            "real_past mixes real images of past classes into batches, which a stream cannot; omit one"
        )
    if settings.stream == "random" and set(NEED_SYNTHETIC) & set(settings.variants):
        raise InputError(
            "stream=random crops real images alone; with synthetic ones take stream=whole and "
            "augmentation.random_resized_crop, which crops both"
        )


def _check_auxiliary(settings: Settings) -> None:
    future, batch_size = settings.auxiliary.future, settings.training.batch_size
    fraction = future.batch_fraction
    if fraction is not None and not 0 < round(fraction * batch_size) < batch_size:
        raise InputError(
            f"auxiliary.future.batch_fraction must leave real and auxiliary images in a batch of {batch_size}, got "
            f"{fraction}"
        )
    if future.known_fraction == 0:
        raise InputError(
            "auxiliary.future.known_fraction must leave at least one class, got 0; omit the variant"
        )
    if settings.synthetic.path is None and settings.synthetic.filter is not None:
        raise InputError(
            "synthetic.filter is of a data set that exists; give its folder as synthetic.path, or omit the filter"
        )
    takes_past = any("past" in VARIANTS[variant].kinds for variant, _ in lanes(settings))
    if takes_past and (future.source is not None or future.classes or future.known_fraction < 1):
        raise InputError(
            "auxiliary.future.source, classes and known_fraction leave out images that variants of past classes need; "
            "run those in a workdir of their own"
        )
    if future.source is None:
        return
    if not future.classes:
        raise InputError(
            "auxiliary.future.source needs auxiliary.future.classes, the names of the classes taken from it"
        )
    if settings.synthetic.path is not None:
        raise InputError("auxiliary.future.source takes the place of synthetic images; omit synthetic.path")
    if future.source == settings.dataset and settings.evaluate_on == "held_out":
        raise InputError(
            "auxiliary.future.source is the data set whose training images are held out; give another"
        )
