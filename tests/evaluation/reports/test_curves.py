import io

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from jaxcil.evaluation.reports import curves as plots
from jaxcil.evaluation.reports.finished_runs import compare, read_run
from jaxcil.evaluation.reports.names import VARIANTS

LEVELS = {"plain": 0.6, "future_proof": 0.8, "real_future": 0.9}


@pytest.fixture
def draw(finished):
    """Draws finished runs of levels and changes, by name, and returns the picture."""

    def compare_and_draw(columns=1, **runs):
        folders = [finished(name, levels, **changes) for name, (levels, changes) in runs.items()]
        [comparison] = compare([read_run(folder) for folder in folders])
        return plots.draw_curves(comparison, comparison.settings[0], columns=columns)

    return compare_and_draw


@pytest.fixture
def drawn(monkeypatch):
    """What is plotted: (label, x, y) a line, and (lower, upper) a band."""
    lines, bands = [], []
    plot, fill = Axes.plot, Axes.fill_between

    def record_plot(axis, x, y, **style):
        lines.append((style.get("label"), list(x), np.asarray(y)))
        return plot(axis, x, y, **style)

    def record_fill(axis, x, low, high, **style):
        bands.append((np.asarray(low), np.asarray(high)))
        return fill(axis, x, low, high, **style)

    monkeypatch.setattr(Axes, "plot", record_plot)
    monkeypatch.setattr(Axes, "fill_between", record_fill)
    return lines, bands


def of_readings(*readings):
    return {(reading, variant): level for reading in readings for variant, level in LEVELS.items()}


def test_lines_are_means_over_seeds_of_the_accuracy_over_all_classes_seen(draw, drawn):
    lines, bands = drawn
    draw(a=(of_readings("ncm", "fetril", "fecam"), {"sizes": (3, 1)}))
    assert [label for label, _, _ in lines] == ["plain", "FPCIL", "real future images (upper bound)"] * 3
    _, classes, accuracy = lines[0]
    assert classes == [3, 4]
    np.testing.assert_allclose(accuracy, [60.5, 40.5])
    np.testing.assert_allclose(bands[0][1] - bands[0][0], 2 * 100 * np.std([0.60, 0.61], ddof=1))


def test_orders_weigh_the_same_and_bands_are_of_seeds_within_them(draw, drawn):
    lines, bands = drawn
    draw(
        a=({("ncm", "plain"): 0.3}, {"order": 1, "seeds": (0, 10, 20)}),
        b=({("ncm", "plain"): 0.8}, {"order": 2, "seeds": (0,)}),
    )
    (_, _, thin), (label, _, mean) = lines
    np.testing.assert_allclose(thin, [[40, 80], [20, 60]])  # a column per class order
    assert label == "plain"
    np.testing.assert_allclose(mean, [60, 40])  # the mean of all four runs would be 50 and 30
    ((low, high),) = bands
    np.testing.assert_allclose(high - low, [20, 20])  # seeds of order 1 deviate by 10, whatever the orders do


def test_orders_of_one_seed_have_thin_lines_and_no_band_or_name_of_their_own(draw, drawn, monkeypatch):
    lines, bands = drawn
    legends = []
    monkeypatch.setattr(Figure, "legend", lambda figure, lines, names, **style: legends.append(names))
    draw(**{str(n): ({("ncm", "plain"): 0.5}, {"order": n, "seeds": (0,)}) for n in (1, 2)})
    assert (len(lines), bands, legends) == (2, [], [["plain"]])


def test_one_seed_has_no_band(draw, drawn):
    draw(a=(of_readings("ncm"), {"seeds": (0,)}))
    assert drawn[1] == []


def test_equal_results_give_equal_bytes_that_carry_no_version(finished, tmp_path):
    results = read_run(finished("a", of_readings("ncm"))).results
    for name in ("one", "other"):
        plots.accuracy_curves(results, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    with Image.open(tmp_path / "one") as picture:
        assert not picture.info.keys() & {"Software", "Creation Time"}


@pytest.mark.parametrize(
    ("columns", "shape", "lines"), [(1, (1, 3), 3), (2, (2, 2), 1), (3, (3, 1), 1), (9, (3, 1), 1)]
)
def test_panels_are_in_columns_under_a_legend(draw, columns, shape, lines):
    with Image.open(io.BytesIO(draw(columns, a=(of_readings("ncm", "fetril", "fecam"), {})))) as picture:
        size = np.array(plots.PANEL) * shape + [0, plots.LEGEND_LINE * lines]
        np.testing.assert_allclose(picture.size, 160 * size, atol=1)


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_the_legend_fits_into_the_picture_and_names_each_line_once(draw, monkeypatch, columns):
    legends = []
    legend = Figure.legend

    def record(*arguments, **style):
        legends.append(legend(*arguments, **style))
        return legends[-1]

    monkeypatch.setattr(Figure, "legend", record)
    draw(columns, a=({(reading, name): 0.5 for reading in ("ncm", "acil", "slda") for name in VARIANTS}, {}))
    (one,) = legends
    assert [text.get_text() for text in one.get_texts()] == list(VARIANTS.values())
    box, picture = one.get_window_extent(), one.figure.bbox
    assert 0 <= box.x0 < box.x1 <= picture.x1
    assert 0 <= box.y0 < box.y1 <= picture.y1


def test_variants_have_one_order_and_one_look_whatever_that_of_the_runs(draw, drawn):
    lines, _ = drawn
    draw(a=({("ncm", name): 0.5 for name in reversed(VARIANTS)}, {}))
    assert [label for label, _, _ in lines] == list(VARIANTS.values())
    assert set(plots.STYLES) == set(VARIANTS)
    assert len({color for color, _, _ in plots.STYLES.values()}) == len(VARIANTS)


def test_names_from_outside_are_drawn_as_they_are_and_open_no_formula(draw, drawn, monkeypatch):
    titles = []
    set_title = Axes.set_title
    monkeypatch.setattr(
        Axes, "set_title", lambda axis, text, **style: titles.append(text) or set_title(axis, text, **style)
    )
    draw(a=({(r"$\frac$", "other"): 0.5}, {}))
    assert [label for label, _, _ in drawn[0]] == ["other"]
    assert titles == [r"$\frac$"]
