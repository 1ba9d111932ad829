"""The fields of a run's config: every one with a comment, a type and a range."""

import dataclasses

from jaxcil.data.augmentation.augmentation import POLICIES
from jaxcil.data.augmentation.crops import PADDING
from jaxcil.experiment.variants import VARIANTS
from jaxcil.extractors.by_name import DTYPES, NETWORKS, OUTPUT_LAYERS
from jaxcil.heads.by_name import HEADS, default_options, option_comments
from jaxcil.learners.by_name import DEFAULT, LEARNERS
from jaxcil.learners.by_name import option_comments as learner_comments
from jaxcil.training.optimizer import SCHEDULES
from jaxcil.workdir.settings import field, group

MOST = 10**9  # an upper bound of counts, far above what fits into a machine
LARGEST_IMAGE = 4096
HERDING = ("icarl", "pycil", "random")


@dataclasses.dataclass(frozen=True)
class ScenarioSettings:
    """How classes come."""

    first_classes: int = field(2, "classes of the first task", low=1, high=MOST)
    classes_per_task: int = field(
        2, "classes of each later task; the last has the remainder", low=1, high=MOST
    )
    task_sizes: tuple[int, ...] = field(
        (), "classes of each task, in place of the two above", low=1, high=MOST
    )
    class_order: str = field(
        "seed-1993", "a named order (seed-N, label-order, icarl, lucir, ...), or class names by commas"
    )


@dataclasses.dataclass(frozen=True)
class AugmentationSettings:
    """Random changes of training images; 0 is off."""

    crop: int = field(
        0, "pixels of padding around a random crop of the image's size", low=0, high=LARGEST_IMAGE
    )
    border: str = field("black", "what the crop shows outside the image", choices=PADDING)
    random_resized_crop: bool = field(
        False, "a rectangle of 8 to 100 % of the area, scaled to the image's size"
    )
    flip: bool = field(False, "left and right exchanged in half of the images")
    policy: str | None = field(None, "a policy of operations", choices=POLICIES)
    cutout: int = field(0, "side of a black square in pixels", low=0, high=LARGEST_IMAGE)
    brightness: float = field(0.0, "factor within 1 +- brightness", low=0, high=100)
    contrast: float = field(0.0, "factor within 1 +- contrast, around the mean grey", low=0, high=100)
    saturation: float = field(0.0, "factor within 1 +- saturation, around the grey image", low=0, high=100)
    hue: float = field(0.0, "largest turn of the colour circle", low=0, high=0.5)
    grayscale: float = field(0.0, "probability of a grey image", low=0, high=1)
    blur: float = field(0.0, "largest standard deviation of a Gaussian, in pixels", low=0, high=LARGEST_IMAGE)


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """The network and its first training."""

    network: str = field("resnet8", "the feature extractor", choices=NETWORKS)
    classifier: str = field("linear", "the output layer that it is trained under", choices=OUTPUT_LAYERS)
    dtype: str = field("float32", "of the network's computations", choices=DTYPES)
    steps: int | None = field(None, "optimiser steps; or give epochs", low=1, high=MOST)
    epochs: int | None = field(
        None, "passes over the real images of the first task, in every variant", low=1, high=MOST
    )
    batch_size: int = field(128, "images per step", low=1, high=10**6)
    learning_rate: float = field(0.1, "the largest", low=0, high=1000)
    momentum: float = field(0.9, "of stochastic gradient descent", low=0, below=1)
    nesterov: bool = field(False, "Nesterov's momentum")
    weight_decay: float = field(5e-4, "of all parameters", low=0, high=1000)
    schedule: str = field("cosine", "of the learning rate", choices=SCHEDULES)
    milestones: tuple[int, ...] = field(
        (), "of schedule=step: epochs, or steps where steps are given", low=1, high=MOST
    )
    warmup: int = field(0, "length of a linear rise of the rate: epochs, or steps", low=0, high=MOST)
    label_smoothing: float = field(0.0, "part of the target spread over all classes", low=0, below=1)
    average_decay: float | None = field(
        None, "of a moving average of weights, which is then frozen; none: no average", low=0, below=1
    )
    augmentation: AugmentationSettings = group(AugmentationSettings)
    checkpoint_every: int = field(100, "steps between two saved states", low=1, high=10**6)


@dataclasses.dataclass(frozen=True)
class LaterTrainingSettings:
    """What differs in later tasks, of learners that keep training; none: the learner's published value."""

    epochs: int | None = field(None, "passes over the images of a task", low=1, high=MOST)
    steps: int | None = field(None, "optimiser steps of a task, in place of epochs", low=1, high=MOST)
    batch_size: int | None = field(
        None, "images per step; none, where steps are given: training.batch_size", low=1, high=10**6
    )
    learning_rate: float | None = field(None, "the largest", low=0, high=1000)
    weight_decay: float | None = field(None, "of all trained parameters", low=0, high=1000)
    schedule: str | None = field(None, "of the learning rate", choices=SCHEDULES)
    milestones: tuple[int, ...] = field(
        (), "of schedule=step: epochs, or steps where they are given", low=1, high=MOST
    )


@dataclasses.dataclass(frozen=True)
class MemorySettings:
    """Real images of past classes that a learner may keep; none: the learner's published value."""

    per_class: int | None = field(None, "exemplars of each class; or give total", low=0, high=MOST)
    total: int | None = field(None, "exemplars of all classes seen, shared evenly", low=0, high=MOST)
    rule: str | None = field(None, "how they are chosen", choices=HERDING)


