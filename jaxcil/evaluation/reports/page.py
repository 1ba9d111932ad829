"""One self-contained page for one finished run or many; with the same tables as Markdown and all values as CSV."""

import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxcil.errors import InputError
from jaxcil.evaluation.reports import finished_runs, results, tables
from jaxcil.evaluation.reports.confusion import confusion_name, draw_confusions
from jaxcil.evaluation.reports.curves import draw_curves
from jaxcil.evaluation.reports.finished_runs import Comparison, FinishedRun, Setting
from jaxcil.evaluation.reports.names import (
    CONTROLS,
    CONVENTIONS,
    EVALUATED_ON,
    OURS,
    VARIANTS,
    in_order,
    variant_name,
)
from jaxcil.evaluation.reports.pages import count, inline, render
from jaxcil.workdir import files, record


def write_run_page(workdir: str | os.PathLike, run_results: Mapping[str, Any]) -> pathlib.Path:
    """Writes report.html into the workdir of a run, and returns its path. Equal runs give equal bytes.

    Args:
      workdir: the run's. What it has of confusion.npz, auxiliary.json, auxiliary.png and timing.json is shown.
      run_results: what results.json holds.
    """
    run = FinishedRun(os.fspath(workdir), run_results)
    path = pathlib.Path(workdir) / "report.html"
    files.write(path, _page(finished_runs.compare([run]), [run]))
    return path


def write_report(folder: str | os.PathLike, runs: Sequence[FinishedRun]) -> str:
    """Writes report.html, report.md and report.csv, and returns the Markdown.

    Args:
      folder: made if absent.
      runs: as `finished_runs.read_run` returns them.

    Raises:
      InputError: the runs cannot be compared, or the folder cannot be written; nothing is written then.
    """
    if (pathlib.Path(folder) / "results.json").exists():
        raise InputError(
            f"{folder} is a run and has a page of its own; give the report another folder with --out"
        )
    comparisons = finished_runs.compare(runs)
    page = _page(comparisons, runs)
    folder = files.writable_directory(folder)
    text = tables.as_markdown(comparisons)
    columns = ("run", "dataset", "task_sizes", "classes", "setting", *results.COLUMNS)
    files.write(folder / "report.csv", results.as_csv(columns, _lines(comparisons)))
    files.write(folder / "report.md", text)
    files.write(folder / "report.html", page)
    return text


def _page(comparisons: Sequence[Comparison], runs: Sequence[FinishedRun]) -> str:
    variants = in_order((one["variant"] for run in runs for one in run.results["runs"]), VARIANTS)
    conventions = runs[0].results["conventions"]
    shown = [_comparison(comparison) for comparison in comparisons]
    split = runs[0].results["config"]["evaluate_on"]
    return render(
        "report.html.jinja",
        title=tables.title(comparisons[0])
        if len(comparisons) == 1
        else f"{len(comparisons)} scenarios of class-incremental learning",
        sentence=f"{_what_ran(runs)}, evaluated on {EVALUATED_ON.get(split, split)}.",
        ours=[variant_name(variant) for variant in OURS],
        comparisons=shown,
        backward_transfer=any(
            "backward transfer" in setting["header"] for part in shown for setting in part["settings"]
        ),
        conventions={name: CONVENTIONS.get(value, value) for name, value in conventions.items()},
        controls={variant_name(name): CONTROLS[name] for name in variants if name in CONTROLS},
        runs=_table_of_runs(runs),
        single=_of_single_run(runs[0]) if len(runs) == 1 else None,
    )


def _comparison(comparison: Comparison) -> dict[str, Any]:
    several = len(comparison.settings) > 1
    return {
        "title": tables.title(comparison),
        "overview": tables.side_by_side(comparison) if several else None,
        "explained": tables.explained(comparison),
        "settings": [_setting(comparison, setting) for setting in comparison.settings],
    }


def _setting(comparison: Comparison, setting: Setting) -> dict[str, Any]:
    rows = tables.rows(comparison, setting)
    header, lines = tables.every_metric(rows)
    methods: dict[str, list[dict[str, Any]]] = {}
    for row, (method, variant, *cells) in zip(rows, lines):
        ours = row.variant in OURS
        methods.setdefault(method, []).append({"variant": variant, "cells": cells, "ours": ours})
    main = [row.metrics[tables.MAIN] for row in rows]
    return {
        "name": setting.name,
        # where its name does not have them
        "fields": {}
        if finished_runs.in_words(setting.fields) == setting.name
        else {name: finished_runs.text(value) for name, value in setting.fields.items()},
        "grids": tables.grids(rows),
        "numbers": tables.numbers(rows),
        "header": header[2:],
        "methods": methods,
        "several_seeds": any(value.seeds is not None for value in main),
        "several_orders": any(value.orders is not None for value in main),
        "curves": {columns: inline(draw_curves(comparison, setting, columns=columns)) for columns in (1, 3)},
    }


