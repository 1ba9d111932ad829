"""Settings side by side, as a PNG: what each reaches with every head, and what lies below and above it."""

import textwrap
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxcil.evaluation.reports.curves import FAINT, INK, STYLES, as_png
from jaxcil.evaluation.reports.names import extractor_name, method_name, methods_in_order
from jaxcil.evaluation.reports.tables import MAIN, WITHOUT_SYNTHETIC, Row

WIDTH, LINE, REST = 4.6, 0.23, 0.75  # inches: of a panel, of a line of text or a bar, and around them
LETTERS = 44  # in a line of a setting's name


def draw_settings(tables: Mapping[str, Sequence[Row]], *, columns: int) -> bytes:
    """Draws the average incremental accuracy of settings: a panel a method, a bar a setting.

    Bars are of the future-proof extractor, or of the plain one where no setting has another; plain and real future
    images of the same class orders and seeds are lines across them. Whiskers are one standard deviation over seeds,
    pooled within class orders.

    Args:
      tables: setting -> `run_tables.rows` of it; at least one row.
      columns: panels side by side.
    """
    extractors = {row.extractor for found in tables.values() for row in found}
    shown = next((name for name in ("future_proof", "plain") if name in extractors), min(extractors))
    bars: dict[str, dict[str, Row]] = {}
    for setting, found in tables.items():
        for row in found:
            if row.extractor == shown:
                bars.setdefault(row.method, {})[setting] = row
    bars = {method: of for method, of in bars.items() if len(of) > 1} or bars  # one bar compares nothing
    methods = methods_in_order(bars)
    columns = min(columns, len(methods))
    lines = [
        max(sum(map(_lines, bars[method])) for method in methods[start : start + columns])
        for start in range(0, len(methods), columns)
    ]
    figure = Figure(
        (WIDTH * columns, sum(LINE * of_row + REST for of_row in lines)),
        dpi=160,
        layout="constrained",
        facecolor="white",
    )
    axes = (
        figure.subplots(len(lines), columns, sharex=True, squeeze=False, height_ratios=lines).ravel().tolist()
    )
    for number, (method, axis) in enumerate(zip(methods, axes)):
        _panel(axis, bars[method], shown)
        axis.set_title(method_name(method), loc="left", fontsize=12, fontweight="bold", color=INK)
        axis.set_ylim(-lines[number // columns], 0)
    axes[0].set_xlim(0, 114)  # a mean stands behind its bar
    axes[0].set_xticks(range(0, 101, 20))
    for axis in axes[len(methods) :]:
        axis.set_axis_off()
    named = {line.get_label(): line for axis in axes for line in axis.get_legend_handles_labels()[0]}
    figure.legend(
        list(named.values()),
        list(named),
        loc="outside upper center",
        ncol=1 if columns == 1 else len(named),
        fontsize=10,
        frameon=False,
        labelcolor=INK,
    )
    figure.supxlabel("average incremental accuracy (%)", fontsize=10, color=INK)
    return as_png(figure)


def _lines(setting: str) -> float:
    """What a setting takes, in lines of text: those of its name, one for its bar, and a gap."""
    return len(textwrap.wrap(setting, LETTERS)) + 1.4


def _panel(axis: Axes, bars: Mapping[str, Row], shown: str) -> None:
    top = 0.0
    for setting, row in bars.items():
        place = top - _lines(setting) + 0.9
        words = textwrap.fill(setting, LETTERS)
        # a dollar sign in the name of a folder opens no formula
        axis.text(
            0.6, place + 0.55, words, fontsize=10, color=INK, va="bottom", linespacing=1.1, parse_math=False
        )
        _bar(axis, row, place, shown)
        top -= _lines(setting)
    axis.set_yticks([])
    axis.grid(axis="x", color=FAINT, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.spines["bottom"].set_color("#999999")
    axis.tick_params(labelsize=10, colors=INK, labelbottom=True)


def _bar(axis: Axes, row: Row, place: float, shown: str) -> None:
    value = row.metrics[MAIN]
    axis.barh(
        place,
        100 * value.mean,
        0.9,
        color=STYLES.get(shown, ("#000000",))[0],
        alpha=0.75,
        xerr=None if value.seeds is None else 100 * value.seeds,
        error_kw={"ecolor": INK, "elinewidth": 1},
        label=extractor_name(shown),
    )
    axis.text(102, place, f"{100 * value.mean:.1f}", fontsize=10, color=INK, va="center")
    for extractor, level in zip(WITHOUT_SYNTHETIC, (row.plain, row.bound)):
        if level is not None and extractor != shown:
            color, _, dashes = STYLES[extractor]
            axis.plot(
                [100 * level] * 2,
                [place - 0.7, place + 0.7],
                color=color,
                linestyle=dashes,
                linewidth=2,
                label=extractor_name(extractor),
            )
