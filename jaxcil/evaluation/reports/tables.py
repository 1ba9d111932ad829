"""Tables of one run or many: means with both spreads, gains over plain paired by class order and seed, as text."""

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxcil import tables
from jaxcil.evaluation.reports.finished_runs import Comparison, FinishedRun, Setting, compare, in_words
from jaxcil.evaluation.reports.names import (
    FURTHER_METRICS,
    METRICS,
    OURS,
    VARIANTS,
    Method,
    in_order,
    variant_name,
)
from jaxcil.evaluation.reports.pages import classes_per_task
from jaxcil.evaluation.reports.spread import Pair, Spread, paired, recovered, spread

Cells = tuple[list[str], list[list[str]]]  # header and lines of a table, as text
MAIN = "average_incremental_accuracy"  # what gains are in
OF_AUXILIARY = ("synthetic.", "auxiliary.")  # fields that concern auxiliary images alone
OF_OTHERS = ("synthetic.", "auxiliary.future.")  # those of them that do not concern real_past
WITHOUT_AUXILIARY = ("plain", "real_future", "real_past")  # variants that never see an auxiliary image
# The upper bound of a variant trains on real images in the place of the synthetic ones.
BOUNDS = {
    "future_proof": "real_future",
    "shuffled_labels": "real_future",
    "known_classes": "real_future",
    "sddr": "real_past",
    "sddr_classification": "real_past",
    "sddr_distillation": "real_past",
    "sddr_shuffled_labels": "real_past",
    "sddr_wrong_classes": "real_past",
}


class Row(NamedTuple):
    """One method in one variant, over all class orders and seeds of a setting."""

    method: str  # display name
    variant: str
    metrics: dict[str, Spread]  # those that every entry of the setting has
    gain: Spread | None  # over plain; None for plain itself, or without a pair
    recovered: float | None  # gain as a fraction of the upper bound's; None where that would be noise


def rows(comparison: Comparison, setting: Setting) -> list[Row]:
    """The rows of a setting, methods and variants in display order.

    Gains are also over plain and real images of another setting, where it differs in `OF_AUXILIARY` alone: those
    variants see no auxiliary image.
    """
    metrics = [
        metric
        for metric in (*METRICS, *FURTHER_METRICS)
        if all(metric in entry.metrics for entry in setting.entries)
    ]
    of_metric = {metric: _values(setting, metric) for metric in metrics}
    main, real = of_metric[MAIN], _without_auxiliary(comparison, setting)
    table = []
    for method, name in comparison.methods.items():
        for variant in in_order((variant for of, variant in main if of == method), VARIANTS):
            own, plain = main[method, variant], real.get((method, "plain"), {})
            bound = real.get((method, BOUNDS.get(variant, "")), {})
            gains = paired(own, plain) if variant != "plain" else {}
            gain = spread(gains) if gains else None
            table.append(
                Row(
                    name,
                    variant,
                    {metric: spread(of_metric[metric][method, variant]) for metric in metrics},
                    gain,
                    recovered(own, plain, bound) if gain and gain.mean >= 0 else None,
                )
            )
    return table


def summary_table(results: Mapping[str, Any]) -> str:
    """The table that `jaxcil run` prints: a line per method and variant, in percent, and what FPCIL and SDDR gain.

    Args:
      results: what results.json holds.
    """
    [comparison] = compare([FinishedRun("", results)])
    table = rows(comparison, comparison.settings[0])
    lines = [
        [row.method, variant_name(row.variant), *(percent(row.metrics[metric]) for metric in METRICS)]
        for row in table
    ]
    header = ["method", "variant", *METRICS.values()]
    return "\n".join([tables.plain(header, lines, left=2), *filter(None, map(_gain_in_words, table))])


def as_markdown(comparisons: Iterable[Comparison]) -> str:
    """All tables, each under the name of its scenario and setting."""
    blocks = []
    for comparison in comparisons:
        blocks.append(f"## {_escaped(title(comparison))}")
        if len(comparison.settings) > 1:
            overview = _markdown(side_by_side(comparison))
            blocks.append(f"Average incremental accuracy (gain over plain)\n\n{overview}")
        for setting in comparison.settings:
            blocks += [f"### {_escaped(setting.name)}"] * bool(setting.name)
            if (fields := in_words(setting.fields)) != setting.name:
                blocks.append(f"With {_escaped(fields)}.")
            table = rows(comparison, setting)
            blocks += [f"{name}\n\n{_markdown(grid)}" for name, grid in grids(table).items()]
            blocks.append(numbers(table))
        blocks.append(explained(comparison))
    return "\n\n".join(blocks) + "\n"


