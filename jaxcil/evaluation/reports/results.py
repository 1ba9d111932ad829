"""Results in the formats that others read: JSON, a CSV with one value a line, and scalars for TensorBoard.

A writer takes a folder and results (all, or what is there so far: results.json with fewer runs), and puts its file in
place of the one before. So it serves while a run goes on and at its end alike; only results.json tells that a run is
finished. What a training reports step by step goes to `jaxcil.workdir.scalars` as it comes.
"""

import csv
import io
import itertools
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxcil.errors import unknown_name
from jaxcil.evaluation.reports.finished_runs import curves
from jaxcil.evaluation.reports.names import FURTHER_METRICS, METRICS
from jaxcil.workdir.record import files
from jaxcil.workdir.scalars import Scalars

COLUMNS = (
    "method",
    "extractor",
    "seed",
    "class_order",
    "class_order_hash",
    "task",
    "metric",
    "value",
)


def write_json(folder: str | os.PathLike, results: Mapping[str, Any]) -> pathlib.Path:
    """Writes results.json, whose presence says that the run is finished, and gives its path."""
    path = pathlib.Path(folder) / "results.json"
    files.write_json(path, results)
    return path


def write_csv(folder: str | os.PathLike, results: Mapping[str, Any]) -> pathlib.Path:
    """Writes results.csv, the lines of `tidy`, and gives its path. Equal results give equal bytes."""
    path = pathlib.Path(folder) / "results.csv"
    files.write(path, as_csv(COLUMNS, tidy(results)))
    return path


def write_tensorboard(folder: str | os.PathLike, results: Mapping[str, Any]) -> pathlib.Path:
    """Writes curves over tasks into tensorboard/results, in place of those that stand there, and gives that folder.

    A curve is named method/extractor/seed and metric; its points are the tasks of `tidy`.
    """
    path = pathlib.Path(folder) / "tensorboard" / "results"
    shutil.rmtree(path, ignore_errors=True)
    scalars = Scalars(path)
    for task, lines in itertools.groupby(tidy(results), key=lambda line: line["task"]):
        if task != "":
            scalars.write(task, {_curve_name(line): line["value"] for line in lines})
    scalars.close()
    return path


WRITERS = {"json": write_json, "csv": write_csv, "tensorboard": write_tensorboard}


def write_results(
    folder: str | os.PathLike, results: Mapping[str, Any], formats: tuple[str, ...]
) -> list[pathlib.Path]:
    """Writes results in each of the formats, and gives their paths.

    Args:
      folder: the workdir of a run.
      results: what results.json holds, or is to hold in the end.
      formats: names of WRITERS.

    Raises:
      InputError: a format has no writer; nothing is written then.
    """
    for name in formats:
        if name not in WRITERS:
            raise unknown_name("format of results", name, WRITERS)
    return [WRITERS[name](folder, results) for name in formats]


def tidy(results: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One value a line, by COLUMNS; of a whole run where the task is "".

    After each task there are `seen_accuracy`, over all classes seen, `top_5_accuracy` where the run has it, and
    `accuracy_of_task_I` for every task I seen; of the whole run, the metrics of results.json. All are fractions.
    """
    order = results["config"].get("scenario", {}).get("class_order", "")
    for run, curve in zip(results["runs"], curves(results)):
        same = {name: run[name] for name in ("method", "extractor", "seed")} | {
            "class_order": order,
            "class_order_hash": results["class_order_hash"],
        }
        top_5 = run.get("top_5_accuracy") or [None] * len(curve)
        for task, (seen, row) in enumerate(zip(curve, np.array(run["accuracy_matrix"], np.float64))):
            yield same | {"task": task, "metric": "seen_accuracy", "value": float(seen)}
            if top_5[task] is not None:
                yield same | {"task": task, "metric": "top_5_accuracy", "value": top_5[task]}
            for earlier, accuracy in enumerate(row[: task + 1]):
                yield same | {
                    "task": task,
                    "metric": f"accuracy_of_task_{earlier}",
                    "value": float(accuracy),
                }
        for metric in (*METRICS, *FURTHER_METRICS):
            if run.get(metric) is not None:
                yield same | {"task": "", "metric": metric, "value": run[metric]}


def as_csv(columns: tuple[str, ...], lines: Iterator[Mapping[str, Any]]) -> str:
    """Lines of values by column, under a header."""
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(lines)
    return text.getvalue()


def _curve_name(line: Mapping[str, Any]) -> str:
    return f"{line['method']}/{line['extractor']}/seed_{line['seed']}/{line['metric']}"
