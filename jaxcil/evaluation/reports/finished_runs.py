"""Finished runs read from their folders, and which of them may stand side by side.

Runs of one scenario have the same classes of the same data set, in tasks of the same sizes; the order of the
classes and the training seed may differ, and are what a spread is over. Where their configs differ in anything else
they are of different settings, which are named by the fields that differ, or by their folders where that is shorter.
A head's options concern that head alone: where runs of it differ in them, they are of variants of the method.
"""

import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict

from jaxcil.errors import InputError
from jaxcil.evaluation.metrics import seen_accuracy
from jaxcil.evaluation.reports.names import FURTHER_METRICS, METRICS, variant
from jaxcil.evaluation.reports.result_checks import check
from jaxcil.evaluation.reports.spread import Pair
from jaxcil.workdir import files

SCHEMA = 1  # of results.json
# What tells runs of one setting apart, or tells what a run holds; chunks change only what is saved how often.
NO_SETTING = {"dataset", "data_dir", "evaluate_on", "seeds", "extractors", "heads", "extractor.chunk"}
BESIDE = ("scenario.", "head_options.")
CLASSES_TOLD = 5
LONGEST_NAME, LONGEST_VALUE = 64, 40  # characters of a setting made of its fields, and of one value in it


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
    """Runs whose configs agree but for options of heads."""

    name: str  # unique in the scenario; "" where there is one setting alone
    fields: Mapping[str, Any]  # those in which other settings of the scenario differ
    runs: list[FinishedRun]  # methods are variants where options of heads differ; no entry is there twice
    entries: list[Entry]  # of all runs


class Comparison(NamedTuple):
    """Runs of one scenario."""

    dataset: str
    task_sizes: tuple[int, ...]
    classes: str  # some that tell it from others of this data set and these sizes; "" where there are none
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
    try:
        check(results)
        curves(results)
    except InputError as error:
        raise InputError(f"{path} cannot be used: {error}; run it again.") from None
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
    return [
        Comparison(dataset, sizes, _own_classes(classes, dataset, sizes, scenarios), _settings(same))
        for (dataset, sizes, classes), same in scenarios.items()
    ]


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


def in_words(fields: Mapping[str, Any]) -> str:
    """Fields of a config by the last part of their names where that is enough; long values lose their beginning."""
    lasts = [field.rpartition(".")[2] for field in fields]
    return ", ".join(
        f"{last if lasts.count(last) == 1 else field} = {_short(text(value))}"
        for (field, value), last in zip(fields.items(), lasts)
    )


def text(value: Any) -> str:
    """A value of a config in words; numbers that differ have words that differ."""
    if isinstance(value, list):
        return ", ".join(map(text, value)) or "none"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return "none" if value is None else str(value)


def _settings(runs: Sequence[FinishedRun]) -> list[Setting]:
    configs = [_fields(run) for run in runs]
    every = list(dict.fromkeys(field for config in configs for field in config))
    differing = [
        field for field in every if any(config.get(field) != configs[0].get(field) for config in configs)
    ]
    groups: dict[str, tuple[dict[str, Any], list[FinishedRun]]] = {}
    for run, config in zip(_of_variants(runs), configs):
        fields = {field: config.get(field) for field in differing}
        groups.setdefault(repr(fields), (fields, []))[1].append(run)
    names = _names([fields for fields, _ in groups.values()], [same for _, same in groups.values()])
    settings = []
    for name, (fields, same) in zip(names, groups.values()):
        same = _each_once(same)
        settings.append(Setting(name, fields, same, [entry for run in same for entry in _entries(run)]))
    return settings


def _of_variants(runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    """The runs with their methods named by the options in which runs of the same method differ."""
    tables: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        for method in _methods(run):
            tables.setdefault(method, []).append(_options(run, method))
    differing = {
        method: [
            option
            for option in dict.fromkeys(option for table in of_method for option in table)
            if len({text(table[option]) for table in of_method if option in table}) > 1
        ]
        for method, of_method in tables.items()
    }
    found = []
    for run in runs:
        names = {}
        for method in _methods(run):
            told = _options(run, method)
            options = [f"{option} = {text(told[option])}" for option in differing[method] if option in told]
            names[method] = variant(method, ", ".join(options))
        entries = [one | {"method": names[one["method"]]} for one in run.results["runs"]]
        found.append(FinishedRun(run.folder, {**run.results, "runs": entries}))
    return found


def _own_classes(
    classes: frozenset[Any], dataset: str, sizes: tuple[int, ...], scenarios: Iterable[Any]
) -> str:
    alike = [others for *told, others in scenarios if told == [dataset, sizes]]
    own = sorted(map(str, classes - frozenset.intersection(*alike)))
    return ", ".join([*own[:CLASSES_TOLD], "..."] if len(own) > CLASSES_TOLD else own)


def _methods(run: FinishedRun) -> list[str]:
    return list(dict.fromkeys(one["method"] for one in run.results["runs"]))


def _kinds(run: FinishedRun) -> set[tuple[str, str]]:
    return {(one["method"], one["extractor"]) for one in run.results["runs"]}


def _options(run: FinishedRun, method: str) -> Mapping[str, Any]:
    return run.results["config"].get("head_options", {}).get(method, {})


def _each_once(runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    """The runs without entries that an earlier one has, as runs of other heads, of other options of them or of other
    extractors may.

    Raises:
      InputError: nothing tells two runs apart, or such an entry is not the same in both.
    """
    holders: dict[Any, tuple[FinishedRun, Any]] = {}
    kept = []
    for run in runs:
        entries = []
        for one in run.results["runs"]:
            key = (one["method"], one["extractor"], run.results["class_order_hash"], one["seed"])
            holder, same = holders.setdefault(key, (run, one))
            if holder is run and same is one:
                entries.append(one)
            elif one != same or _kinds(run) == _kinds(holder):
                raise InputError(
                    f"{holder.folder} and {run.folder} both have {key[0]} on {key[1]} of class order {key[2]}, "
                    f"seed {key[3]}, with the same config; leave one out."
                )
        kept.append(FinishedRun(run.folder, {**run.results, "runs": entries}))
    return kept


def _names(fields: Sequence[Mapping[str, Any]], runs: Sequence[Sequence[FinishedRun]]) -> list[str]:
    """A name for each setting: its fields, or its folders where the fields are too long or end alike."""
    names = [in_words(one) for one in fields]
    if max(map(len, names)) <= LONGEST_NAME and len(set(names)) == len(names):
        return names
    folders = [[os.path.abspath(run.folder) for run in same] for same in runs]
    common = os.path.commonpath([os.path.dirname(folder) for same in folders for folder in same])
    return [
        os.path.relpath(first, common) + (f" and {len(others)} more" if others else "")
        for first, *others in folders
    ]


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
    return {
        name: value
        for name, value in flatten_dict(run.results["config"], sep=".").items()
        if name not in NO_SETTING and not name.startswith(BESIDE) and value is not None
    }


def _short(words: str) -> str:
    return words if len(words) <= LONGEST_VALUE else f"... {words[-LONGEST_VALUE:]}"


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
