"""What results.json must hold before anything is made of it: fields, their types, and numbers in their range."""

import reprlib
from collections.abc import Callable, Mapping
from typing import Any

from jaxcil.errors import InputError
from jaxcil.evaluation.reports.names import FURTHER_METRICS, METRICS

Test = Callable[[Any], bool]
FIELDS = ("config", "class_order", "class_order_hash", "task_sizes", "conventions", "runs")


def check(results: Mapping[str, Any]) -> None:
    """Refuses results that miss a field, or have one of another type or range than a run writes.

    Raises:
      InputError: it names the field, and what came.
    """
    missing = [field for field in FIELDS if not results.get(field)]
    if missing:
        raise InputError(f"it has no {', '.join(missing)}")
    _check_fields(results, "", _RESULTS)
    _check_fields(results["config"], "config.", _CONFIG)
    if "average" not in results["conventions"]:
        raise InputError("its conventions have no average")
    for number, entry in enumerate(results["runs"]):
        _check_entry(entry, f"runs[{number}].", len(results["task_sizes"]))


def _check_entry(entry: Mapping[str, Any], where: str, tasks: int) -> None:
    whose = f"{entry.get('method')} on {entry.get('extractor')}, seed {entry.get('seed')}"
    absent = [field for field in ("method", "extractor", "seed", *METRICS) if entry.get(field) is None]
    if absent:
        raise InputError(f"it has an entry without {', '.join(absent)}: {whose}")
    if not _one_per_task(tasks, _one_per_task(tasks, _or_null(_is_fraction)))(entry.get("accuracy_matrix")):
        raise InputError(
            f"it has an entry without an accuracy_matrix of every task: {whose}; expected {tasks} rows of {tasks} "
            "fractions, null above the diagonal"
        )
    top_5 = (
        f"a fraction or null for each of {tasks} tasks",
        _or_null(_one_per_task(tasks, _or_null(_is_fraction))),
    )
    _check_fields(entry, where, {**_ENTRY, "top_5_accuracy": top_5})


def _check_fields(values: Mapping[str, Any], where: str, fields: Mapping[str, tuple[str, Test]]) -> None:
    """Those of the fields that are there."""
    for field, (what, test) in fields.items():
        if field in values and not test(values[field]):
            raise InputError(f"{where}{field} must be {what}, got {reprlib.repr(values[field])}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_positive(value: Any) -> bool:
    return _is_whole(value) and value > 0


def _is_fraction(value: Any) -> bool:
    """Differences of accuracies may be negative; NaN is no number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -1 <= value <= 1


def _or_null(test: Test) -> Test:
    return lambda value: value is None or test(value)


def _list_of(test: Test) -> Test:
    return lambda value: isinstance(value, list) and all(map(test, value))


def _one_per_task(tasks: int, test: Test) -> Test:
    return lambda value: _list_of(test)(value) and len(value) == tasks


def _table_of(test: Test) -> Test:
    return lambda value: isinstance(value, dict) and all(map(test, value.values()))


_RESULTS = {
    "config": ("a table", _is_table),
    "versions": ("a table", _is_table),
    "device": ("a text", _is_text),
    "class_order": ("a list of class numbers", _list_of(_is_whole)),
    "class_names": ("a list of names", _list_of(_is_text)),
    "class_order_hash": ("a text", _is_text),
    "task_sizes": ("a list of numbers of classes", _list_of(_is_positive)),
    "test_images": ("a list of numbers of images", _list_of(_is_positive)),
    "conventions": ("a table of names", _table_of(_is_text)),
    "runs": ("a list of entries", _list_of(_is_table)),
}
_CONFIG = {
    "dataset": ("a text", _is_text),
    "evaluate_on": ("a text", _is_text),
    "scenario": ("a table", _is_table),
    "head_options": ("a table of tables", _table_of(_is_table)),
}
_ENTRY = {
    "method": ("a text", _is_text),
    "extractor": ("a text", _is_text),
    "seed": ("a whole number", _is_whole),
    **dict.fromkeys((*METRICS, *FURTHER_METRICS), ("a fraction", _or_null(_is_fraction))),
}
