"""Tables across runs: means with both spreads, gains over plain paired by class order and seed, as Markdown."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxcil.evaluation.reports.finished_runs import Comparison, Setting, in_words
from jaxcil.evaluation.reports.names import (
    EXTRACTORS,
    FURTHER_METRICS,
    METRICS,
    extractor_name,
    in_order,
    method_name,
    methods_in_order,
)
from jaxcil.evaluation.reports.pages import classes_per_task
from jaxcil.evaluation.reports.spread import Pair, Spread, paired, share_of_gap, spread

Cells = tuple[list[str], list[list[str]]]  # header and lines of a table, as text
MAIN = "average_incremental_accuracy"  # what gains are in
OF_SYNTHETIC = ("synthetic.", "future_proof.")  # fields that concern synthetic images alone
WITHOUT_SYNTHETIC = ("plain", "real_future")  # extractors that never see a synthetic image
SPREADS = (
    "Percent: mean ± standard deviation over training seeds (within a class order, pooled over orders) / over class "
    "orders (of their means), both with n - 1. Every class order has the same weight. Gains over plain and shares of "
    "the gap to real future images are in average incremental accuracy, paired by class order and seed; n is class "
    "orders × seeds. Settings that differ in synthetic images alone share their plain and their real future images."
)


class Row(NamedTuple):
    """One method on one extractor, over all class orders and seeds of a setting."""

    method: str
    extractor: str
    metrics: dict[str, Spread]  # those that every run of the setting has
    gain: Spread | None  # over plain; None for plain itself, or without a pair
    share: float | None  # of the gap between plain and real future images
    plain: float | None  # the mean of plain over the same class orders and seeds; None without any
    bound: float | None  # that of real future images


def rows(comparison: Comparison, setting: Setting) -> list[Row]:
    """The rows of a setting, methods and extractors in the order of every page.

    Plain and real future images that another setting has, where it differs in `OF_SYNTHETIC` alone, serve
    for gains: those extractors see no synthetic image.
    """
    metrics = [
        metric
        for metric in (*METRICS, *FURTHER_METRICS)
        if all(metric in entry.metrics for entry in setting.entries)
    ]
    of_metric = {metric: _values(setting, metric) for metric in metrics}
    main, real = of_metric[MAIN], _without_synthetic(comparison, setting)
    found = []
    for method in methods_in_order(method for method, _ in main):
        for extractor in in_order((name for of, name in main if of == method), EXTRACTORS):
            plain, bound = (real.get((method, name), {}) for name in WITHOUT_SYNTHETIC)
            own = main[method, extractor]
            gain = paired(own, plain) if extractor != "plain" else {}
            found.append(
                Row(
                    method,
                    extractor,
                    {metric: spread(of_metric[metric][method, extractor]) for metric in metrics},
                    spread(gain) if gain else None,
                    None if extractor in WITHOUT_SYNTHETIC else share_of_gap(own, plain, bound),
                    *(_mean_of_same(own, values) for values in (plain, bound)),
                )
            )
    return found


def markdown(comparisons: Iterable[Comparison]) -> str:
    """All tables, each under the name of its scenario and setting."""
    blocks = []
    for comparison in comparisons:
        blocks.append(f"## {title(comparison)}")
        if len(comparison.settings) > 1:
            blocks.append(
                f"Average incremental accuracy (gain over plain)\n\n{_table(*side_by_side(comparison))}"
            )
        for setting in comparison.settings:
            blocks += [f"### {setting.name}"] * bool(setting.name)
            if (fields := in_words(setting.fields)) != setting.name:
                blocks.append(f"With {fields}.")
            found = rows(comparison, setting)
            for name, grid in grids(found).items():
                blocks.append(f"{name}\n\n{_table(*grid)}")
            blocks.append(numbers(found))
    return "\n\n".join([*blocks, SPREADS]) + "\n"


def title(comparison: Comparison) -> str:
    """A scenario in words."""
    classes = sum(comparison.task_sizes)
    told = f" ({comparison.classes})" if comparison.classes else ""
    return f"{comparison.dataset}, {classes} classes{told}: {classes_per_task(comparison.task_sizes)}"


def grids(found: Sequence[Row]) -> dict[str, Cells]:
    """Tables with a line a method and a column an extractor, by what they show."""
    gained = [row for row in found if row.gain]
    shares = any(row.share is not None for row in gained)
    tables = {
        "Average incremental accuracy": _grid(found, lambda row: percent(row.metrics[MAIN])),
        "Last accuracy": _grid(found, lambda row: percent(row.metrics["last_accuracy"])),
    }
    if gained:
        name = "Gain over plain" + " (share of the gap to real future images)" * shares
        tables[name] = _grid(gained, lambda row: _gain(row) + f" ({_share(row)})" * (row.share is not None))
    return tables


def numbers(found: Sequence[Row]) -> str:
    """The number of class orders and of seeds, for each extractor where they differ."""
    of: dict[str, dict[str, None]] = {}
    for row in found:
        of.setdefault(extractor_name(row.extractor), {})[_counts(row.metrics[MAIN].counts)] = None
    every = {name: " or ".join(counts) for name, counts in of.items()}
    told = ", ".join(f"{name} {counts}" for name, counts in every.items())
    return f"n = {next(iter(every.values())) if len(set(every.values())) == 1 else told}"


def every_metric(found: Sequence[Row]) -> Cells:
    """A table with a line a method and extractor, and a column a metric."""
    names = METRICS | FURTHER_METRICS
    gains = any(row.gain for row in found)
    shares = any(row.share is not None for row in found)
    others = [metric for metric in found[0].metrics if metric != MAIN]
    header = ["method", "extractor", names[MAIN], *["gain over plain"] * gains, *["of the gap"] * shares]
    header += [*(names[metric] for metric in others), "n"]
    return header, [
        [
            method_name(row.method),
            extractor_name(row.extractor),
            percent(row.metrics[MAIN]),
            *[_gain(row)] * gains,
            *[_share(row)] * shares,
            *(percent(row.metrics[metric]) for metric in others),
            _counts(row.metrics[MAIN].counts),
        ]
        for row in found
    ]


def side_by_side(comparison: Comparison) -> Cells:
    """A table over settings: average incremental accuracy, and its gain over plain.

    Lines have their n where it differs: means over other orders or seeds are no like for like, gains are. What sees no
    synthetic image is left to the setting's own tables where others of the setting see some.
    """
    tables = {}
    for setting in comparison.settings:
        found = rows(comparison, setting)
        synthetic = [row for row in found if row.extractor not in WITHOUT_SYNTHETIC]
        tables[setting.name] = synthetic or found
    methods = methods_in_order(row.method for table in tables.values() for row in table)
    lines, counts = [], []
    for name, table in tables.items():
        for extractor in in_order((row.extractor for row in table), EXTRACTORS):
            of = {row.method: row for row in table if row.extractor == extractor}
            lines.append([name, extractor_name(extractor), *(_worth(of.get(method)) for method in methods)])
            counts.append(
                " or ".join(dict.fromkeys(_counts(row.metrics[MAIN].counts) for row in of.values()))
            )
    header = ["setting", "extractor", *map(method_name, methods)]
    if len(set(counts)) == 1:
        return header, lines
    return [*header, "n"], [[*line, count] for line, count in zip(lines, counts)]


def percent(value: Spread, sign: str = "") -> str:
    """A mean in percent ± its spread over seeds / over orders, as far as there are any."""
    mean, seeds, orders = (
        "–" if part is None else f"{100 * part:{form}}"
        for part, form in ((value.mean, f"{sign}.1f"), (value.seeds, ".1f"), (value.orders, ".1f"))
    )
    if value.orders is not None:
        return f"{mean} ± {seeds} / {orders}"
    return mean if value.seeds is None else f"{mean} ± {seeds}"


def _mean_of_same(own: Mapping[Pair, float], values: Mapping[Pair, float]) -> float | None:
    same = {pair: values[pair] for pair in own if pair in values}
    return spread(same).mean if same else None


def _grid(found: Sequence[Row], show: Callable[[Row], str]) -> Cells:
    extractors = in_order((row.extractor for row in found), EXTRACTORS)
    of = {(row.method, row.extractor): show(row) for row in found}
    lines = [
        [method_name(method), *(of.get((method, extractor), "") for extractor in extractors)]
        for method in dict.fromkeys(row.method for row in found)
    ]
    return ["method", *map(extractor_name, extractors)], lines


def _share(row: Row) -> str:
    return "" if row.share is None else f"{100 * row.share:.0f} %"


def _gain(row: Row) -> str:
    """With its own n where it is not over all that the row is over."""
    if row.gain is None:
        return ""
    fewer = row.gain.counts != row.metrics[MAIN].counts
    return percent(row.gain, "+") + (f", n {_counts(row.gain.counts)}" if fewer else "")


def _worth(row: Row | None) -> str:
    if row is None:
        return ""
    mean = f"{100 * row.metrics[MAIN].mean:.1f}"
    return mean if row.gain is None else f"{mean} ({100 * row.gain.mean:+.1f})"


def _counts(counts: tuple[int, ...]) -> str:
    return f"{len(counts)} × {counts[0]}" if len(set(counts)) == 1 else " + ".join(map(str, counts))


def _values(setting: Setting, metric: str) -> dict[tuple[str, str], dict[Pair, float]]:
    """A metric by method and extractor, then by class order and seed."""
    found: dict[tuple[str, str], dict[Pair, float]] = {}
    for entry in setting.entries:
        found.setdefault((entry.method, entry.extractor), {})[entry.pair] = entry.metrics[metric]
    return found


def _without_synthetic(comparison: Comparison, setting: Setting) -> dict[tuple[str, str], dict[Pair, float]]:
    """The main metric of all runs without synthetic images that a setting may be held against."""

    def real(fields: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in fields.items() if not name.startswith(OF_SYNTHETIC)}

    found: dict[tuple[str, str], dict[Pair, float]] = {}
    for other in (*comparison.settings, setting):  # itself last: its own values count
        if real(other.fields) == real(setting.fields):
            for (method, extractor), of_pair in _values(other, MAIN).items():
                if extractor in WITHOUT_SYNTHETIC:
                    found.setdefault((method, extractor), {}).update(of_pair)
    return found


def _table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its columns aligned for a terminal too."""
    every = [header, *lines]
    widths = [max(len(line[column]) for line in every) for column in range(len(header))]

    def text(line: Sequence[str]) -> str:
        return f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths))} |"

    rule = ["-" * width for width in widths]
    return "\n".join([text(header), text(rule), *map(text, every[1:])])
