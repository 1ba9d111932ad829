"""Several runs on one self-contained page, with the same tables as Markdown and all values as CSV."""

import io
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxcil.errors import InputError
from jaxcil.evaluation.reports import finished_runs
from jaxcil.evaluation.reports import results as result_writers
from jaxcil.evaluation.reports import tables as run_tables
from jaxcil.evaluation.reports.bars import draw_settings
from jaxcil.evaluation.reports.curves import draw_curves
from jaxcil.evaluation.reports.finished_runs import Comparison, FinishedRun, Setting
from jaxcil.evaluation.reports.names import (
    CONTROLS,
    CONVENTIONS,
    EVALUATED_ON,
    EXTRACTORS,
    extractor_name,
    in_order,
    methods_in_order,
)
from jaxcil.evaluation.reports.pages import count, inline, render
from jaxcil.evaluation.reports.spread import Pair
from jaxcil.workdir import files


def write_runs_report(folder: str | os.PathLike, runs: Sequence[FinishedRun]) -> str:
    """Writes report.html, report.md and report.csv, and gives the Markdown.

    Args:
      folder: made if absent.
      runs: as `finished_runs.read_run` gives them.

    Raises:
      InputError: the runs cannot stand side by side, or the folder cannot be written; nothing is written then.
    """
    if (pathlib.Path(folder) / "results.json").exists():
        raise InputError(
            f"{folder} is a run and has a page of its own; give the report another folder with --out"
        )
    comparisons = finished_runs.compare(runs)
    folder = files.writable_directory(folder)
    tables = run_tables.markdown(comparisons)
    columns = ("run", "dataset", "task_sizes", "classes", "setting", *result_writers.COLUMNS)
    files.write(folder / "report.csv", result_writers.as_csv(columns, _lines(comparisons)))
    files.write(folder / "report.md", tables)
    files.write(folder / "report.html", _page(comparisons, runs))
    return tables


def _page(comparisons: Sequence[Comparison], runs: Sequence[FinishedRun]) -> str:
    extractors = in_order((one["extractor"] for run in runs for one in run.results["runs"]), EXTRACTORS)
    conventions = runs[0].results["conventions"]
    split = runs[0].results["config"].get("evaluate_on", "test")
    trained = sum(len(setting.entries) for comparison in comparisons for setting in comparison.settings)
    told = [_comparison(comparison) for comparison in comparisons]
    return render(
        "runs_report.html.jinja",
        title=run_tables.title(comparisons[0])
        if len(comparisons) == 1
        else f"{len(comparisons)} scenarios of class-incremental learning",
        sentence=f"{count(len(runs), 'run', 'runs')} with {count(trained, 'result', 'results')} of a head on an "
        f"extractor, evaluated on {EVALUATED_ON.get(split, split)}.",
        ours=extractor_name("future_proof"),
        several=len(comparisons) > 1,
        comparisons=told,
        backward_transfer=any(
            "backward transfer" in one["header"] for part in told for one in part["settings"]
        ),
        spreads=run_tables.SPREADS,
        conventions={name: CONVENTIONS.get(value, value) for name, value in conventions.items()},
        controls={extractor_name(name): CONTROLS[name] for name in extractors if name in CONTROLS},
        runs=[_told(run) for run in runs],
    )


def _comparison(comparison: Comparison) -> dict[str, Any]:
    several = len(comparison.settings) > 1
    return {
        "title": run_tables.title(comparison),
        "overview": run_tables.side_by_side(comparison) if several else None,
        "bars": {columns: _bars(comparison, columns) for columns in (1, 3)} if several else None,
        "settings": [_setting(comparison, setting) for setting in comparison.settings],
    }


def _setting(comparison: Comparison, setting: Setting) -> dict[str, Any]:
    rows = run_tables.rows(comparison, setting)
    header, lines = run_tables.every_metric(rows)
    methods: dict[str, list[dict[str, Any]]] = {}
    for row, (method, extractor, *cells) in zip(rows, lines):
        ours = row.extractor == "future_proof"
        methods.setdefault(method, []).append({"extractor": extractor, "cells": cells, "ours": ours})
    return {
        "name": setting.name,
        # what its name does not tell
        "fields": {}
        if finished_runs.in_words(setting.fields) == setting.name
        else {name: finished_runs.text(value) for name, value in setting.fields.items()},
        "grids": run_tables.grids(rows),
        "numbers": run_tables.numbers(rows),
        "header": header[2:],
        "methods": methods,
        "curves": {columns: _curves(comparison, setting, columns) for columns in (1, 3)},
    }


def _bars(comparison: Comparison, columns: int) -> str:
    tables = {setting.name: run_tables.rows(comparison, setting) for setting in comparison.settings}
    return inline(draw_settings(tables, columns=columns))


def _curves(comparison: Comparison, setting: Setting, columns: int) -> str:
    methods = methods_in_order(entry.method for entry in setting.entries)
    curves: dict[str, dict[str, dict[Pair, np.ndarray]]] = {method: {} for method in methods}
    for entry in setting.entries:
        curves[entry.method].setdefault(entry.extractor, {})[entry.pair] = entry.curve
    picture = io.BytesIO()
    draw_curves(curves, np.cumsum(comparison.task_sizes), picture, columns=columns)
    return inline(picture.getvalue())


def _told(run: FinishedRun) -> dict[str, str]:
    """What it takes to find a run, and to run it again."""
    results = run.results
    return {
        "run": run.folder,
        "class order": str(results["config"].get("scenario", {}).get("class_order", "given")),
        "class order hash": results["class_order_hash"],
        "seeds": ", ".join(map(str, sorted({one["seed"] for one in results["runs"]}))),
        "jax": results.get("versions", {}).get("jax", ""),
        "device": results.get("device", ""),
    }


def _lines(comparisons: Sequence[Comparison]) -> Iterator[dict[str, Any]]:
    """The lines of `result_writers.tidy` of every run, with where it stands."""
    for comparison in comparisons:
        for setting in comparison.settings:
            for run in setting.runs:
                where = {
                    "run": run.folder,
                    "dataset": comparison.dataset,
                    "task_sizes": " ".join(map(str, comparison.task_sizes)),
                    "classes": comparison.classes,
                    "setting": setting.name,
                }
                yield from (where | line for line in result_writers.tidy(run.results))
