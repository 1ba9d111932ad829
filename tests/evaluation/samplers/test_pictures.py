"""The pictures: what is drawn, with which errors, and that equal results give equal bytes."""

import io

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from jaxcil.evaluation.samplers import pictures
from jaxcil.evaluation.samplers.compared import SAMPLERS


@pytest.fixture
def results():
    def entry(data, measure, sampler, calls, mean):
        numbers = {"mean": mean, "standard_error": None if data == "gaussian" else mean / 10}
        return {"data": data, "measure": measure, "calls": calls, "sampler": sampler, **numbers}

    measures = (("gaussian", "wasserstein"), ("ring", "sliced_wasserstein"), ("ring", "energy_distance"))
    quality = [
        entry(data, measure, sampler, calls, (n + 1) / calls)
        for data, measure in measures
        for n, sampler in enumerate(("exact", "ddim", "heun"))
        for calls in (5, 10)
    ]
    orders = [
        {"case": case, "sampler": sampler, "calls": [10, 20], "errors": [0.1, 0.05], "order": 1.0}
        for case in ("gaussian_ode", "mixture_ode", "gaussian_weak")
        for sampler in ("er_sde_1", "heun" if case != "gaussian_weak" else "euler_maruyama")
    ]
    return {"quality": quality, "orders": orders}


@pytest.fixture
def drawn(monkeypatch):
    """(label, x, y, error) of every line with error bars."""
    lines = []
    errorbar = Axes.errorbar

    def record(axis, x, y, error, **style):
        lines.append((style["label"], x, y, error))
        return errorbar(axis, x, y, error, **style)

    monkeypatch.setattr(Axes, "errorbar", record)
    return lines


def test_a_line_a_sampler_with_bars_of_one_standard_error(results, drawn):
    pictures.quality_curves(results, io.BytesIO())
    assert [line[0] for line in drawn] == ["DDIM", "Heun (EDM)"] * 2
    _, calls, means, errors = drawn[2]
    assert calls == [5, 10]
    np.testing.assert_allclose(means, [2 / 5, 2 / 10])
    np.testing.assert_allclose(errors, [2 / 50, 2 / 100])
    assert drawn[0][3] == [0, 0]  # exact


@pytest.mark.parametrize("draw", [pictures.quality_curves, pictures.order_curves])
def test_equal_results_give_equal_bytes_in_a_file_and_in_memory(results, draw, tmp_path):
    buffer = io.BytesIO()
    draw(results, tmp_path / "curves.png")
    draw(results, buffer)
    assert (tmp_path / "curves.png").read_bytes() == buffer.getvalue()
    with Image.open(buffer) as picture:
        assert not picture.info.keys() & {"Software", "Creation Time"}


@pytest.mark.parametrize("draw", [pictures.quality_curves, pictures.order_curves])
def test_the_legend_names_what_any_panel_shows_once(results, draw, monkeypatch):
    legends = []
    legend = Axes.legend
    monkeypatch.setattr(
        Axes,
        "legend",
        lambda axis, handles, labels, **style: (
            legends.append(labels) or legend(axis, handles, labels, **style)
        ),
    )
    draw(results, io.BytesIO())
    shown = ["DDIM"] if draw is pictures.quality_curves else ["ER-SDE 1", "Euler-Maruyama"]
    assert legends == [[*shown, "Heun (EDM)"]]


def test_every_sampler_has_a_style_of_its_own():
    assert pictures.STYLES.keys() == SAMPLERS.keys()
    assert len(set(pictures.STYLES.values())) == len(SAMPLERS)
