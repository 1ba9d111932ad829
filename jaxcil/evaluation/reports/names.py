"""Display names and display order of methods, variants and metrics.

A method is a reading of a learner. Names that are not listed here, of learners from outside the package, are shown as
they are and come last.
"""

from collections.abc import Iterable

Method = tuple[str, str]  # learner, reading; ", " and options may follow the reading

LEARNERS = {
    "frozen": "frozen",
    "finetune": "fine-tuning",
    "replay": "replay",
    "joint": "joint training",
    "lwf": "LwF",
    "icarl": "iCaRL",
    "lucir": "LUCIR",
    "podnet": "PODNet",
    "wa": "WA",
    "bic": "BiC",
    "der": "DER",
    "foster": "FOSTER",
}
READINGS = {
    "ncm": "NCM",
    "ncm_euclidean": "NCM, Euclidean",
    "fetril": "FeTrIL",
    "fetril_pycil": "FeTrIL, PyCIL",
    "fetril_fc": "FeTrIL, FC",
    "fetril_ridge": "FeTrIL, ridge",
    "fecam": "FeCAM",
    "fecam_common": "FeCAM, common",
    "fecam_diagonal": "FeCAM, diagonal",
    "slda": "streaming LDA",
    "acil": "ACIL",
    "ds_al": "DS-AL",
    "ranpac": "RanPAC",
    "linear": "linear",
    "cnn": "CNN",
    "nme": "NME",
    "student_cnn": "student CNN",
    "student_nme": "student NME",
}
VARIANTS = {
    "plain": "plain",
    "future_proof": "FPCIL",
    "real_future": "real future images (upper bound)",
    "shuffled_labels": "shuffled labels",
    "known_classes": "known classes",
    "sddr": "SDDR",
    "sddr_classification": "SDDR, classification loss",
    "sddr_distillation": "SDDR, distillation loss",
    "real_past": "real past images (upper bound)",
    "sddr_shuffled_labels": "SDDR, shuffled labels",
    "sddr_wrong_classes": "SDDR, wrong classes",
    "future_proof_sddr": "FPCIL + SDDR",
}
OURS = ("future_proof", "sddr", "future_proof_sddr")  # the methods that the others are compared with
CONTROLS = {
    "shuffled_labels": "synthetic images with their class labels permuted",
    "known_classes": "equally many synthetic images, of first-task classes only",
    "sddr_shuffled_labels": "synthetic images of past classes with their class labels permuted",
    "sddr_wrong_classes": "equally many synthetic images, those of one class labelled as another",
}
METRICS = {
    "average_incremental_accuracy": "average incremental accuracy",
    "last_accuracy": "last accuracy",
    "forgetting": "forgetting",
}
# Shown where every run of a page has them.
FURTHER_METRICS = {
    "backward_transfer": "backward transfer",
    "average_incremental_top_5_accuracy": "average incremental top-5 accuracy",
    "last_top_5_accuracy": "last top-5 accuracy",
    "last_calibration_error": "last calibration error",
}
CONVENTIONS = {
    "images": "every test image counts the same",
    "tasks": "every task counts the same",
    "up_to_last": "the best over all tasks, the last included",
    "before_last": "the best before the last task",
}
EVALUATED_ON = {"test": "the test images", "held_out": "held-out training images"}


def with_options(reading: str, options: str) -> str:
    """A reading under options of its own, as a name that `method_names` knows."""
    return f"{reading}, {options}" if options else reading


def method_names(methods: Iterable[Method]) -> dict[Method, str]:
    """The display name of each method, in display order; learners are named only where there are several.

    Readings that differ in their options alone are next to each other, as they come. No two names are the same.
    """
    methods = list(dict.fromkeys(methods))
    learners = in_order((learner for learner, _ in methods), LEARNERS)
    readings = in_order((_without_options(reading) for _, reading in methods), READINGS)
    methods.sort(key=lambda of: (learners.index(of[0]), readings.index(_without_options(of[1]))))
    names = {}
    for learner, reading in methods:
        name, comma, options = reading.partition(", ")
        of_learner = f"{LEARNERS.get(learner, learner)}, " if len(learners) > 1 else ""
        shown = of_learner + READINGS.get(name, name) + comma + options
        names[learner, reading] = f"{learner}, {reading}" if shown in names.values() else shown
    return names


def variant_name(variant: str) -> str:
    """The display name of a variant."""
    return VARIANTS.get(variant, variant)


def in_order(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Each name once: known names as they are listed there, then the others as they come."""
    names = dict.fromkeys(names)
    listed = [name for name in known if name in names]
    return listed + [name for name in names if name not in listed]


def _without_options(reading: str) -> str:
    return reading.partition(", ")[0]
