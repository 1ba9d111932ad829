import io

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from jaxcil.evaluation.reports import curves as plots
from jaxcil.evaluation.reports.names import EXTRACTORS


@pytest.fixture
def results():
    def run(method, extractor, seed, level):
        rows = [[level, None], [level - 0.4, level - 0.2]]
        return {"method": method, "extractor": extractor, "seed": seed, "accuracy_matrix": rows}

    levels = {"plain": 0.6, "future_proof": 0.8, "real_future": 0.9}
    return {
        "task_sizes": [3, 1],
        "conventions": {"average": "images"},
        "runs": [
            run(method, extractor, seed, level + 0.1 * seed)
            for method in ("ncm", "fetril", "fecam")
            for extractor, level in levels.items()
            for seed in (0, 1)
        ],
    }


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


def test_lines_are_means_over_seeds_of_the_accuracy_over_all_classes_seen(results, drawn):
    lines, bands = drawn
    plots.accuracy_curves(results, io.BytesIO())
    assert [label for label, _, _ in lines] == ["plain", "FPCIL", "real future images (upper bound)"] * 3
    _, classes, accuracy = lines[0]
    assert classes == [3, 4]
    # Seeds at 0.6 and 0.7; after task 1: (3 (level - 0.4) + 1 (level - 0.2)) / 4
    np.testing.assert_allclose(accuracy, [65.0, 30.0])
    np.testing.assert_allclose(bands[0][1] - bands[0][0], 2 * 100 * np.std([0.6, 0.7], ddof=1))


def test_accuracy_counts_by_the_convention_of_the_run(results, drawn):
    lines, _ = drawn
    plots.accuracy_curves({**results, "conventions": {"average": "tasks"}}, io.BytesIO())
    np.testing.assert_allclose(lines[0][2], [65.0, 35.0])  # after task 1: (level - 0.4 + level - 0.2) / 2


def test_orders_weigh_the_same_and_bands_are_of_seeds_within_them(drawn):
    lines, bands = drawn
    levels = {("a", 0): 0.1, ("a", 1): 0.2, ("a", 2): 0.3, ("b", 0): 0.6}
    curves = {"ncm": {"plain": {pair: np.full(2, level) for pair, level in levels.items()}}}
    plots.draw_curves(curves, np.array([1, 2]), io.BytesIO(), columns=1)
    (_, _, thin), (label, _, mean) = lines
    np.testing.assert_allclose(thin, [[20, 60]] * 2)  # a column a class order
    assert label == "plain"
    np.testing.assert_allclose(mean, [40, 40])  # the mean of all four is 30
    ((low, high),) = bands
    np.testing.assert_allclose(high - low, [20, 20])  # seeds of order a deviate by 10, whatever the orders do


def test_orders_of_one_seed_have_thin_lines_and_no_band_or_name_of_their_own(drawn, monkeypatch):
    lines, bands = drawn
    texts = []
    monkeypatch.setattr(Axes, "annotate", lambda axis, text, *args, **style: texts.append(text))
    curves = {"ncm": {"plain": {("a", 0): np.array([0.5, 0.4]), ("b", 0): np.array([0.7, 0.6])}}}
    plots.draw_curves(curves, np.array([1, 2]), io.BytesIO(), columns=1)
    assert (len(lines), bands, texts) == (2, [], ["plain"])


def test_the_numbers_of_test_images_weigh_the_tasks(results, drawn):
    lines, _ = drawn
    plots.accuracy_curves({**results, "test_images": [10, 30]}, io.BytesIO())
    np.testing.assert_allclose(lines[0][2], [65.0, (25 + 3 * 45) / 4])


def test_one_seed_has_no_band(results, drawn):
    _, bands = drawn
    results["runs"] = [run for run in results["runs"] if run["seed"] == 0]
    plots.accuracy_curves(results, io.BytesIO())
    assert bands == []


def test_equal_results_give_equal_bytes_in_a_file_and_in_memory(results, tmp_path):
    buffer = io.BytesIO()
    plots.accuracy_curves(results, tmp_path / "curves.png")
    plots.accuracy_curves(results, buffer)
    assert (tmp_path / "curves.png").read_bytes() == buffer.getvalue()
    with Image.open(buffer) as picture:
        assert not picture.info.keys() & {"Software", "Creation Time"}


@pytest.mark.parametrize(("columns", "shape"), [(1, (1, 3)), (2, (2, 2)), (3, (3, 1)), (9, (3, 1))])
def test_panels_stand_in_columns(results, columns, shape):
    buffer = io.BytesIO()
    plots.accuracy_curves(results, buffer, columns=columns)
    with Image.open(buffer) as picture:
        np.testing.assert_allclose(picture.size, 160 * np.array(plots.PANEL) * shape, atol=1)


def test_extractors_have_one_order_and_one_colour_whatever_that_of_the_runs(results, drawn):
    lines, _ = drawn
    for name in ("known_classes", "shuffled_labels"):
        results["runs"] += [run | {"extractor": name} for run in results["runs"][:6]]
    results["runs"].reverse()
    plots.accuracy_curves(results, io.BytesIO())
    assert [label for label, _, _ in lines[:5]] == list(EXTRACTORS.values())
    assert len({style[0] for style in plots.STYLES.values()}) == len(EXTRACTORS)


def test_a_grid_of_panels_names_each_line_once(results, monkeypatch):
    legends, annotated = [], []
    monkeypatch.setattr(Figure, "legend", lambda figure, lines, names, **style: legends.append(names))
    monkeypatch.setattr(Axes, "annotate", lambda *args, **style: annotated.append(args))
    plots.accuracy_curves(results, io.BytesIO(), columns=2)
    assert legends == [["plain", "FPCIL", "real future images (upper bound)"]]
    assert annotated == []


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("level", [0.99, 0.5, 0.01])
def test_names_of_lines_that_end_together_do_not_touch_and_stay_in_the_picture(
    results, monkeypatch, columns, level
):
    for run in results["runs"]:
        run["accuracy_matrix"] = [[1.0, None], [level, level]]
    texts = []
    annotate = Axes.annotate
    monkeypatch.setattr(Axes, "annotate", lambda *args, **style: texts.append(annotate(*args, **style)))
    plots.accuracy_curves(results, io.BytesIO(), columns=columns)
    boxes = [text.get_window_extent() for text in texts]
    assert len(boxes) == 9
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
    width, height = texts[0].figure.bbox.size
    assert all(b.x0 > 0 and b.y0 > 0 and b.x1 < width and b.y1 < height for b in boxes)


def test_a_method_and_an_extractor_without_a_pretty_name_are_drawn_under_their_own(results, drawn):
    lines, _ = drawn
    results["runs"] = [run | {"method": "mine", "extractor": "other"} for run in results["runs"]]
    plots.accuracy_curves(results, io.BytesIO())
    assert [label for label, _, _ in lines] == ["other"]