@dataclasses.dataclass(frozen=True)
class FutureSettings:
    """Auxiliary images of classes to come, in the first training."""

    source: str | None = field(
        None, "a data set whose training images are taken in place of synthetic ones; needs classes"
    )
    classes: tuple[str, ...] = field(
        (), "whose images are taken, also names that never come; empty: the classes to come"
    )
    images_per_class: int | None = field(None, "images of each class; none: all", low=1, high=MOST)
    known_fraction: float = field(1.0, "of the classes to come, those with images", low=0, high=1)
    batch_fraction: float | None = field(
        None,
        "of a batch; none, and always for real_future: rows are shuffled together",
        low=0,
        high=1,
    )
    loss_weight: float = field(
        1.0, "of an auxiliary image in the loss, a real one having 1", low=0, high=10**6
    )
    augment_alike: bool = field(
        True, "whether auxiliary images are augmented as real ones are, or not at all"
    )


@dataclasses.dataclass(frozen=True)
class PastSettings:
    """Auxiliary images of past classes, in the trainings of later tasks."""

    images_per_class: int | None = field(None, "images of each class; none: all", low=1, high=MOST)
    batch_fraction: float = field(1 / 3, "of a batch", low=0, below=1)
    on_top: bool = field(True, "whether they come on top of a batch, or take places of it")
    balanced: bool = field(False, "whether trainings on a balanced memory see them too")
    classification_weight: float = field(1.0, "in the classification loss", low=0, high=10**6)
    distillation_weight: float = field(1.0, "in the distillation loss", low=0, high=10**6)
    augment_alike: bool = field(True, "whether they are augmented as real ones are, or not at all")


@dataclasses.dataclass(frozen=True)
class AuxiliarySettings:
    """Which images a variant adds, and how."""

    future: FutureSettings = group(FutureSettings)
    past: PastSettings = group(PastSettings)


@dataclasses.dataclass(frozen=True)
class SyntheticSettings:
    """The synthetic images: a data set, or how the run draws one."""

    path: str | None = field(
        None, "a data set of `jaxcil generate` or import-images; none: the run draws one"
    )
    filter: str | None = field(None, "a filter of that data set: only images that it keeps")
    model: str = field("digits", "what draws: an embedded generator, a folder, or OWNER/MODEL on the hub")
    revision: str | None = field(None, "of OWNER/MODEL: a branch, a tag or a commit")
    variant: str | None = field(None, "tag in the names of its weights, as fp16")
    dtype: str | None = field(
        None, "of its networks; none: float32 on a CPU, bfloat16 elsewhere", choices=DTYPES
    )
    templates: tuple[str, ...] = field(
        ("a handwritten digit {}", "the digit {}", "a scan of the number {}", "{}"), "prompts, taken in turn"
    )
    class_list: str | None = field(None, "what prompts call the classes, as in `jaxcil generate`")
    synonyms: str = field(
        "first", "of the list's names of a class: first, or all in turn", choices=("first", "all")
    )
    negative_prompt: str = field("", "what to keep away from")
    images_per_class: int = field(200, "images drawn of each class", low=1, high=MOST)
    guidance_scale: float = field(2.0, "of classifier-free guidance; 1 is none", low=0, high=1000)
    order: int = field(3, "of the ER-SDE solver", low=1, high=3)
    nfe: int = field(20, "denoiser calls per image", low=1, high=1000)
    plan: str | None = field(None, "a plan.json in place of order and nfe")
    seed: int = field(0, "of all noise", low=0, below=2**32)
    batch_size: int = field(100, "images drawn at once on each device", low=1, high=10**6)
    shard_size: int = field(200, "images per file", low=1, high=MOST)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that a run depends on."""

    dataset: str = field(
        "digits", "digits, a TFDS data set, or a folder with train/CLASS/*.png and test/CLASS/*.png"
    )
    data_dir: str | None = field(None, "where TFDS keeps its data sets")
    image_size: int | None = field(
        None, "side to which images are brought, in pixels; none: as they are", low=1, high=LARGEST_IMAGE
    )
    classes: str | None = field(None, "a class list, or names by commas; none: all")
    stream: str | None = field(
        None,
        "read images from the disk during training, for sets that no device holds: brought to image_size (whole), or "
        "as random resized crops in training and the middle in evaluation (random)",
        choices=("whole", "random"),
    )
    evaluate_on: str = field(
        "test",
        "the test images, or a tenth of the training images that is held out",
        choices=("test", "held_out"),
    )
    scenario: ScenarioSettings = group(ScenarioSettings)
    seeds: tuple[int, ...] = field((0, 1, 2, 3, 4), "one run each", low=0, below=2**32)
    variants: tuple[str, ...] = field(
        ("plain", "future_proof", "real_future"), "which auxiliary images trainings see", choices=VARIANTS
    )
    learners: tuple[str, ...] = field((DEFAULT,), f"methods, by name: {', '.join(LEARNERS)}")
    heads: tuple[str, ...] = field(
        ("ncm", "fetril", "fecam"), "classifiers on frozen features", choices=HEADS
    )
    lanes: tuple[str, ...] = field(
        (), "pairs VARIANT/LEARNER; a variant or a learner that no pair names goes with all of the other kind"
    )
    head_options: dict = field(
        {name: default_options(name) for name in HEADS},
        "options of the heads",
        comments={
            f"{name}.{option}": comment for name in HEADS for option, comment in option_comments(name).items()
        },
    )
    learner_options: dict = field(
        {name: choice.options for name, choice in LEARNERS.items() if choice.options},
        "options of the learners",
        comments={
            f"{name}.{option}": comment
            for name in LEARNERS
            for option, comment in learner_comments(name).items()
        },
    )
    training: TrainingSettings = group(TrainingSettings)
    later_training: LaterTrainingSettings = group(LaterTrainingSettings)
    memory: MemorySettings = group(MemorySettings)
    auxiliary: AuxiliarySettings = group(AuxiliarySettings)
    synthetic: SyntheticSettings = group(SyntheticSettings)
