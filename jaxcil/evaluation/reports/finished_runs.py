"""Finished runs read from their folders, and which of them may be compared.

Runs of one scenario have the same classes of the same data set, in tasks of the same sizes; a spread is over the order
of the classes and the training seed, which may differ. Runs whose configs differ in anything else belong to different
settings, named by the fields that differ, or by their folders where that is shorter. The options of a head or a learner
concern it alone: where its runs differ in them, they are methods of their own.
"""

import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict

from jaxcil.errors import InputError
from jaxcil.evaluation.metrics import seen_accuracy
from jaxcil.evaluation.reports.names import FURTHER_METRICS, METRICS, Method, method_names, with_options
from jaxcil.evaluation.reports.spread import Pair
from jaxcil.workdir import record

SCHEMA = 2  # of results.json
# Fields that make no other setting: of the scenario, of what a run holds, and of how often it is saved.
NO_SETTING = {
    "dataset",
    "data_dir",
    "evaluate_on",
    "seeds",
    "variants",
    "learners",
    "heads",
    "lanes",
    "training.checkpoint_every",
}
APART = ("scenario.", "head_options.", "learner_options.")
MOST_CLASSES = 5  # named in a title
LONGEST_NAME, LONGEST_VALUE = 64, 40  # characters of a setting made of its fields, and of one value in it


class FinishedRun(NamedTuple):
    """A folder, and what its results.json holds."""

    folder: str
    results: Mapping[str, Any]


class Entry(NamedTuple):
    """One reading of one learner in one variant, of one class order and training seed."""

    method: Method
    variant: str
    pair: Pair
    metrics: Mapping[str, float]
    curve: np.ndarray  # [T] accuracy over all classes seen, after each task


class Setting(NamedTuple):
    """Runs whose configs agree but for options of heads and learners."""

    name: str  # unique in the scenario; "" where there is only one setting
    fields: Mapping[str, Any]  # those in which other settings of the scenario differ
    runs: list[FinishedRun]  # readings carry the options in which runs differ; no entry is there twice
    entries: list[Entry]  # of all runs


class Comparison(NamedTuple):
    """Runs of one scenario."""

    dataset: str
    task_sizes: tuple[int, ...]
    classes: (
        str  # some that only this scenario has, of those with its data set and sizes; "" where there are none
    )
    methods: Mapping[Method, str]  # display names, in display order
    settings: list[Setting]


def read_run(folder: str | os.PathLike) -> FinishedRun:
    """The results of a finished run.

    Args:
      folder: the workdir of `jaxcil run`.

    Raises:
      InputError: there are no results, the run is not finished, or its results are of another schema or damaged.
    """
    path = pathlib.Path(folder) / "results.json"
    if not path.exists():
        if path.with_name("config.json").exists():
            raise InputError(
                f"the run in {folder} is not finished: it has a config.json, but no results.json. "
                "Start its `jaxcil run` again, or leave it out."
            )
        raise InputError(f"{folder} has no results.json; give workdirs of `jaxcil run`.")
    results = record.read_result(path)
    schema = results.get("schema") if isinstance(results, dict) else None
    if schema != SCHEMA:
        raise InputError(
            f"{path} is of schema {schema}, and this version reads schema {SCHEMA}: run it again with this version in "
            "a new workdir, or read it with the version of jaxcil that wrote it."
        )
    run = FinishedRun(os.fspath(folder), results)
    try:
        compare([run])
    except KeyError as error:
        raise InputError(f"{path} is damaged: it has no {error}; run it again.") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged: {error}; run it again.") from None
    return run


def compare(runs: Sequence[FinishedRun]) -> list[Comparison]:
    """Groups runs by scenario, and those of a scenario by setting, in the order in which they come.

    Raises:
      InputError: the runs are evaluated on different splits or count by different conventions, or two have the
        same learner, reading, variant, class order and seed.
    """
    if not runs:
        raise InputError("there is no run to report; give workdirs of `jaxcil run`.")
    _refuse_mixed(runs, "evaluated on the same images", lambda run: run.results["config"]["evaluate_on"])
    _refuse_mixed(runs, "counted by the same conventions", lambda run: run.results["conventions"])
    scenarios: dict[Any, list[FinishedRun]] = {}
    for run in runs:
        scenarios.setdefault(_scenario(run), []).append(run)
    comparisons = []
    for (dataset, sizes, classes), same in scenarios.items():
        settings = _settings(same)
        methods = method_names(entry.method for setting in settings for entry in setting.entries)
        own = _own_classes(classes, dataset, sizes, scenarios)
        comparisons.append(Comparison(dataset, sizes, own, methods, settings))
    return comparisons


