"""Finished runs read from their folders, and which of them may stand side by side.

Runs of one scenario have the same classes of the same data set, in tasks of the same sizes; the order of the
classes and the training seed may differ, and are what a spread is over. Where their configs differ in anything else
they are of different settings, which are named by the fields that differ.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict

from jaxcil import files
from jaxcil.errors import InputError
from jaxcil.evaluation.metrics import seen_accuracy
from jaxcil.evaluation.names import FURTHER_METRICS, METRICS
from jaxcil.evaluation.spread import Pair

SCHEMA = 1  # of results.json
FIELDS = ("config", "class_order", "class_order_hash", "task_sizes", "conventions", "runs")
# What tells runs of one setting apart, or tells what a run holds; chunks change only what is saved how often.
NO_SETTING = {"dataset", "data_dir", "evaluate_on", "seeds", "extractors", "heads", "extractor.chunk"}
LONGEST_VALUE = 40  # characters of a config value within the name of a setting


class FinishedRun(NamedTuple):
    """A folder, and what its results.json holds."""

    folder: str
    results: Mapping[str, Any]


class Entry(NamedTuple):
    """One head on one extractor, of one class order and training seed."""

    method: str
    extractor: str
    pair: Pair
    metrics: Mapping[str, float]
    curve: np.ndarray  # [T] accuracy over all classes seen, after each task


class Setting(NamedTuple):
    """Runs whose configs agree."""

    name: str  # the fields that differ from other settings of the scenario; "" where none does
    fields: Mapping[str, Any]
    runs: list[FinishedRun]
    entries: list[Entry]


class Comparison(NamedTuple):
    """Runs of one scenario."""

    dataset: str
    task_sizes: tuple[int, ...]
    settings: list[Setting]


def read_run(folder: str | os.PathLike) -> FinishedRun:
    """The results of a finished run.

    Args:
      folder: the workdir of `jaxcil run`.

    Raises:
      InputError: there are none, the run is not finished, or its results are of another schema or cut off.
    """
    path = pathlib.Path(folder) / "results.json"
    if not path.exists():
        if path.with_name("config.json").exists():
            raise InputError(
                f"the run in {folder} is not finished: it has a config.json, but no results.json. "
                "Give its `jaxcil run` again, or leave it out."
            )
        raise InputError(f"{folder} has no results.json; give workdirs of `jaxcil run`.")
    results = files.read_json(path)
    schema = results.get("schema") if isinstance(results, dict) else None
    if schema != SCHEMA:
        raise InputError(f"{path} is of schema {schema}, and this version reads {SCHEMA}; run it again.")
    missing = [field for field in FIELDS if not results.get(field)]
    if missing:
        raise InputError(f"{path} has no {', '.join(missing)}; run it again.")
    tasks = len(results["task_sizes"])
    for run in results["runs"]:
        absent = [field for field in ("method", "extractor", "seed", *METRICS) if run.get(field) is None]
        if absent or [len(row) for row in run.get("accuracy_matrix", ())] != [tasks] * tasks:
            raise InputError(
                f"{path} has an entry without {', '.join(absent) or 'an accuracy_matrix of every task'}: "
                f"{run.get('method')} on {run.get('extractor')}, seed {run.get('seed')}; run it again."
            )
    try:
        curves(results)
    except InputError as error:
        raise InputError(f"{path} cannot be used: {error}") from None
    return FinishedRun(os.fspath(folder), results)


def compare(runs: Sequence[FinishedRun]) -> list[Comparison]:
    """Runs by scenario, and within one by setting, each as they come.

    Raises:
      InputError: the runs are evaluated on different splits or count by different conventions, or two have the
        same method, extractor, class order and seed.
    """
    if not runs:
        raise InputError("there is no run to report; give workdirs of `jaxcil run`.")
    _refuse_mixed(
        runs, "evaluated on the same images", lambda run: run.results["config"].get("evaluate_on", "test")
    )
    _refuse_mixed(runs, "counted by the same conventions", lambda run: run.results["conventions"])
    scenarios: dict[Any, list[FinishedRun]] = {}
    for run in runs:
        classes = run.results.get("class_names", run.results["class_order"])
        key = (_dataset(run), tuple(run.results["task_sizes"]), frozenset(classes))
        scenarios.setdefault(key, []).append(run)
    return [Comparison(dataset, sizes, _settings(same)) for (dataset, sizes, _), same in scenarios.items()]


def curves(results: Mapping[str, Any]) -> list[np.ndarray]:
    """Accuracy over all classes seen after each task [T], of every entry of results.json, by its convention.

    Where it counts images, and the results have no `test_images` of each task, every class has as many.
    """
    sizes = np.asarray(results.get("test_images", results["task_sizes"]))
    weighting = results["conventions"]["average"]
    return [
        seen_accuracy(np.array(run["accuracy_matrix"], np.float64), sizes, weighting)
        for run in results["runs"]
    ]


def _settings(runs: Sequence[FinishedRun]) -> list[Setting]:
    configs = [_fields(run) for run in runs]
    every = list(dict.fromkeys(field for config in configs for field in config))
    differing = [
        field for field in every if any(config.get(field) != configs[0].get(field) for config in configs)
    ]
    settings: dict[str, Setting] = {}
    holders: dict[Any, str] = {}
    for run, config in zip(runs, configs):
        fields = {field: config.get(field) for field in differing}
        if repr(fields) not in settings:
            name, taken = _name(fields), [setting.name for setting in settings.values()]
            name += f" ({len(taken) + 1})" if name in taken else ""  # two long values that end alike
            settings[repr(fields)] = Setting(name, fields, [], [])
        settings[repr(fields)].runs.append(run)
        for entry in _entries(run):
            key = (repr(fields), entry.method, entry.extractor, entry.pair)
            if key in holders:
                raise InputError(
                    f"{holders[key]} and {run.folder} both have {entry.method} on {entry.extractor} of class order "
                    f"{entry.pair[0]}, seed {entry.pair[1]}, with the same config; leave one out."
                )
            holders[key] = run.folder
            settings[repr(fields)].entries.append(entry)
    return list(settings.values())


def _entries(run: FinishedRun) -> list[Entry]:
    order = run.results["class_order_hash"]
    return [
        Entry(
            one["method"],
            one["extractor"],
            (order, one["seed"]),
            {metric: one[metric] for metric in (*METRICS, *FURTHER_METRICS) if one.get(metric) is not None},
            curve,
        )
        for one, curve in zip(run.results["runs"], curves(run.results))
    ]


def _fields(run: FinishedRun) -> dict[str, Any]:
    """The config with dotted names, less what is not a setting; a field that is None counts as absent."""
    config = run.results["config"]
    unused = set(config.get("head_options", {})) - set(config.get("heads", ()))
    beside = ("scenario.", *(f"head_options.{head}." for head in unused))
    return {
        name: value
        for name, value in flatten_dict(config, sep=".").items()
        if name not in NO_SETTING and not name.startswith(beside) and value is not None
    }


def _name(fields: Mapping[str, Any]) -> str:
    lasts = [field.rpartition(".")[2] for field in fields]
    return ", ".join(
        f"{last if lasts.count(last) == 1 else field} = {_value(value)}"
        for (field, value), last in zip(fields.items(), lasts)
    )


def _value(value: Any) -> str:
    if isinstance(value, list):
        text = ", ".join(map(str, value))
    elif isinstance(value, float):
        text = f"{value:g}"
    else:
        text = "none" if value is None else str(value)
    return text if len(text) <= LONGEST_VALUE else f"... {text[-LONGEST_VALUE:]}"


def _dataset(run: FinishedRun) -> str:
    return run.results["config"].get("dataset", "a data set")


def _refuse_mixed(runs: Sequence[FinishedRun], what: str, of: Any) -> None:
    first = of(runs[0])
    for run in runs[1:]:
        if of(run) != first:
            raise InputError(
                f"runs on one page must be {what}, but {runs[0].folder} has {first}, {run.folder} {of(run)}; "
                "report them apart."
            )
