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
    "average_incremental_top_5_accuracy": "average incremental top-5 accuracy",
    "last_top_5_accuracy": "last top-5 accuracy",
    "last_calibration_error": "last calibration error",
}


def method_name(method: str) -> str:
    """What a method is called; one that is not known, by its own name."""
    return METHODS.get(method, method)


def extractor_name(extractor: str) -> str:
    """What an extractor is called; one that is not known, by its own name."""
    return EXTRACTORS.get(extractor, extractor)


def in_order(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Each name once: those known as they are listed there, then the others as they come."""
    names = dict.fromkeys(names)
    listed = [name for name in known if name in names]
    return listed + [name for name in names if name not in listed]