def title(comparison: Comparison) -> str:
    """A scenario in words."""
    classes = f" ({comparison.classes})" if comparison.classes else ""
    number = sum(comparison.task_sizes)
    return f"{comparison.dataset}, {number} classes{classes}: {classes_per_task(comparison.task_sizes)}"


def grids(table: Sequence[Row]) -> dict[str, Cells]:
    """Tables with a line per method and a column per variant, by what they show."""
    gained = [row for row in table if row.gain]
    fractions = any(row.recovered is not None for row in gained)
    shown = {
        "Average incremental accuracy": _grid(table, lambda row: percent(row.metrics[MAIN])),
        "Last accuracy": _grid(table, lambda row: percent(row.metrics["last_accuracy"])),
    }
    if gained:
        name = "Gain over plain" + " (part of the upper bound's gain)" * fractions
        shown[name] = _grid(gained, _gain)
    return shown


def numbers(table: Sequence[Row]) -> str:
    """The number of class orders and of seeds, for each variant where they differ."""
    of: dict[str, dict[str, None]] = {}
    for row in table:
        of.setdefault(variant_name(row.variant), {})[_counts(row.metrics[MAIN].counts)] = None
    every = {name: " or ".join(counts) for name, counts in of.items()}
    each = ", ".join(f"{name} {counts}" for name, counts in every.items())
    return f"n = {next(iter(every.values())) if len(set(every.values())) == 1 else each}"


def every_metric(table: Sequence[Row]) -> Cells:
    """A table with a line per method and variant, and a column per metric.

    Metrics that say nothing are left out: 100 % everywhere, as top-5 accuracy among few classes, and a backward
    transfer that is minus the forgetting.
    """
    names = METRICS | FURTHER_METRICS
    gains = any(row.gain for row in table)
    others = [
        metric
        for metric in table[0].metrics
        if metric != MAIN
        and not all(row.metrics[metric].mean == 1 for row in table)
        and not (metric == "backward_transfer" and all(map(_only_forgets, table)))
    ]
    header = [
        *("method", "variant", names[MAIN]),
        *["gain over plain"] * gains,
        *(names[metric] for metric in others),
        "n",
    ]
    return header, [
        [
            row.method,
            variant_name(row.variant),
            percent(row.metrics[MAIN]),
            *[_gain(row)] * gains,
            *(percent(row.metrics[metric]) for metric in others),
            _counts(row.metrics[MAIN].counts),
        ]
        for row in table
    ]


def side_by_side(comparison: Comparison) -> Cells:
    """A table over settings: average incremental accuracy, and its gain over plain.

    Lines have their n where it differs: means over other orders or seeds are not like for like, but gains are. Variants
    without auxiliary images are left to the setting's own tables where it has others.
    """
    of_setting = {}
    for setting in comparison.settings:
        table = rows(comparison, setting)
        auxiliary = [row for row in table if row.variant not in WITHOUT_AUXILIARY]
        of_setting[setting.name] = auxiliary or table
    methods = in_order(
        (row.method for table in of_setting.values() for row in table), comparison.methods.values()
    )
    lines, counts = [], []
    for name, table in of_setting.items():
        for variant in in_order((row.variant for row in table), VARIANTS):
            of = {row.method: row for row in table if row.variant == variant}
            lines.append([name, variant_name(variant), *(_worth(of.get(method)) for method in methods)])
            counts.append(
                " or ".join(dict.fromkeys(_counts(row.metrics[MAIN].counts) for row in of.values()))
            )
    header = ["setting", "variant", *methods]
    if len(set(counts)) == 1:
        return header, lines
    return [*header, "n"], [[*line, count] for line, count in zip(lines, counts)]


def explained(comparison: Comparison) -> str:
    """What the numbers in the tables of a comparison are."""
    table = [row for setting in comparison.settings for row in rows(comparison, setting)]
    seeds = any(row.metrics[MAIN].seeds is not None for row in table)
    orders = any(row.metrics[MAIN].orders is not None for row in table)
    gains, pairs = any(row.gain for row in table), "class order and seed" if orders else "seed"
    bounded = {BOUNDS[row.variant] for row in table if row.gain and row.variant in BOUNDS}
    if orders:
        sentences = [
            "Percent: mean ± standard deviation over training seeds (within a class order, pooled over orders) / over "
            "class orders (of their means), both with n - 1. Every class order has the same weight."
        ]
    elif seeds:
        sentences = ["Percent: mean ± standard deviation over training seeds, with n - 1."]
    else:
        sentences = ["Percent."]
    if gains:
        sentences.append(f"Gains are in average incremental accuracy, paired by {pairs}.")
    if bounded & {row.variant for row in table}:
        sentences.append(
            "The percentage after a gain is the part of the upper bound's gain that it reaches; it is omitted for "
            "losses, and where the upper bound's own gain lies within its spread."
        )
    sentences.append("n is class orders × seeds.")
    if len(comparison.settings) > 1:
        sentences.append("Settings that differ in auxiliary images alone share their plain and real images.")
    return " ".join(sentences)


