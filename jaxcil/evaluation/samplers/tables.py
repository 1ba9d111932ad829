"""A comparison of samplers in words: tables sorted by quality, and what the parts of order 3 are worth."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jaxcil.evaluation.samplers.compared import BASELINES, SAMPLERS

MEASURES = {
    "wasserstein": "Wasserstein",
    "sliced_wasserstein": "sliced Wasserstein",
    "energy_distance": "energy distance",
    "frechet_to_limit": "Fréchet to the model's limit",
    "frechet_to_real": "Fréchet to real images",
    "precision": "precision",
    "recall": "recall",
}
# Data -> the measure by which its table is sorted and its verdict passed.
FIRST = {
    "gaussian": "wasserstein",
    "ring": "energy_distance",
    "mixture": "energy_distance",
    "digits": "frechet_to_limit",
}
TOLD = (10, 20)  # numbers of calls that are written out
# (from, to) of the verdict: one change each, then both together, the other basis, and the peers.
CHANGES = (
    ("er_sde_3", "er_sde_3_corrected"),
    ("er_sde_3_corrected", "er_sde_3_corrector"),
    ("er_sde_3", "er_sde_3_corrector"),
    ("er_sde_3_corrector", "er_sde_3_log_lam"),
    ("dpmpp_2m", "er_sde_3_corrector"),
    ("sde_dpmpp_2m", "er_sde_3_corrector"),
    ("dpmpp_2m", "er_ode_3_corrector"),
)
CERTAIN = 2  # standard errors from which a difference is told as one


def comparison_text(results: Mapping[str, Any]) -> str:
    """The tables at 10 and 20 calls, the fitted orders and the verdict, as lines of text.

    Args:
      results: what samplers.json holds.
    """
    blocks = [
        _quality_table(results["quality"], data, calls)
        for data in _in_order(entry["data"] for entry in results["quality"])
        for calls in _told(results["quality"], data)
    ]
    if results["orders"]:
        blocks.append(_orders_table(results["orders"]))
    blocks.append(_verdict(results["quality"]))
    return "\n\n".join(blocks)


def differences(quality: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each of CHANGES brings at the calls told, over the repetitions that both samplers share.

    Args:
      quality: entries of samplers.json.

    Returns:
      One entry a data set, number of calls and change: the mean of (to - from), and its standard error (None for
      one repetition or an exact value). Less than 0 is better.
    """
    quality = list(quality)
    values = {
        (entry["data"], entry["calls"], entry["sampler"]): np.array(entry["values"])
        for entry in quality
        if entry["measure"] == FIRST[entry["data"]]
    }
    return [
        {"data": data, "calls": calls, "from": old, "to": new} | _difference(values, data, calls, old, new)
        for data in _in_order(entry["data"] for entry in quality)
        for calls in _told(quality, data)
        for old, new in CHANGES
        if (data, calls, old) in values and (data, calls, new) in values
    ]


def _difference(
    values: Mapping[Any, np.ndarray], data: str, calls: int, old: str, new: str
) -> dict[str, Any]:
    change = values[data, calls, new] - values[data, calls, old]
    error = float(change.std(ddof=1) / np.sqrt(len(change))) if len(change) > 1 else None
    return {"difference": float(change.mean()), "standard_error": error}


def _quality_table(quality: Iterable[Mapping[str, Any]], data: str, calls: int) -> str:
    here = [entry for entry in quality if entry["data"] == data and entry["calls"] in (calls, None)]
    measures = _in_order(entry["measure"] for entry in here)
    first = FIRST[data]
    cells = {(entry["sampler"], entry["measure"]): entry for entry in here}
    names = sorted(_in_order(entry["sampler"] for entry in here), key=lambda name: cells[name, first]["mean"])
    rows = [[_label(name), *(_cell(cells.get((name, measure))) for measure in measures)] for name in names]
    best = next(name for name in names if name in SAMPLERS)
    title = f"{data}, {calls} calls, sorted by {MEASURES[first]}; best: {_label(best)}"
    return "\n".join([title, *_lines([["sampler", *(MEASURES[measure] for measure in measures)], *rows])])


def _orders_table(orders: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        [entry["case"], _label(entry["sampler"]), "" if entry["order"] is None else f"{entry['order']:.2f}"]
        for entry in orders
    ]
    return "\n".join(
        ["orders, fitted to the last three numbers of calls", *_lines([["case", "sampler", "order"], *rows])]
    )


def _verdict(quality: Iterable[Mapping[str, Any]]) -> str:
    rows = []
    for entry in differences(quality):
        change, error = entry["difference"], entry["standard_error"]
        exact = entry["data"] == "gaussian"
        certain = exact or (error is not None and abs(change) > CERTAIN * error)
        rows.append(
            [
                f"{entry['data']}, {entry['calls']} calls",
                f"{_label(entry['from'])} -> {_label(entry['to'])}",
                _with_error(change, error, sign="+"),
                "exact" if exact else f"{abs(change) / error:.1f}" if error else "",
                ("better" if change < 0 else "worse") if certain else "even",
            ]
        )
    header = ["verdict", "change", "difference of distances", "in standard errors", ""]
    return "\n".join(_lines([header, *rows]))


def _lines(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _cell(entry: Mapping[str, Any] | None) -> str:
    return "" if entry is None else _with_error(entry["mean"], entry["standard_error"])


def _with_error(value: float, error: float | None, sign: str = "") -> str:
    """As many places as give two of the error; four digits where there is none."""
    if not error:
        return f"{value:{sign}.4g}"
    places = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:{sign}.{places}f} ± {error:.{places}f}"


def _label(name: str) -> str:
    return f"({BASELINES[name]})" if name in BASELINES else SAMPLERS[name].label


def _told(quality: Iterable[Mapping[str, Any]], data: str) -> list[int]:
    """10 and 20 calls where they were measured, else the most calls that were."""
    measured = {entry["calls"] for entry in quality if entry["data"] == data} - {None}
    return [calls for calls in TOLD if calls in measured] or [max(measured)]


def _in_order(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))
