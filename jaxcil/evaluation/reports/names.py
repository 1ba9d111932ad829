"""How methods, extractors and metrics are called where people read about them, and in which order they stand."""

from collections.abc import Iterable

METHODS = {
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
}
EXTRACTORS = {
    "plain": "plain",
    "future_proof": "FPCIL",
    "real_future": "real future images (upper bound)",
    "shuffled_labels": "shuffled labels",
    "known_classes": "known classes",
}
CONTROLS = {
    "shuffled_labels": "synthetic images with their class labels permuted",
    "known_classes": "as many synthetic images, of first-task classes only",
}
METRICS = {
    "average_incremental_accuracy": "average incremental accuracy",
    "last_accuracy": "last accuracy",
    "forgetting": "forgetting",
}
# Told where every run of a page has them.
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


def variant(method: str, options: str) -> str:
    """A method under options of its own, as a name that `method_name` and `methods_in_order` know."""
    return f"{method}, {options}" if options else method


def method_name(method: str) -> str:
    """What a method or a variant of it is called; one that is not known, by its own name."""
    name, comma, options = method.partition(", ")
    return METHODS.get(name, name) + comma + options


def extractor_name(extractor: str) -> str:
    """What an extractor is called; one that is not known, by its own name."""
    return EXTRACTORS.get(extractor, extractor)


def methods_in_order(methods: Iterable[str]) -> list[str]:
    """Each method once, in the order of every page; variants of one stand together, as they come."""
    methods = list(methods)
    names = in_order((method.partition(", ")[0] for method in methods), METHODS)
    return sorted(dict.fromkeys(methods), key=lambda method: names.index(method.partition(", ")[0]))


def in_order(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Each name once: those known as they are listed there, then the others as they come."""
    names = dict.fromkeys(names)
    listed = [name for name in known if name in names]
    return listed + [name for name in names if name not in listed]
