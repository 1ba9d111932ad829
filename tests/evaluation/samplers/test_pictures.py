"""The pictures: what is drawn, with which errors, and that equal results give equal bytes."""

import io

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from jaxcil.evaluation.samplers import pictures


@pytest.fixture
def results():
    def entry(data, measure, sampler, nfe, mean):
        numbers = {"mean": mean, "standard_error": None if data == "gaussian" else mean / 10}
        return {"data": data, "measure": measure, "nfe": nfe, "sampler": sampler, **numbers}

    measures = (("gaussian", "wasserstein"), ("ring", "sliced_wasserstein"), ("ring", "energy_distance"))
    quality = [
        entry(data, measure, sampler, nfe, (n + 1) / nfe)
        for data, measure in measures
        for n, sampler in enumerate(("exact", "ddim", "heun"))
        for nfe in (5, 10)
    ]
    orders = [
        {"case": case, "sampler": sampler, "nfe": [10, 20], "errors": [0.1, 0.05], "order": 1.0}
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


def test_a_line_per_sampler_with_bars_of_one_standard_error(results, drawn):
    pictures.quality_curves(results, io.BytesIO())
    assert [line[0] for line in drawn] == ["DDIM", "Heun (EDM)"] * 2
    _, nfe, means, errors = drawn[2]
    assert nfe == [5, 10]
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


@pytest.fixture
def legends(monkeypatch):
    """(labels, whether it is of a panel's place) of every legend."""
    drawn = []
    for kind in (Axes, Figure):
        legend = kind.legend

        def record(on, handles, labels, *, legend=legend, **style):
            drawn.append((labels, isinstance(on, Axes)))
            return legend(on, handles, labels, **style)

        monkeypatch.setattr(kind, "legend", record)
    return drawn


@pytest.mark.parametrize(
    ("draw", "shown", "in_a_panels_place"),
    [
        (pictures.quality_curves, ["DDIM"], False),
        (pictures.order_curves, ["ER-SDE 1", "Euler-Maruyama"], True),
    ],
)
def test_the_legend_names_what_any_panel_shows_once(results, draw, shown, in_a_panels_place, legends):
    draw(results, io.BytesIO())
    assert legends == [([*shown, "Heun (EDM)"], in_a_panels_place)]


@pytest.mark.parametrize("cases", [1, 2, 3])
def test_no_place_of_the_picture_is_blank(results, cases, legends, monkeypatch):
    panels = []
    monkeypatch.setattr(pictures, "_dress", lambda axis, title, *_: panels.append(title))
    kept = ["gaussian_ode", "mixture_ode", "gaussian_weak"][:cases]
    results["orders"] = [entry for entry in results["orders"] if entry["case"] in kept]
    pictures.order_curves(results, buffer := io.BytesIO())
    with Image.open(buffer) as picture:
        rows = round(picture.height / (160 * pictures.PANEL[1]))
    assert len(panels) == cases
    assert 2 * rows == cases + legends[0][1]  # panels, and the legend where it has a place of its own
