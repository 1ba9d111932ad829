"""Accuracy curves of one run or of several, as a PNG."""

import io
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxcil.evaluation.reports.finished_runs import Comparison, FinishedRun, Setting, compare
from jaxcil.evaluation.reports.names import VARIANTS, in_order, variant_name
from jaxcil.evaluation.reports.spread import Pair, by_order, over_seeds
from jaxcil.workdir import files

# Okabe and Ito's palette first; marker and dashes distinguish the lines in grey as well
STYLES = {
    "plain": ("#d55e00", "s", "-"),
    "future_proof": ("#0072b2", "o", "-"),
    "real_future": ("#444444", "^", "--"),
    "shuffled_labels": ("#cc79a7", "v", "-."),
    "known_classes": ("#009e73", "D", ":"),
    "sddr": ("#56b4e9", "P", "-"),
    "sddr_classification": ("#e69f00", "<", "-."),
    "sddr_distillation": ("#8c6bb1", ">", "-."),
    "real_past": ("#8a8a8a", "^", "--"),
    "sddr_shuffled_labels": ("#a8325e", "v", ":"),
    "sddr_wrong_classes": ("#7a8b00", "D", ":"),
    "future_proof_sddr": ("#003f8a", "*", "-"),
}
PANEL = (4.6, 3.0)  # inches; 10 point text is readable where a phone shows one panel across
LEGEND_LINE = 0.26  # inches
INK, FAINT = "#333333", "#dddddd"


def accuracy_curves(results: Mapping[str, Any], path: str | os.PathLike, *, columns: int = 1) -> None:
    """Writes a PNG of `draw_curves` of one run, whole or not at all. Equal results give equal bytes.

    Args:
      results: what results.json holds.
      path: the file.
      columns: panels next to each other.
    """
    [comparison] = compare([FinishedRun("", results)])
    files.write(path, draw_curves(comparison, comparison.settings[0], columns=columns))


def draw_curves(comparison: Comparison, setting: Setting, *, columns: int) -> bytes:
    """Draws the accuracy over all classes seen, after each task: one panel per method, one line per variant.

    Lines are means of the means of class orders, as tables weigh them; bands one standard deviation (n - 1) over
    seeds, pooled within class orders; thin lines the mean of each class order where there are several.

    Args:
      comparison: names the methods and has the sizes of the tasks.
      setting: one of its settings, whose entries are drawn.
      columns: panels next to each other.
    """
    curves: dict[str, dict[str, dict[Pair, np.ndarray]]] = {}
    for method, name in comparison.methods.items():
        for entry in setting.entries:
            if entry.method == method:
                curves.setdefault(name, {}).setdefault(entry.variant, {})[entry.pair] = entry.curve
    classes_seen = np.cumsum(comparison.task_sizes)
    variants = in_order((variant for of_variant in curves.values() for variant in of_variant), VARIANTS)
    columns = min(columns, len(curves))
    rows = -(-len(curves) // columns)
    names_per_line = 2 * columns - 1  # that have room above the panels
    height = PANEL[1] * rows + LEGEND_LINE * -(-len(variants) // names_per_line)
    figure = Figure((PANEL[0] * columns, height), dpi=160, layout="constrained", facecolor="white")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel().tolist()
    lines: dict[str, Line2D] = {}
    for method, axis in zip(curves, axes):
        lines |= _panel(axis, curves[method], classes_seen)
        # a dollar sign in a name from outside opens no formula
        axis.set_title(method, loc="left", fontsize=12, fontweight="bold", color=INK, parse_math=False)
    axes[0].set_ylim(top=min(axes[0].get_ylim()[1], 102))
    figure.legend(
        [lines[variant] for variant in variants],
        list(map(variant_name, variants)),
        loc="outside upper center",
        ncol=names_per_line,
        fontsize=11,
        frameon=False,
        labelcolor=INK,
    )
    for axis in axes[len(curves) :]:
        axis.set_axis_off()
    figure.supxlabel("classes seen", fontsize=10, color=INK)
    figure.supylabel("accuracy over all classes seen (%)", fontsize=10, color=INK)
    return as_png(figure)


def as_png(figure: Figure) -> bytes:
    """A picture of a figure; equal figures give equal bytes."""
    picture = io.BytesIO()
    canvas = FigureCanvasAgg(figure)
    canvas.print_png(picture, metadata={"Software": None})  # its version would change the bytes
    return picture.getvalue()


def _panel(
    axis: Axes, curves: Mapping[str, Mapping[Pair, np.ndarray]], classes_seen: np.ndarray
) -> dict[str, Line2D]:
    """Draws one method, and returns the line of each variant."""
    lines = {}
    for variant in in_order(curves, VARIANTS):
        groups = [100 * group for group in by_order(curves[variant])]
        of_orders = np.stack([group.mean(axis=0) for group in groups])
        mean, spread = of_orders.mean(axis=0), over_seeds(groups)
        color, marker, dashes = STYLES.get(variant, ("#000000", "x", "-"))
        if len(of_orders) > 1:
            axis.plot(classes_seen, of_orders.T, color=color, linestyle=dashes, linewidth=0.7, alpha=0.6)
        (lines[variant],) = axis.plot(
            classes_seen, mean, color=color, marker=marker, linestyle=dashes, label=variant_name(variant)
        )
        if spread is not None:
            axis.fill_between(
                classes_seen, mean - spread, mean + spread, color=color, alpha=0.18, linewidth=0
            )
    axis.set_xticks(classes_seen if len(classes_seen) <= 11 else classes_seen[:: -(-len(classes_seen) // 10)])
    axis.grid(axis="y", color=FAINT, linewidth=0.8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#999999")
    axis.tick_params(labelsize=10, colors=INK, labelbottom=True, labelleft=True)
    return lines
