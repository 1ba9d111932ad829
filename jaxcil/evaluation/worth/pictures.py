"""Pictures of what a synthetic image set is worth, as PNG: its measures by class, and its images beside real ones."""

import functools
import io
import operator
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxcil.data.png import png
from jaxcil.evaluation.reports.curves import FAINT, INK
from jaxcil.evaluation.worth.copies import PERCENTILES
from jaxcil.evaluation.worth.nearest import flat, nearest
from jaxcil.evaluation.worth.worth import Sets
from jaxcil.workdir import files

SHOWN, GAP = 20, 2  # pairs in a row of the sheet, and white pixels around each image
MOST = 30  # classes in a panel; of more, those least recognised
# inches: of the picture, of a class, and of what stands around the classes
WIDTH, LINE, REST = 10.0, 0.27, 1.3
SPREAD = 0.66  # of the place of a class that its points take
# Okabe and Ito's palette; what real images give is grey, and hollow
SYNTHETIC = {"color": "#0072b2", "marker": "o"}
REAL = {"color": "#777777", "marker": "s", "markerfacecolor": "white"}
RECOGNISED = {"color": "#d55e00", "marker": "D"}
SECOND = {"marker": "^"}


class Panel(NamedTuple):
    """Estimates by class."""

    title: str
    quantity: str
    scale: float
    series: Mapping[str, tuple[Mapping[str, Any], tuple[str, ...]]]  # label -> style, and where a row has it


PANELS = (
    Panel(
        "Labels",
        "accuracy (%)",
        100,
        {
            "recognised": (RECOGNISED, ("accuracy", "recognised")),
            "trained on synthetic": (SYNTHETIC, ("accuracy", "real_test_trained_on_synthetic")),
            "trained on real": (REAL, ("accuracy", "real_test_trained_on_real")),
        },
    ),
    Panel(
        "Distance to real training images",
        "kernel distance x 1000",
        1000,
        {
            "synthetic images": (SYNTHETIC, ("distances", "kernel", "synthetic")),
            "real test images": (REAL, ("distances", "kernel", "real_test")),
        },
    ),
    Panel(
        "Precision and recall",
        "share of images (%)",
        100,
        {
            "precision": (SYNTHETIC, ("distances", "precision", "synthetic")),
            "precision, real test": (REAL, ("distances", "precision", "real_test")),
            "recall": (SYNTHETIC | SECOND, ("distances", "recall", "synthetic")),
            "recall, real test": (REAL | SECOND, ("distances", "recall", "real_test")),
        },
    ),
)


def worth_picture(results: Mapping[str, Any], path: str | os.PathLike | io.BytesIO) -> None:
    """Draws accuracy, kernel distance, precision and recall by class, and how near training images lie.

    Args:
      results: what worth.json holds.
      path: a PNG file, written whole or not at all; or a buffer.
    """
    named = sorted(results["classes"].items(), key=lambda item: item[1]["accuracy"]["recognised"]["value"])
    kept = dict(named[:MOST])
    rows = {name: row for name, row in results["classes"].items() if name in kept}
    rows = {"all": results["all"], **rows}
    height = 2 * (LINE * max(len(rows), 8) + REST)
    figure = Figure((WIDTH, height), dpi=160, layout="constrained", facecolor="white")
    canvas = FigureCanvasAgg(figure)
    *axes, distance = figure.subplots(2, 2).ravel()
    for axis, panel in zip(axes, PANELS):
        _series(axis, list(rows.values()), panel)
        axis.set_yticks(range(len(rows)), list(rows))
        axis.set_ylim(len(rows) - 0.5, -0.5)
        for line in range(len(rows) - 1):
            axis.axhline(line + 0.5, color=INK if line == 0 else FAINT, linewidth=0.8)
        _dress(axis, panel.title, panel.quantity)
    _nearest_curves(distance, results)
    picture = io.BytesIO()
    canvas.print_png(picture, metadata={"Software": None})  # its version would change the bytes
    if isinstance(path, io.BytesIO):
        path.write(picture.getvalue())
    else:
        files.write(path, picture.getvalue())