def _of_single_run(run: FinishedRun) -> dict[str, Any]:
    """What only the page of a single run shows: its pictures, times, classes, versions and config."""
    timing = pathlib.Path(run.folder) / "timing.json"
    seconds = record.read_result(timing) if timing.exists() else {}
    return {
        "confusion": _confusion(run),
        "auxiliary": _auxiliary(run),
        "seconds": {stage: _duration(value) for stage, value in seconds.items()},
        "memory": _memory(pathlib.Path(run.folder)),
        "classes": ", ".join(map(str, run.results["class_names"])),
        "versions": run.results["versions"],
        "config": json.dumps(run.results["config"], indent=2),
    }


def _confusion(run: FinishedRun) -> dict[str, Any] | None:
    """Pictures of the first method's confusion matrices, in the plain variant and in ours."""
    path, first = pathlib.Path(run.folder) / "confusion.npz", run.results["runs"][0]
    if not path.exists():
        return None
    learner, reading = first["learner"], first["reading"]
    with np.load(path) as counts:
        shown = {
            variant_name(variant): counts[name]
            for variant in ("plain", *OURS)
            if (name := confusion_name(variant, learner, reading)) in counts
        }
    if not shown:
        return None
    names, sizes = run.results["class_names"], run.results["task_sizes"]
    [comparison] = finished_runs.compare([run])
    return {
        "method": comparison.methods[learner, reading],
        "pictures": {
            columns: inline(draw_confusions(shown, names, sizes, columns=columns)) for columns in (1, 2)
        },
    }


def _auxiliary(run: FinishedRun) -> dict[str, Any] | None:
    """The auxiliary images that were trained on, with their numbers by variant and class."""
    path = pathlib.Path(run.folder) / "auxiliary.json"
    if not path.exists():
        return None
    sheet, written, order = path.with_suffix(".png"), record.read_result(path), run.results["class_names"]
    try:
        variants = {
            variant_name(variant): (
                count(sum(images.values()), "image", "images"),
                _by_class({name: images[name] for name in in_order(images, order)}),
            )
            for variant, images in written["variants"].items()
        }
        source = written["source"]
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged: {error!r}; run it again.") from None
    if chosen := run.results.get("synthetic_filter"):
        source = f"{source}, those that its filter {chosen['name']} keeps"
    return {
        "source": source,
        "sheet": inline(sheet.read_bytes()) if sheet.exists() else None,
        "variants": variants,
    }


def _memory(folder: pathlib.Path) -> dict[str, str]:
    """What the learners of a run keep of past images after the last task, by lane."""
    words = {}
    for path in sorted(folder.glob("learners/*/learner.json")):
        about = record.read_result(path)
        height, width = about["setup"]["image_shape"]
        if about["exemplars"]:
            megabytes = about["exemplars"] * height * width * 3 / 1e6
            words[path.parent.name] = f"{about['exemplars']:,} exemplars, {megabytes:.2f} MB of pixels"
        else:
            words[path.parent.name] = "no exemplars"
    return words


def _by_class(images: Mapping[str, int]) -> str:
    """Numbers of images in words; neighbours with the same number share it."""
    groups: list[tuple[int, list[str]]] = []
    for name, number in images.items():
        if groups and groups[-1][0] == number:
            groups[-1][1].append(name)
        else:
            groups.append((number, [name]))
    return "; ".join(
        f"{number:,} of {'each of ' * (len(names) > 1)}{', '.join(names)}" for number, names in groups
    )


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.1f} s"
        if seconds < 120
        else f"{seconds / 60:.1f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def _what_ran(runs: Sequence[FinishedRun]) -> str:
    if len(runs) > 1:
        return f"{len(runs)} runs with {sum(len(run.results['runs']) for run in runs):,} accuracy matrices"
    words = _provenance(runs[0])
    return (
        f"Class order {words['class order']}, {'seeds' if ',' in words['seeds'] else 'seed'} {words['seeds']}"
    )


def _table_of_runs(runs: Sequence[FinishedRun]) -> list[dict[str, str]]:
    """A line per run, with its auxiliary images where any run has some."""
    lines = []
    for run in runs:
        variants = (_auxiliary(run) or {"variants": {}})["variants"]
        images = ", ".join(f"{name} {total}" for name, (total, _) in variants.items())
        lines.append({"run": run.folder, **_provenance(run), "auxiliary images": images})
    if any(line["auxiliary images"] for line in lines):
        return lines
    return [{name: cell for name, cell in line.items() if name != "auxiliary images"} for line in lines]


def _provenance(run: FinishedRun) -> dict[str, str]:
    return {
        "class order": run.results["config"]["scenario"]["class_order"],
        "class order hash": run.results["class_order_hash"],
        "seeds": ", ".join(map(str, sorted({one["seed"] for one in run.results["runs"]}))),
        "jax": run.results["versions"].get("jax", ""),
        "device": run.results["device"],
    }


def _lines(comparisons: Sequence[Comparison]) -> Iterator[dict[str, Any]]:
    """The lines of `results.tidy` of every run, with the scenario and setting that it belongs to."""
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
                yield from (where | line for line in results.tidy(run.results))
