"""Results in the formats that others read: JSON, and CSV with one value per line.

Only the presence of results.json says that a run is finished.
"""

import csv
import io
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxcil.evaluation.reports.finished_runs import curves
from jaxcil.evaluation.reports.names import FURTHER_METRICS, METRICS, VARIANTS, in_order
from jaxcil.workdir import files, record

KEYS = ("learner", "reading", "variant", "seed")  # of an entry of "runs"
COLUMNS = (*KEYS, "class_order", "class_order_hash", "task", "metric", "value")


def summarise(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean, standard deviation (n - 1; None for one seed) and number of seeds of every metric that all runs have.

    Args:
      runs: the "runs" of results.json.

    Returns:
      Its "summary": one entry per learner, reading and variant; methods in the order in which they first come,
      variants in display order.
    """
    variants = in_order((run["variant"] for run in runs), VARIANTS)
    metrics = [
        *METRICS,
        *(metric for metric in FURTHER_METRICS if all(run.get(metric) is not None for run in runs)),
    ]
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {
        (learner, reading, variant): []
        for learner, reading in dict.fromkeys((run["learner"], run["reading"]) for run in runs)
        for variant in variants
    }
    for run in runs:
        groups[run["learner"], run["reading"], run["variant"]].append(run)
    return [
        dict(zip(KEYS, key)) | {metric: _statistics([run[metric] for run in group]) for metric in metrics}
        for key, group in groups.items()
        if group
    ]


def write_results(folder: str | os.PathLike, results: Mapping[str, Any]) -> None:
    """Writes results.csv, the lines of `tidy`, and results.json. Equal results give equal bytes.

    Args:
      folder: the workdir of a run.
      results: what results.json holds.
    """
    folder = pathlib.Path(folder)
    files.write(folder / "results.csv", as_csv(COLUMNS, tidy(results)))
    record.write_checked_json(folder / "results.json", results)  # last: it says that the run is finished


def tidy(results: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One value per line, by COLUMNS; the task is "" where the value is the whole run's.

    Each task has `seen_accuracy`, over all classes seen, `top_5_accuracy` where the run has it, and
    `accuracy_of_task_I` for every task I seen; the whole run has the metrics of results.json. All are fractions.
    """
    order = results["config"]["scenario"]["class_order"]
    for run, curve in zip(results["runs"], curves(results)):
        same = {name: run[name] for name in KEYS} | {
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


def as_csv(columns: Sequence[str], lines: Iterable[Mapping[str, Any]]) -> str:
    """Lines of values by column, under a header."""
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(lines)
    return text.getvalue()


def _statistics(values: Sequence[float]) -> dict[str, Any]:
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "std": std, "n": len(values)}