def curves(results: Mapping[str, Any]) -> list[np.ndarray]:
    """Accuracy over all classes seen after each task [T], of every entry of results.json, by its convention."""
    sizes, weighting = np.asarray(results["test_images"]), results["conventions"]["average"]
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
    for run, config in zip(_with_options(runs), configs):
        fields = {field: config.get(field) for field in differing}
        groups.setdefault(repr(fields), (fields, []))[1].append(run)
    names = _names([fields for fields, _ in groups.values()], [same for _, same in groups.values()])
    settings = []
    for name, (fields, same) in zip(names, groups.values()):
        same = _each_once(same)
        settings.append(Setting(name, fields, same, [entry for run in same for entry in _entries(run)]))
    return settings


def _with_options(runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    """The runs, whose readings are named by the options in which runs of the same method differ."""
    tables: dict[Method, list[Mapping[str, Any]]] = {}
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
    renamed = []
    for run in runs:
        readings = {}
        for method in _methods(run):
            options = _options(run, method)
            words = [f"{name} = {text(options[name])}" for name in differing[method] if name in options]
            readings[method] = with_options(method[1], ", ".join(words))
        entries = [one | {"reading": readings[_method(one)]} for one in run.results["runs"]]
        renamed.append(FinishedRun(run.folder, {**run.results, "runs": entries}))
    return renamed


def _scenario(run: FinishedRun) -> tuple[str, tuple[int, ...], frozenset[str]]:
    results = run.results
    return results["config"]["dataset"], tuple(results["task_sizes"]), frozenset(results["class_names"])


def _own_classes(
    classes: frozenset[str], dataset: str, sizes: tuple[int, ...], scenarios: Iterable[Any]
) -> str:
    alike = [others for *scenario, others in scenarios if scenario == [dataset, sizes]]
    own = sorted(map(str, classes - frozenset.intersection(*alike)))
    return ", ".join([*own[:MOST_CLASSES], "..."] if len(own) > MOST_CLASSES else own)


def _method(entry: Mapping[str, Any]) -> Method:
    return entry["learner"], entry["reading"]


def _methods(run: FinishedRun) -> list[Method]:
    return list(dict.fromkeys(map(_method, run.results["runs"])))


def _lanes(run: FinishedRun) -> set[tuple[Method, str]]:
    return {(_method(one), one["variant"]) for one in run.results["runs"]}


def _options(run: FinishedRun, method: Method) -> Mapping[str, Any]:
    """Those of the learner and of the head; a reading that is no head has none of its own."""
    config, (learner, reading) = run.results["config"], method
    of_learner = config.get("learner_options", {}).get(learner, {})
    return {**of_learner, **config.get("head_options", {}).get(reading, {})}


def _each_once(runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    """The runs without entries that an earlier one has, as runs of other methods or variants may.

    Raises:
      InputError: two runs have the same entries, or such an entry is not the same in both.
    """
    holders: dict[Any, tuple[FinishedRun, Any]] = {}
    kept = []
    for run in runs:
        entries = []
        for one in run.results["runs"]:
            key = (_method(one), one["variant"], run.results["class_order_hash"], one["seed"])
            holder, same = holders.setdefault(key, (run, one))
            if holder is run and same is one:
                entries.append(one)
            elif one != same or _lanes(run) == _lanes(holder):
                (learner, reading), variant, order, seed = key
                raise InputError(
                    f"{holder.folder} and {run.folder} both have learner {learner}, reading {reading}, variant "
                    f"{variant}, class order {order}, seed {seed}, with the same config; leave one out."
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
            _method(one),
            one["variant"],
            (order, one["seed"]),
            {metric: one[metric] for metric in (*METRICS, *FURTHER_METRICS) if one.get(metric) is not None},
            curve,
        )
        for one, curve in zip(run.results["runs"], curves(run.results))
    ]


def _fields(run: FinishedRun) -> dict[str, Any]:
    """The config with dotted names, without what makes no setting; a field that is None counts as absent."""
    return {
        name: value
        for name, value in flatten_dict(run.results["config"], sep=".").items()
        if name not in NO_SETTING and not name.startswith(APART) and value is not None
    }


def _short(words: str) -> str:
    return words if len(words) <= LONGEST_VALUE else f"... {words[-LONGEST_VALUE:]}"


def _refuse_mixed(runs: Sequence[FinishedRun], what: str, of: Any) -> None:
    first = of(runs[0])
    for run in runs[1:]:
        if of(run) != first:
            raise InputError(
                f"runs on one page must be {what}, but {runs[0].folder} has {first}, {run.folder} {of(run)}; "
                "report them separately."
            )
