"""What a run found: the summary over seeds, the table that the command prints, and one self-contained page."""

import io
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxcil.evaluation.reports.confusion import draw_confusions
from jaxcil.evaluation.reports.curves import accuracy_curves
from jaxcil.evaluation.reports.names import (
    CONTROLS,
    CONVENTIONS,
    EVALUATED_ON,
    EXTRACTORS,
    FURTHER_METRICS,
    METRICS,
    extractor_name,
    in_order,
    method_name,
)
from jaxcil.evaluation.reports.pages import classes_per_task, count, inline, render
from jaxcil.evaluation.reports.spread import paired, share_of_gap
from jaxcil.workdir import files


class Gain(NamedTuple):
    """What future-proofing brought to one method, in average incremental accuracy, paired by seed."""

    method: str
    mean: float
    std: float | None  # n - 1; None for one seed
    share: float | None  # of the gap between plain and real future images; None where there is no gap


def summarise(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean, standard deviation (n - 1; None for one seed) and number of seeds of every metric that all runs have.

    Args:
      runs: the "runs" of results.json.

    Returns:
      Its "summary": one entry a method and extractor, methods in the order in which they first come, extractors
      in that of every page.
    """
    extractors = in_order((run["extractor"] for run in runs), EXTRACTORS)
    metrics = [
        *METRICS,
        *(metric for metric in FURTHER_METRICS if all(run.get(metric) is not None for run in runs)),
    ]
    of_pair = {
        (method, extractor): [r for r in runs if (r["method"], r["extractor"]) == (method, extractor)]
        for method in dict.fromkeys(run["method"] for run in runs)
        for extractor in extractors
    }
    return [
        {
            "method": method,
            "extractor": extractor,
            **{metric: _statistics([run[metric] for run in of_one]) for metric in metrics},
        }
        for (method, extractor), of_one in of_pair.items()
        if of_one
    ]


def gains(runs: Sequence[Mapping[str, Any]]) -> list[Gain]:
    """The gain of future-proof over plain extractors, for each method that has both, over the seeds of both."""
    values: dict[str, dict[str, dict[tuple[str, int], float]]] = {}
    for run in runs:
        of_extractor = values.setdefault(run["method"], {}).setdefault(run["extractor"], {})
        of_extractor["", run["seed"]] = run["average_incremental_accuracy"]
    found = []
    for method, of in values.items():
        plain, ours, bound = (of.get(name, {}) for name in ("plain", "future_proof", "real_future"))
        gain = paired(ours, plain)
        if gain:
            statistics = _statistics(list(gain.values()))
            found.append(
                Gain(method, statistics["mean"], statistics["std"], share_of_gap(ours, plain, bound))
            )
    return found


def summary_table(results: Mapping[str, Any]) -> str:
    """The results as lines of text: mean and standard deviation over seeds, in percent."""
    header = ["method", "extractor", *METRICS.values()]
    rows = [
        [
            method_name(entry["method"]),
            extractor_name(entry["extractor"]),
            *(_percent(entry[metric]) for metric in METRICS),
        ]
        for entry in results["summary"]
    ]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(cells: list[str]) -> str:
        texts = [cell.ljust(width) for cell, width in zip(cells[:2], widths)]
        numbers = [cell.rjust(width) for cell, width in zip(cells[2:], widths[2:])]
        return "  ".join(texts + numbers)

    lines = [line(header), line(["-" * width for width in widths]), *map(line, rows)]
    lines += [
        f"FPCIL gains {_points(gain)} points over plain with {method_name(gain.method)}"
        + ("" if gain.share is None else f", {100 * gain.share:.0f} % of the way to real future images")
        for gain in gains(results["runs"])
    ]
    return "\n".join(lines)


def write_report(
    workdir: str | os.PathLike,
    results: Mapping[str, Any],
    *,
    contact_sheet: str | os.PathLike | None = None,
    synthetic: Mapping[str, float | str] | None = None,
) -> pathlib.Path:
    """Writes report.html, one page with its pictures inside, and gives its path.

    Args:
      workdir: of the run; a confusion.npz in it, counts [S, C, C] of seeds by "EXTRACTOR-HEAD", is drawn.
      results: what results.json holds.
      contact_sheet: a PNG of synthetic images; None looks into the data set that the config names, or else
        the one in the workdir, and shows none if there is none.
      synthetic: figures about the synthetic images, by label, if there are any to show.
    """
    workdir = pathlib.Path(workdir)
    runs = results["runs"]
    sheet = pathlib.Path(contact_sheet) if contact_sheet else _default_sheet(workdir, results["config"])
    known = METRICS | FURTHER_METRICS
    metrics = {metric: known[metric] for metric in known if metric in results["summary"][0]}
    page = render(
        "report.html.jinja",
        title=_title(results),
        sentences=_what_was_run(results),
        metrics=metrics,
        methods={
            name: [
                {
                    "extractor": extractor_name(entry["extractor"]),
                    "ours": entry["extractor"] == "future_proof",
                    "cells": [_percent(entry[metric]) for metric in metrics],
                }
                for entry in results["summary"]
                if method_name(entry["method"]) == name
            ]
            for name in dict.fromkeys(method_name(entry["method"]) for entry in results["summary"])
        },
        gains=[
            {
                "method": method_name(gain.method),
                "points": _points(gain),
                "share": None if gain.share is None else round(100 * gain.share),
            }
            for gain in gains(runs)
        ],
        controls={
            extractor_name(name): CONTROLS[name]
            for name in in_order((run["extractor"] for run in runs), EXTRACTORS)
            if name in CONTROLS
        },
        several_seeds=len({run["seed"] for run in runs}) > 1,
        conventions={name: CONVENTIONS.get(value, value) for name, value in results["conventions"].items()},
        curves={columns: _curves(results, columns) for columns in (1, 3)},
        confusion=_confusion(workdir / "confusion.npz", results),
        sheet=inline(sheet.read_bytes()) if sheet and sheet.exists() else None,
        synthetic={label: _figure(value) for label, value in (synthetic or {}).items()},
        versions={**results["versions"], "device": results["device"]},
        class_order=", ".join(map(str, results.get("class_names", results["class_order"]))),
        class_order_hash=results["class_order_hash"],
        config=json.dumps(results["config"], indent=2),
    )
    files.write(workdir / "report.html", page)
    return workdir / "report.html"


def _title(results: Mapping[str, Any]) -> str:
    return f"{results['config'].get('dataset', 'a data set')}: {classes_per_task(results['task_sizes'])}"


def _what_was_run(results: Mapping[str, Any]) -> list[str]:
    """Two sentences: the benchmark, and where the images of the classes to come are from."""
    config, sizes = results["config"], results["task_sizes"]
    seeds = sorted({run["seed"] for run in results["runs"]})
    order = config.get("scenario", {}).get("class_order", "given")
    split = EVALUATED_ON[config.get("evaluate_on", "test")]
    benchmark = (
        f"The {count(sum(sizes), 'class', 'classes')} of {config.get('dataset', 'the data set')} come in "
        f"{count(len(sizes), 'task', 'tasks')}, {classes_per_task(sizes)}, in class order {order}, with "
        f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}, and are evaluated on {split}."
    )
    extractors = {run["extractor"] for run in results["runs"]}
    if not extractors & {"future_proof", *CONTROLS}:
        return [benchmark, "No synthetic images were used."]
    who = (
        "FPCIL trains its extractor"
        if "future_proof" in extractors
        else "The controls train their extractors"
    )
    return [benchmark, f"{who} on the real images of the first task and on {_auxiliary(config)}."]


def _auxiliary(config: Mapping[str, Any]) -> str:
    """Which images beside the first task's were to be had."""
    chosen, synthetic = config.get("future_proof", {}), config.get("synthetic", {})
    classes = ", ".join(chosen.get("classes") or ()) or "the classes to come"
    if (share := chosen.get("known_share", 1)) < 1:
        classes = f"{100 * share:g} % of {classes}"
    if chosen.get("images_per_class"):
        classes += f" ({chosen['images_per_class']} of each)"
    if chosen.get("source"):
        return f"real images of {classes}, from the data set {chosen['source']}"
    if synthetic.get("path"):
        source = f"from the data set {synthetic['path']}"
        source += f", those that its filter {synthetic['filter']} keeps" if synthetic.get("filter") else ""
    else:
        made = [
            f"{synthetic['images_per_class']} a class" if "images_per_class" in synthetic else "",
            f"guidance scale {synthetic['guidance_scale']:g}" if synthetic.get("guidance_scale") else "",
            f"{synthetic['calls']} network calls an image" if "calls" in synthetic else "",
        ]
        source = f"from the generator {synthetic.get('model', 'in the configuration below')}"
        source += f" ({', '.join(filter(None, made))})" if any(made) else ""
    return f"synthetic images of {classes}, {source}"


def _default_sheet(workdir: pathlib.Path, config: Mapping[str, Any]) -> pathlib.Path:
    path = config.get("synthetic", {}).get("path")
    return (pathlib.Path(path) if path else workdir / "synthetic") / "contact_sheet.png"


def _curves(results: Mapping[str, Any], columns: int) -> str:
    picture = io.BytesIO()
    accuracy_curves(dict(results), picture, columns=columns)
    return inline(picture.getvalue())


def _confusion(path: pathlib.Path, results: Mapping[str, Any]) -> dict[str, Any] | None:
    """Pictures of the first head's confusion matrices on the plain and the future-proof extractor."""
    if not path.exists():
        return None
    method = results["runs"][0]["method"]
    with np.load(path) as counts:
        found = {
            extractor_name(name): counts[f"{name}-{method}"]
            for name in ("plain", "future_proof")
            if f"{name}-{method}" in counts
        }
    if not found:
        return None
    names = results.get("class_names", results["class_order"])
    pictures = {
        columns: inline(draw_confusions(found, names, results["task_sizes"], columns=columns))
        for columns in (1, 2)
    }
    return {"method": method_name(method), "pictures": pictures}


def _statistics(values: Sequence[float]) -> dict[str, Any]:
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "std": std, "n": len(values)}


def _percent(statistics: Mapping[str, Any]) -> str:
    spread = "" if statistics["std"] is None else f" ± {100 * statistics['std']:.1f}"
    return f"{100 * statistics['mean']:.1f}{spread}"


def _points(gain: Gain) -> str:
    spread = "" if gain.std is None else f" ± {100 * gain.std:.1f}"
    return f"{100 * gain.mean:+.1f}{spread}"


def _figure(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
