import numpy as np
import pytest
from matplotlib.axes import Axes

from jaxcil.evaluation.reports.bars import draw_settings
from jaxcil.evaluation.reports.spread import Spread
from jaxcil.evaluation.reports.tables import Row


def row(method, extractor, mean, seeds=None, plain=None, bound=None):
    metrics = {"average_incremental_accuracy": Spread(mean, seeds, None, (2,))}
    return Row(method, extractor, metrics, None, None, plain, bound)


TABLES = {
    "images_per_class = 500": [
        row("ncm", "plain", 0.5, plain=0.5, bound=0.9),
        row("ncm", "future_proof", 0.7, 0.02, plain=0.5, bound=0.9),
        row("fecam", "future_proof", 0.8, plain=0.6),
        row("ncm", "known_classes", 0.55),
    ],
    "images_per_class = 50": [
        row("ncm", "future_proof", 0.6, plain=0.52),
        row("fecam", "future_proof", 0.65),
        row("acil", "future_proof", 0.9),
    ],
}


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn: (panel, place, length, whisker) a bar, (panel, x) a line, and every text."""
    bars, lines, texts = [], [], []
    barh, plot, text = Axes.barh, Axes.plot, Axes.text

    def record_bar(axis, place, length, *args, **style):
        bars.append((axis, place, length, style["xerr"]))
        return barh(axis, place, length, *args, **style)

    def record_line(axis, x, y, **style):
        lines.append((axis, x[0], style["label"]))
        return plot(axis, x, y, **style)

    def record_text(axis, x, y, words, **style):
        texts.append(words)
        return text(axis, x, y, words, **style)

    monkeypatch.setattr(Axes, "barh", record_bar)
    monkeypatch.setattr(Axes, "plot", record_line)
    monkeypatch.setattr(Axes, "text", record_text)
    return bars, lines, texts


def test_a_panel_has_a_bar_a_setting_between_its_plain_and_its_bound(drawn):
    bars, lines, texts = drawn
    draw_settings(TABLES, columns=2)
    assert [(length, whisker) for _, _, length, whisker in bars] == [
        (pytest.approx(70), pytest.approx(2)),
        (pytest.approx(60), None),
        (pytest.approx(80), None),
        (pytest.approx(65), None),  # and none of ACIL, which one setting alone has
    ]
    ncm, fecam = bars[0][0], bars[2][0]
    assert bars[0][1] > bars[1][1]  # the first setting is the upper one
    assert [(x, label) for axis, x, label in lines if axis is ncm] == [
        (50, "plain"),
        (90, "real future images (upper bound)"),
        (52, "plain"),
    ]
    assert [x for axis, x, _ in lines if axis is fecam] == [60]
    assert texts[:2] == ["images_per_class = 500", "70.0"]


def test_runs_of_plain_extractors_alone_have_bars_of_their_own(drawn):
    bars, lines, _ = drawn
    draw_settings({name: [row("ncm", "plain", 0.5, plain=0.5)] for name in ("one", "other")}, columns=1)
    assert [length for _, _, length, _ in bars] == [50, 50]
    assert lines == []


def test_long_names_of_settings_take_lines_and_their_bars_do_not_meet(drawn):
    bars, _, texts = drawn
    name = "recipe " * 12
    draw_settings({f"{name}{n}": [row("ncm", "future_proof", 0.5)] for n in range(3)}, columns=1)
    lines = max(text.count("\n") + 1 for text in texts)
    assert lines > 1
    np.testing.assert_array_less(lines + 1, -np.diff([place for _, place, _, _ in bars]))


def test_the_name_of_a_setting_is_no_formula():
    draw_settings({r"runs/$\frac$": [row("ncm", "future_proof", 0.5)]}, columns=1)


def test_equal_tables_give_equal_bytes():
    assert draw_settings(TABLES, columns=2) == draw_settings(TABLES, columns=2)
