"""Accuracy curves of one run or of several, as a PNG."""

import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxcil.evaluation.reports import finished_runs
from jaxcil.evaluation.reports.names import EXTRACTORS, extractor_name, in_order, method_name
from jaxcil.evaluation.reports.spread import Pair, by_order, over_seeds
from jaxcil.workdir import files

# Okabe and Ito's palette; marker and dashes tell the lines apart in grey as well
STYLES = {
    "plain": ("#d55e00", "s", "-"),
    "future_proof": ("#0072b2", "o", "-"),
    "real_future": ("#444444", "^", "--"),
    "shuffled_labels": ("#cc79a7", "v", "-."),
    "known_classes": ("#009e73", "D", ":"),
}
PANEL = (4.6, 3.0)  # inches; 10 point text is readable where a phone shows one panel across
INK, FAINT = "#333333", "#dddddd"


def accuracy_curves(
    results: dict[str, Any],
    path: str | os.PathLike | io.BytesIO,
    *,
    columns: int = 1,
) -> None:
    """Draws the accuracy over all classes seen, after each task: one panel a method, one line an extractor.

    What the lines and bands are stands in `draw_curves`. Equal results give equal bytes.

    Args:
      results: what results.json holds.
      path: a PNG file, written whole or not at all; or a buffer.
      columns: panels side by side.
    """
    curves: dict[str, dict[str, dict[Pair, np.ndarray]]] = {}
    for run, curve in zip(results["runs"], finished_runs.curves(results)):
        of_extractor = curves.setdefault(run["method"], {}).setdefault(run["extractor"], {})
        of_extractor["", run["seed"]] = curve  # of one class order all
    draw_curves(curves, np.cumsum(results["task_sizes"]), path, columns=columns)


def draw_curves(
    curves: Mapping[str, Mapping[str, Mapping[Pair, np.ndarray]]],
    classes_seen: np.ndarray,
    path: str | os.PathLike | io.BytesIO,
    *,
    columns: int,
) -> None:
    """Draws curves of accuracy: one panel a method, one line an extractor.

    Lines are means of the means of class orders, as tables weigh them; bands one standard deviation (n - 1) over
    seeds, pooled within class orders; thin lines the mean of each class order where there are several. In one row or
    one column the names stand at the ends of the lines; in a grid, once above it.

    Args:
      curves: method -> extractor -> class order and seed -> a curve [T] of fractions.
      classes_seen: [T], after each task.
      path: a PNG file, written whole or not at all; or a buffer.
      columns: panels side by side.
    """
    columns = min(columns, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure((PANEL[0] * columns, PANEL[1] * rows), dpi=160, layout="constrained", facecolor="white")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel().tolist()
    for method, axis in zip(curves, axes):
        _panel(axis, curves[method], classes_seen)
        axis.set_title(method_name(method), loc="left", fontsize=12, fontweight="bold", color=INK)
    axes[0].set_ylim(top=min(axes[0].get_ylim()[1], 102))
    if rows > 1 and columns > 1:
        _legend(figure, axes[: len(curves)], columns)
    else:
        for axis in axes:
            _direct_labels(axis)
    for axis in axes[len(curves) :]:
        axis.set_axis_off()
    figure.supxlabel("classes seen", fontsize=10, color=INK)
    figure.supylabel("accuracy over all classes seen (%)", fontsize=10, color=INK)
    picture = as_png(figure)
    if isinstance(path, io.BytesIO):
        path.write(picture)
    else:
        files.write(path, picture)


def as_png(figure: Figure) -> bytes:
    """A picture of a figure; equal figures give equal bytes."""
    picture = io.BytesIO()
    canvas = FigureCanvasAgg(figure)
    canvas.print_png(picture, metadata={"Software": None})  # its version would change the bytes
    return picture.getvalue()


def _panel(axis: Axes, curves: Mapping[str, Mapping[Pair, np.ndarray]], classes_seen: np.ndarray) -> None:
    for extractor in in_order(curves, EXTRACTORS):
        groups = [100 * group for group in by_order(curves[extractor])]
        of_orders = np.stack([group.mean(axis=0) for group in groups])
        mean, spread = of_orders.mean(axis=0), over_seeds(groups)
        color, marker, dashes = STYLES.get(extractor, ("#000000", "x", "-"))
        if len(of_orders) > 1:
            axis.plot(classes_seen, of_orders.T, color=color, linestyle=dashes, linewidth=0.7, alpha=0.6)
        axis.plot(
            classes_seen,
            mean,
            color=color,
            marker=marker,
            linestyle=dashes,
            label=extractor_name(extractor),
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


def _legend(figure: Figure, axes: Sequence[Axes], columns: int) -> None:
    """The names of all lines, above the grid."""
    lines = {str(line.get_label()): line for axis in axes for line in _named(axis)}
    names = in_order(lines, EXTRACTORS.values())
    figure.legend(
        [lines[name] for name in names],
        names,
        loc="outside upper center",
        ncol=2 * columns - 1,  # as many as have room above the panels
        fontsize=11,
        frameon=False,
        labelcolor=INK,
    )


def _named(axis: Axes) -> list[Line2D]:
    """The lines but the thin ones, which have matplotlib's own labels."""
    return [line for line in axis.get_lines() if not str(line.get_label()).startswith("_")]


def _direct_labels(axis: Axes) -> None:
    """Writes each line's name at its end, moved apart where two would touch."""
    low, high = axis.get_ylim()
    height = (high - low) * 13 / (72 * PANEL[1] * 0.75)  # one text line of 10 points, in percent
    lines = sorted(_named(axis), key=lambda line: np.asarray(line.get_ydata())[-1])
    texts = [str(line.get_label()).replace(" (", "\n(") for line in lines]
    heights = [height * (1 + text.count("\n")) for text in texts]
    floor = low
    places = []
    for line, tall in zip(lines, heights):
        floor = max(float(np.asarray(line.get_ydata())[-1]) - tall / 2, floor)
        places.append(floor + tall / 2)
        floor += tall
    ceiling = high
    for n in reversed(
        range(len(places))
    ):  # what was pushed over the top comes down, and pushes what is below
        places[n] = min(places[n], ceiling - heights[n] / 2)
        ceiling = places[n] - heights[n] / 2
    for line, text, place in zip(lines, texts, places):
        end = float(np.asarray(line.get_xdata())[-1])
        axis.annotate(
            text,
            (end, place),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            fontsize=10,
            linespacing=1.05,
            color=str(line.get_color()),
            annotation_clip=False,
        )
