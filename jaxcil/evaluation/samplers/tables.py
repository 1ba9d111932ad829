"""A comparison of samplers as text: tables sorted by quality, fitted orders, and differences between samplers."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from jaxcil import tables
from jaxcil.evaluation.samplers.compared import BASELINES, DATA, MEASURES, SAMPLERS

REPORTED = (10, 20)  # numbers of calls with a table
CERTAIN = 2  # standard errors from which a difference is reported as one


def comparison_text(results: Mapping[str, Any]) -> str:
    """The tables at 10 and 20 calls, the fitted orders and the differences between samplers.

    Args:
      results: what samplers.json holds.
    """
    quality, orders = results["quality"], results["orders"]
    blocks = [
        _quality_table(quality, data, nfe)
        for data in _in_order(quality, "data")
        for nfe in _reported(quality, data)
    ]
    if orders:
        rows = [
            [
                entry["case"],
                _label(entry["sampler"]),
                "" if entry["order"] is None else f"{entry['order']:.2f}",
            ]
            for entry in orders
        ]
        table = tables.plain(["case", "sampler", "order"], rows, left=2)
        blocks.append(f"orders, fitted to the last three numbers of calls\n{table}")
    if changes := list(_changes(quality)):
        header = ["verdict", "change", "difference of distances", "in standard errors", ""]
        blocks.append(tables.plain(header, changes, left=2))
    return "\n\n".join(blocks)


def _changes(quality: Iterable[Mapping[str, Any]]) -> Iterator[list[str]]:
    """The mean difference of two samplers' distances, over the repetitions that both share; less than 0 is better."""
    values = {
        (entry["data"], entry["nfe"], entry["sampler"]): np.array(entry["values"])
        for entry in quality
        if entry["measure"] == DATA[entry["data"]].ranked_by
    }
    pairs = [(old, new) for new, sampler in SAMPLERS.items() for old in sampler.against]
    for data in _in_order(quality, "data"):
        for nfe in _reported(quality, data):
            for old, new in pairs:
                if (data, nfe, old) not in values or (data, nfe, new) not in values:
                    continue
                each = values[data, nfe, new] - values[data, nfe, old]
                change, exact = float(each.mean()), data == "gaussian"
                error = float(each.std(ddof=1) / np.sqrt(len(each))) if len(each) > 1 else None
                certain = exact or (error is not None and abs(change) > CERTAIN * error)
                yield [
                    f"{data}, {nfe} calls",
                    f"{_label(old)} -> {_label(new)}",
                    _with_error(change, error, sign="+"),
                    "exact" if exact else f"{abs(change) / error:.1f}" if error else "",
                    ("better" if change < 0 else "worse") if certain else "even",
                ]


def _quality_table(quality: Iterable[Mapping[str, Any]], data: str, nfe: int) -> str:
    entries = [entry for entry in quality if entry["data"] == data and entry["nfe"] in (nfe, None)]
    measures, ranked_by = _in_order(entries, "measure"), DATA[data].ranked_by
    cells = {(entry["sampler"], entry["measure"]): entry for entry in entries}
    names = sorted(_in_order(entries, "sampler"), key=lambda name: cells[name, ranked_by]["mean"])
    rows = [[_label(name), *(_cell(cells.get((name, measure))) for measure in measures)] for name in names]
    best = next(name for name in names if name in SAMPLERS)
    title = f"{data}, {nfe} calls, sorted by {MEASURES[ranked_by].label}; best: {_label(best)}"
    return f"{title}\n{tables.plain(['sampler', *(MEASURES[measure].label for measure in measures)], rows)}"


def _cell(entry: Mapping[str, Any] | None) -> str:
    return "" if entry is None else _with_error(entry["mean"], entry["standard_error"])


def _with_error(value: float, error: float | None, sign: str = "") -> str:
    """A value with the places that give two digits of its error; four digits where there is none."""
    if not error:
        return f"{value:{sign}.4g}"
    places = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:{sign}.{places}f} ± {error:.{places}f}"


def _label(name: str) -> str:
    return f"({BASELINES[name]})" if name in BASELINES else SAMPLERS[name].label


def _reported(quality: Iterable[Mapping[str, Any]], data: str) -> list[int]:
    """10 and 20 calls where they were measured, else the most calls that were."""
    measured = {entry["nfe"] for entry in quality if entry["data"] == data} - {None}
    return [nfe for nfe in REPORTED if nfe in measured] or [max(measured)]


def _in_order(entries: Iterable[Mapping[str, Any]], field: str) -> list[Any]:
    return list(dict.fromkeys(entry[field] for entry in entries))
