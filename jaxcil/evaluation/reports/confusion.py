"""Which classes are mistaken for which after the last task, as a PNG."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from jaxcil.evaluation.reports.curves import INK, as_png

PANEL = (4.2, 4.0)  # inches
MOST_NAMES = 20  # classes that are named at the axes; more are numbered


def confusion_name(variant: str, learner: str, reading: str) -> str:
    """The name of counts [S, C, C] in a run's confusion.npz."""
    return f"{variant}-{learner}-{reading}"


def draw_confusions(
    confusions: Mapping[str, np.ndarray], names: Sequence[object], task_sizes: Sequence[int], *, columns: int
) -> bytes:
    """Draws confusion matrices: percent of each true class, a row, mean over seeds; lines between tasks.

    Args:
      confusions: title -> counts [S, C, C] of seeds, true classes in rows; at least one.
      names: of the classes [C], in the order in which they come.
      task_sizes: classes of each task [T].
      columns: panels next to each other.
    """
    columns = min(columns, len(confusions))
    rows = -(-len(confusions) // columns)
    figure = Figure((PANEL[0] * columns, PANEL[1] * rows), dpi=160, layout="constrained", facecolor="white")
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axis, (title, counts) in zip(axes, confusions.items()):
        images = counts.sum(axis=-1, keepdims=True)
        percent = 100 * (counts / np.maximum(images, 1)).mean(axis=0)
        picture = axis.imshow(percent, vmin=0, vmax=100, cmap="Blues", interpolation="nearest")
        axis.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK)
        if len(names) <= MOST_NAMES:
            # a dollar sign in a class name opens no formula
            axis.set_xticks(range(len(names)), list(map(str, names)), rotation=90, parse_math=False)
            axis.set_yticks(range(len(names)), list(map(str, names)), parse_math=False)
        for edge in np.cumsum(task_sizes)[:-1] - 0.5:
            axis.axhline(edge, color=INK, linewidth=0.6)
            axis.axvline(edge, color=INK, linewidth=0.6)
        axis.tick_params(labelsize=9, colors=INK, length=0)
        axis.set_xlabel("predicted class", fontsize=10, color=INK)
        axis.set_ylabel("true class", fontsize=10, color=INK)
    bar = figure.colorbar(picture, ax=axes, shrink=0.6, label="% of the images of a true class")
    bar.ax.tick_params(labelsize=9, colors=INK)
    return as_png(figure)
