"""Pictures of a comparison of samplers, as PNG: quality against calls, and error against calls."""

import io
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator, StrMethodFormatter

from jaxcil.evaluation.samplers.compared import BASELINES, SAMPLERS
from jaxcil.workdir import files

# Okabe and Ito's palette: orange and red what is corrected, blue what is published, green and grey the peers
STYLES = {
    "er_sde_1": ("#56b4e9", "v", ":"),
    "er_sde_2": ("#56b4e9", "s", "--"),
    "er_sde_3": ("#0072b2", "o", "-"),
    "er_sde_official": ("#0072b2", "x", "--"),
    "er_sde_comfy": ("#0072b2", "+", ":"),
    "er_sde_3_corrected": ("#e69f00", "s", "--"),
    "er_sde_3_corrector": ("#d55e00", "o", "-"),
    "er_sde_3_log_lam": ("#d55e00", "^", ":"),
    "er_ode_3_corrector": ("#cc79a7", "D", "-"),
    "ddim": ("#999999", "v", "-"),
    "ancestral": ("#999999", "P", "--"),
    "euler_maruyama": ("#000000", "x", ":"),
    "dpmpp_2m": ("#009e73", "o", "-"),
    "sde_dpmpp_2m": ("#009e73", "^", "--"),
    "heun": ("#000000", "s", "-"),
}
PANELS = {
    ("gaussian", "wasserstein"): ("Gaussian, 16-D, exact", "Wasserstein distance"),
    ("ring", "sliced_wasserstein"): ("ring of 8 Gaussians, 2-D", "sliced Wasserstein distance"),
    ("mixture", "sliced_wasserstein"): ("mixture of 10 Gaussians, 16-D", "sliced Wasserstein distance"),
    ("digits", "frechet_to_limit"): ("digits, against the same model's limit", "Fréchet distance"),
    ("digits", "frechet_to_real"): ("digits, against real ones", "Fréchet distance"),
}
# Measure -> what is drawn as a line across its panels.
FLOORS = {
    "wasserstein": ("exact",),
    "sliced_wasserstein": ("exact",),
    "frechet_to_limit": ("limit",),
    "frechet_to_real": ("limit", "real"),
}
CASES = {
    "gaussian_ode": "ODE, Gaussian",
    "mixture_ode": "ODE, mixture",
    "gaussian_weak": "SDE (phi 7), Gaussian: weak error",
}
PANEL, COLUMNS = (5.0, 3.8), 2  # inches
NOTE: dict[str, Any] = {"fontsize": 9, "color": "#666666"}
INK, FAINT = "#333333", "#dddddd"


def quality_curves(results: Mapping[str, Any], path: str | os.PathLike | io.BytesIO) -> None:
    """Draws quality against calls: a panel a data set and measure, a line a sampler, bars of one standard error.

    Args:
      results: what samplers.json holds.
      path: a PNG file, written whole or not at all; or a buffer.
    """
    measured = {(entry["data"], entry["measure"]) for entry in results["quality"]}
    panels = {panel: titles for panel, titles in PANELS.items() if panel in measured}
    figure, axes, corner = _panels(len(panels))
    for axis, ((data, measure), (title, quantity)) in zip(axes, panels.items()):
        here = [entry for entry in results["quality"] if (entry["data"], entry["measure"]) == (data, measure)]
        for name in (name for name in SAMPLERS if name in {entry["sampler"] for entry in here}):
            entries = [entry for entry in here if entry["sampler"] == name]
            axis.errorbar(
                [entry["calls"] for entry in entries],
                [entry["mean"] for entry in entries],
                [entry["standard_error"] or 0.0 for entry in entries],
                label=SAMPLERS[name].label,
                **_style(name),
            )
        for name in FLOORS[measure]:
            floor = float(np.mean([entry["mean"] for entry in here if entry["sampler"] == name]))
            axis.axhline(floor, color=INK, linewidth=1)
            at_left = {"xycoords": axis.get_yaxis_transform(), "ha": "left", "va": "bottom"}
            axis.annotate(BASELINES[name], (0.01, floor), **NOTE, **at_left)
        _dress(axis, title, quantity, sorted({entry["calls"] for entry in here} - {None}))
        ddim = [entry["mean"] for entry in here if entry["sampler"] == "ddim"]
        if ddim:  # what is far worse leaves the panel, which is for what one would use
            axis.set_ylim(top=3 * max(ddim))
        _numbers(axis)
    _legend(corner, axes)
    _write(figure, path)


def order_curves(results: Mapping[str, Any], path: str | os.PathLike | io.BytesIO) -> None:
    """Draws relative error against calls, above grey lines of orders 1, 2 and 3.

    Args:
      results: what samplers.json holds, with orders.
      path: a PNG file, written whole or not at all; or a buffer.
    """
    cases = {case: title for case, title in CASES.items() if case in {e["case"] for e in results["orders"]}}
    figure, axes, corner = _panels(len(cases))
    for axis, (case, title) in zip(axes, cases.items()):
        entries = [entry for entry in results["orders"] if entry["case"] == case]
        for entry in entries:
            label = SAMPLERS[entry["sampler"]].label
            axis.plot(entry["calls"], entry["errors"], label=label, **_style(entry["sampler"]))
        calls = np.array(entries[0]["calls"])
        _guides(axis, calls, start=0.4 * min(entry["errors"][0] for entry in entries))
        _dress(axis, title, "relative error", calls.tolist())
    _legend(corner, axes)
    _write(figure, path)


def _panels(count: int) -> tuple[Figure, list[Axes], Axes]:
    """Axes in two columns, and the last one for the legend."""
    rows = count // 2 + 1
    figure = Figure((COLUMNS * PANEL[0], rows * PANEL[1]), dpi=160, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel().tolist()
    for axis in axes[count:]:
        axis.set_axis_off()
    return figure, axes[:count], axes[-1]


def _style(name: str) -> dict[str, Any]:
    color, marker, dashes = STYLES[name]
    return {"color": color, "marker": marker, "linestyle": dashes, "markersize": 4.5, "linewidth": 1.4}


def _guides(axis: Axes, calls: np.ndarray, start: float) -> None:
    """Grey lines of orders 1, 2 and 3."""
    for order in (1, 2, 3):
        ends = calls[[0, -1]]
        errors = start * (ends / calls[0]) ** -float(order)
        axis.plot(ends, errors, color="#bbbbbb", linewidth=1, zorder=0)
        beside = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
        axis.annotate(f"order {order}", (ends[1], errors[1]), **NOTE, **beside)


def _dress(axis: Axes, title: str, quantity: str, calls: list[int]) -> None:
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.xaxis.set_major_locator(FixedLocator(calls))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK)
    axis.set_xlabel("denoiser calls", fontsize=10, color=INK)
    axis.set_ylabel(quantity, fontsize=10, color=INK)
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


def _legend(corner: Axes, axes: list[Axes]) -> None:
    """One for all panels, in the order of SAMPLERS."""
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels())}
    labels = [sampler.label for sampler in SAMPLERS.values() if sampler.label in handles]
    shown = [handles[label] for label in labels]
    corner.legend(shown, labels, loc="center", fontsize=10, frameon=False, labelcolor=INK)


def _write(figure: Figure, path: str | os.PathLike | io.BytesIO) -> None:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})  # its version would change the bytes
    if isinstance(path, io.BytesIO):
        path.write(picture.getvalue())
    else:
        files.write(path, picture.getvalue())
