import io

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from jaxcil.evaluation.reports.confusion import PANEL, draw_confusions


@pytest.fixture
def shown(monkeypatch):
    drawn = []
    imshow = Axes.imshow
    monkeypatch.setattr(
        Axes, "imshow", lambda axis, cells, **style: drawn.append(cells) or imshow(axis, cells, **style)
    )
    return drawn


def test_cells_are_percent_of_the_true_class_and_every_seed_counts_the_same(shown):
    # Seed 0 has four images per class, seed 1 one, and the last class none at all
    counts = np.array([[[3, 1, 0], [0, 4, 0], [0, 0, 0]], [[0, 1, 0], [0, 1, 0], [0, 0, 0]]])
    draw_confusions({"plain": counts}, ["cat", "dog", "owl"], [2, 1], columns=1)
    np.testing.assert_allclose(shown[0], [[37.5, 62.5, 0], [0, 100, 0], [0, 0, 0]])


@pytest.mark.parametrize(("classes", "named"), [(3, True), (100, False)])
def test_few_classes_are_named_and_tasks_are_separated(monkeypatch, classes, named):
    edges, names = [], []
    monkeypatch.setattr(Axes, "axhline", lambda axis, y, **style: edges.append(y))
    set_yticks = Axes.set_yticks
    monkeypatch.setattr(
        Axes,
        "set_yticks",
        lambda axis, *ticks, **style: names.append(ticks[1]) or set_yticks(axis, *ticks, **style),
    )
    counts = np.ones((1, classes, classes), int)
    draw_confusions({"plain": counts}, list(range(classes)), [1, 1, classes - 2], columns=1)
    assert edges == [0.5, 1.5]
    assert bool(names) == named


def test_a_class_name_is_no_formula():
    draw_confusions({"plain": np.ones((1, 2, 2), int)}, [r"$\frac$", "dog"], [1, 1], columns=1)


def test_panels_are_in_columns_and_equal_counts_give_equal_bytes():
    confusions = {name: np.ones((2, 4, 4), int) for name in ("plain", "FPCIL")}
    for columns, shape in ((1, (1, 2)), (2, (2, 1)), (3, (2, 1))):
        one, other = (draw_confusions(confusions, "abcd", [2, 2], columns=columns) for _ in range(2))
        assert one == other
        with Image.open(io.BytesIO(one)) as picture:
            np.testing.assert_allclose(picture.size, 160 * np.array(PANEL) * shape, atol=1)