def nearest_sheet(
    sets: Sets, results: Mapping[str, Any], path: str | os.PathLike | io.BytesIO, zoom: int = 4
) -> None:
    """A PNG with synthetic images, each above the nearest image seen: 20 spread over the classes, then the closest.

    Args:
      sets: that were compared.
      results: what worth.json holds.
      path: a PNG file, written whole or not at all; or a buffer.
      zoom: side of a pixel.
    """
    synthetic, seen = sets.synthetic, sets.seen
    spread = np.linspace(0, len(synthetic.labels) - 1, SHOWN).round().astype(int)
    order = np.argsort(synthetic.labels, kind="stable")[spread]
    _, number = nearest(flat(synthetic.images[order]), flat(seen.images))
    closest = results["all"]["copies"]["closest"]
    rows = [
        synthetic.images[order],
        seen.images[number],
        *(
            data.images[[pair[name] for pair in closest]]
            for name, data in (("synthetic", synthetic), ("seen", seen))
        ),
    ]
    strips = []
    for images in rows:
        white = np.full((SHOWN, *images.shape[1:]), 255, np.uint8)
        white[: len(images)] = images
        large = white.repeat(zoom, axis=1).repeat(zoom, axis=2)
        framed = np.pad(large, ((0, 0), (GAP, GAP), (GAP, GAP), (0, 0)), constant_values=255)
        strips.append(np.concatenate(list(framed), axis=1))
    between = np.full((zoom * 4, *strips[0].shape[1:]), 255, np.uint8)
    sheet = png(np.concatenate([*strips[:2], between, *strips[2:]], axis=0))
    if isinstance(path, io.BytesIO):
        path.write(sheet)
    else:
        files.write(path, sheet)


def _series(axis: Axes, rows: list[Any], panel: Panel) -> None:
    """Points with bars of one standard error, the series of one class a little above each other."""
    for n, (label, (style, path)) in enumerate(panel.series.items()):
        estimates = [functools.reduce(operator.getitem, path, row) for row in rows]
        axis.errorbar(
            [panel.scale * estimate["value"] for estimate in estimates],
            np.arange(len(rows)) + SPREAD * ((n + 0.5) / len(panel.series) - 0.5),
            xerr=[panel.scale * estimate["standard_error"] for estimate in estimates],
            linestyle="none",
            markersize=4.5,
            elinewidth=1.2,
            label=label,
            **style,
        )


def _nearest_curves(axis: Axes, results: Mapping[str, Any]) -> None:
    """The share of images that lie nearer than a distance to an image seen."""
    for name, label, color, dashes in (
        ("synthetic", "synthetic images", SYNTHETIC["color"], "-"),
        ("real_test", "real test images", REAL["color"], "--"),
    ):
        distances = results["all"]["copies"]["of_seen"][name]["percentiles"]
        axis.plot(distances, list(PERCENTILES), linewidth=1.6, color=color, linestyle=dashes, label=label)
    near = results["config"]["near"]
    axis.axvline(near, color="#d55e00", linewidth=1, linestyle=":", label=f"near-duplicates: up to {near:g}")
    axis.set_xlim(left=0)
    axis.set_ylim(0, 101)
    axis.set_ylabel("images that lie nearer (%)", fontsize=10, color=INK)
    _dress(axis, "Nearest image seen", "pixel distance (grey levels)")


def _dress(axis: Axes, title: str, quantity: str) -> None:
    axis.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK)
    axis.set_xlabel(quantity, fontsize=10, color=INK)
    axis.grid(axis="x", color=FAINT, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#999999")
    axis.tick_params(labelsize=10, colors=INK)
    axis.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.16), ncol=2, fontsize=9, frameon=False, labelcolor=INK
    )