def percent(value: Spread, sign: str = "") -> str:
    """A mean in percent ± its spread over seeds / over orders, where there are any."""
    mean, seeds, orders = (
        "–" if part is None else f"{100 * part:{form}}"
        for part, form in ((value.mean, f"{sign}z.1f"), (value.seeds, ".1f"), (value.orders, ".1f"))
    )
    if value.orders is not None:
        return f"{mean} ± {seeds} / {orders}"
    return mean if value.seeds is None else f"{mean} ± {seeds}"


def _gain_in_words(row: Row) -> str:
    """A line on what FPCIL or SDDR gains or loses; nothing for other variants."""
    if row.gain is None or row.variant not in OURS:
        return ""
    name, gain = variant_name(row.variant), percent(row.gain, "+")
    if gain.startswith("-"):
        return f"{name} loses {gain[1:]} points against plain with {row.method}"
    words = f"{name} gains {gain} points over plain with {row.method}"
    if row.recovered is not None:
        words += f", {100 * row.recovered:.0f} % of the way to {variant_name(BOUNDS[row.variant]).partition(' (')[0]}"
    return words


def _only_forgets(row: Row) -> bool:
    """Whether backward transfer is minus the forgetting, up to the rounding of float64 sums of a few terms."""
    return abs(row.metrics["backward_transfer"].mean + row.metrics["forgetting"].mean) < 1e-12


def _grid(table: Sequence[Row], show: Callable[[Row], str]) -> Cells:
    variants = in_order((row.variant for row in table), VARIANTS)
    of = {(row.method, row.variant): show(row) for row in table}
    lines = [
        [method, *(of.get((method, variant), "") for variant in variants)]
        for method in dict.fromkeys(row.method for row in table)
    ]
    return ["method", *map(variant_name, variants)], lines


def _gain(row: Row) -> str:
    """With its own n where it is not over all that the row is over, and what it is of the upper bound's gain."""
    if row.gain is None:
        return ""
    fewer = row.gain.counts != row.metrics[MAIN].counts
    words = percent(row.gain, "+") + f", n {_counts(row.gain.counts)}" * fewer
    return words if row.recovered is None else f"{words} ({100 * row.recovered:.0f} %)"


def _worth(row: Row | None) -> str:
    if row is None:
        return ""
    mean = f"{100 * row.metrics[MAIN].mean:.1f}"
    return mean if row.gain is None else f"{mean} ({100 * row.gain.mean:+z.1f})"


def _counts(counts: tuple[int, ...]) -> str:
    return f"{len(counts)} × {counts[0]}" if len(set(counts)) == 1 else " + ".join(map(str, counts))


def _values(setting: Setting, metric: str) -> dict[tuple[Method, str], dict[Pair, float]]:
    """A metric by method and variant, then by class order and seed."""
    values: dict[tuple[Method, str], dict[Pair, float]] = {}
    for entry in setting.entries:
        values.setdefault((entry.method, entry.variant), {})[entry.pair] = entry.metrics[metric]
    return values


def _without_auxiliary(
    comparison: Comparison, setting: Setting
) -> dict[tuple[Method, str], dict[Pair, float]]:
    """The main metric of all runs without auxiliary images that a setting may be compared with."""

    def real(fields: Mapping[str, Any], ignored: tuple[str, ...]) -> dict[str, Any]:
        return {name: value for name, value in fields.items() if not name.startswith(ignored)}

    values: dict[tuple[Method, str], dict[Pair, float]] = {}
    for other in (*comparison.settings, setting):  # itself last: its own values count
        for (method, variant), of_pair in _values(other, MAIN).items():
            # the numbers and fractions of past images are those of the bound too
            ignored = OF_OTHERS if variant == "real_past" else OF_AUXILIARY
            if variant in WITHOUT_AUXILIARY and real(other.fields, ignored) == real(setting.fields, ignored):
                values.setdefault((method, variant), {}).update(of_pair)
    return values


def _markdown(cells: Cells) -> str:
    header, lines = cells
    return tables.markdown(list(map(_escaped, header)), [list(map(_escaped, line)) for line in lines])


def _escaped(words: str) -> str:
    """Text from outside, such as a folder's name, without meaning in Markdown tables or HTML."""
    return html.escape(words, quote=False).replace("|", "\\|")
