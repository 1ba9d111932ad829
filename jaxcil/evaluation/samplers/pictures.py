"""Pictures of a comparison of samplers, as PNG: quality against calls, and error against calls."""

import io
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator, StrMethodFormatter

from jaxcil.evaluation.samplers.compared import BASELINES, DATA, MEASURES, SAMPLERS
from jaxcil.evaluation.samplers.orders import CASES
from jaxcil.workdir import files

PANEL = 5.0, 3.8  # inches
NOTE: dict[str, Any] = {"fontsize": 9, "color": "#666666"}
INK, FAINT = "#333333", "#dddddd"


def write_pictures(results: Mapping[str, Any], directory: pathlib.Path) -> list[str]:
    """Writes quality.png, and orders.png where orders were measured; gives their names."""
    quality_curves(results, directory / "quality.png")
    if not results["orders"]:
        return ["quality.png"]
    order_curves(results, directory / "orders.png")
    return ["quality.png", "orders.png"]


def quality_curves(results: Mapping[str, Any], path: str | os.PathLike | io.BytesIO) -> None:
    """Draws quality against calls: a panel per data set and measure, a line per sampler, bars of one standard error.

    Args:
      results: what samplers.json holds.
      path: a PNG file, written whole or not at all; or a buffer.
    """
    measured = dict.fromkeys((entry["data"], entry["measure"]) for entry in results["quality"])
    panels = [(DATA[data], MEASURES[measure], (data, measure)) for data, measure in measured]
    panels = [panel for panel in panels if panel[1].axis is not None]
    figure, axes = _figure(len(panels))
    for axis, (data, measure, panel) in zip(axes, panels):
        here = [entry for entry in results["quality"] if (entry["data"], entry["measure"]) == panel]
        for name, sampler in SAMPLERS.items():
            if entries := [entry for entry in here if entry["sampler"] == name]:
                axis.errorbar(
                    [entry["nfe"] for entry in entries],
                    [entry["mean"] for entry in entries],
                    [entry["standard_error"] or 0.0 for entry in entries],
                    label=sampler.label,
                    **_style(name),
                )
        for name in measure.floors:
            floor = float(np.mean([entry["mean"] for entry in here if entry["sampler"] == name]))
            axis.axhline(floor, color=INK, linewidth=1)
            at_left = {"xycoords": axis.get_yaxis_transform(), "ha": "left", "va": "bottom"}
            axis.annotate(BASELINES[name], (0.01, floor), **NOTE, **at_left)
        _dress(
            axis, data.title + measure.title, measure.axis, sorted({entry["nfe"] for entry in here} - {None})
        )
        ddim = [entry["mean"] for entry in here if entry["sampler"] == "ddim"]
        if ddim:  # what is far worse leaves the panel, which is for what one would use
            axis.set_ylim(top=3 * max(ddim))
        _numbers(axis)
    _write(figure, axes, path)


def order_curves(results: Mapping[str, Any], path: str | os.PathLike | io.BytesIO) -> None:
    """Draws relative error against calls, above grey lines of orders 1, 2 and 3.

    Args:
      results: what samplers.json holds, with orders.
      path: a PNG file, written whole or not at all; or a buffer.
    """
    panels = [
        (case.title, entries)
        for name, case in CASES.items()
        if (entries := [entry for entry in results["orders"] if entry["case"] == name])
    ]
    figure, axes = _figure(len(panels))
    for axis, (title, entries) in zip(axes, panels):
        for entry in entries:
            label = SAMPLERS[entry["sampler"]].label
            axis.plot(entry["nfe"], entry["errors"], label=label, **_style(entry["sampler"]))
        nfe = np.array(entries[0]["nfe"])
        _guides(axis, nfe, start=0.4 * min(entry["errors"][0] for entry in entries))
        _dress(axis, title, "relative error", nfe.tolist())
    _write(figure, axes, path)


def _figure(panels: int) -> tuple[Figure, list[Axes]]:
    """Axes in two columns; of an odd number, the last has a free place next to it, for the legend."""
    rows, columns = (panels + 1) // 2, 2
    figure = Figure((columns * PANEL[0], rows * PANEL[1]), dpi=160, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axis in axes[panels:]:
        axis.set_axis_off()
    return figure, axes


def _style(name: str) -> dict[str, Any]:
    color, marker, dashes = SAMPLERS[name].style
    return {"color": color, "marker": marker, "linestyle": dashes, "markersize": 4.5, "linewidth": 1.4}


def _guides(axis: Axes, nfe: np.ndarray, start: float) -> None:
    """Grey lines of orders 1, 2 and 3."""
    for order in (1, 2, 3):
        ends = nfe[[0, -1]]
        errors = start * (ends / nfe[0]) ** -float(order)
        axis.plot(ends, errors, color="#bbbbbb", linewidth=1, zorder=0)
        at_right = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
        axis.annotate(f"order {order}", (ends[1], errors[1]), **NOTE, **at_right)


def _dress(axis: Axes, title: str, quantity: str | None, nfe: list[int]) -> None:
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.xaxis.set_major_locator(FixedLocator(nfe))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK)
    axis.set_xlabel("denoiser calls", fontsize=10, color=INK)
    axis.set_ylabel(quantity or "", fontsize=10, color=INK)
    axis.grid(axis="y", color=FAINT, linewidth=0.8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#999999")
    axis.tick_params(labelsize=10, colors=INK)


def _numbers(axis: Axes) -> None:
    """More ticks where an axis spans less than two decades."""
    low, high = axis.get_ylim()
    if high < 100 * low:
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.yaxis.set_minor_locator(NullLocator())


def _write(figure: Figure, axes: list[Axes], path: str | os.PathLike | io.BytesIO) -> None:
    """Adds one legend for all panels, in the order of SAMPLERS, in the free place or below."""
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels())}
    labels = [sampler.label for sampler in SAMPLERS.values() if sampler.label in handles]
    look: dict[str, Any] = {"fontsize": 10, "frameon": False, "labelcolor": INK}
    if axes[-1].axison:
        figure.legend(
            [handles[label] for label in labels], labels, loc="outside lower center", ncols=3, **look
        )
    else:
        axes[-1].legend([handles[label] for label in labels], labels, loc="center", **look)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})  # its version would change the bytes
    if isinstance(path, io.BytesIO):
        path.write(picture.getvalue())
    else:
        files.write(path, picture.getvalue())
