"""The tables, on results made up for them."""

import numpy as np
import pytest

from jaxcil.evaluation.samplers import tables


def entry(data, measure, sampler, values, nfe: int | None = 10):
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return {
        "data": data,
        "measure": measure,
        "nfe": nfe,
        "sampler": sampler,
        "mean": float(np.mean(values)),
        "standard_error": error,
        "values": values,
    }


@pytest.fixture
def quality():
    return [
        entry("ring", "energy_distance", "er_sde_3", [5.0, 3.0]),
        entry("ring", "energy_distance", "er_sde_3_corrector", [4.0, 1.8]),
        entry("ring", "energy_distance", "exact", [0.1, -0.1], nfe=None),
        entry("ring", "sliced_wasserstein", "er_sde_3", [9.0, 9.0]),
        entry("ring", "energy_distance", "er_sde_3", [1.0, 1.0], nfe=30),
    ]


def test_differences_are_paired_by_repetition(quality):
    verdict = tables.comparison_text({"quality": quality, "orders": []}).split("\n")[-1]
    cells = [cell.strip() for cell in verdict.split("  ") if cell]
    # the standard error of the differences -1 and -1.2, not of the two spreads of 1
    assert cells == [
        "ring, 10 calls",
        "ER-SDE 3 published -> ER-SDE 3 corrected + corrector start",
        "-1.10 ± 0.10",
        "11.0",
        "better",
    ]


def test_a_table_is_sorted_by_quality_and_names_the_best_sampler(quality):
    text = tables.comparison_text({"quality": quality, "orders": []})
    title, _, _, first, second, third = text.split("\n\n")[0].split("\n")
    assert title == "ring, 10 calls, sorted by energy distance; best: ER-SDE 3 corrected + corrector start"
    assert first.startswith("(exact)")
    assert second.split("  ")[0] == "ER-SDE 3 corrected + corrector start"
    assert second.endswith("  2.9 ± 1.1")
    assert third.startswith("ER-SDE 3 published")


@pytest.mark.parametrize(
    ("values", "word"), [([4.0, 1.8], "better"), ([6.0, 4.1], "worse"), ([5.5, 2.6], "even")]
)
def test_a_difference_within_two_standard_errors_is_none(quality, values, word):
    quality[1] = entry("ring", "energy_distance", "er_sde_3_corrector", values)
    verdict = tables.comparison_text({"quality": quality, "orders": []}).split("\n\n")[-1]
    assert verdict.split("\n")[-1].endswith(word)


def test_one_repetition_shows_no_difference():
    quality = [
        entry("ring", "energy_distance", name, [n])
        for n, name in enumerate(("er_sde_3", "er_sde_3_corrector"))
    ]
    assert tables.comparison_text({"quality": quality, "orders": []}).endswith("even")


def test_exact_values_differ_without_an_error():
    quality = [
        entry("gaussian", "wasserstein", "er_sde_3", [0.2]),
        entry("gaussian", "wasserstein", "er_sde_3_corrector", [0.1]),
    ]
    line = tables.comparison_text({"quality": quality, "orders": []}).split("\n")[-1]
    assert line.split()[-3:-1] == ["-0.1", "exact"]
    assert line.endswith("better")


def test_the_most_calls_are_reported_where_neither_10_nor_20_were_measured(quality):
    quality = [one | {"nfe": 7} for one in quality]
    assert tables.comparison_text({"quality": quality, "orders": []}).startswith("ring, 7 calls")


def test_fitted_orders_are_reported(quality):
    orders = [
        {"case": "gaussian_ode", "sampler": "ddim", "order": 1.004},
        {"case": "gaussian_ode", "sampler": "heun", "order": None},
    ]
    lines = tables.comparison_text({"quality": quality, "orders": orders}).split("\n\n")[1].split("\n")
    assert lines[3].split() == ["gaussian_ode", "DDIM", "1.00"]
    assert lines[4].split() == ["gaussian_ode", "Heun", "(EDM)"]


def test_without_orders_and_without_a_pair_there_is_one_table():
    quality = [entry("ring", "energy_distance", name, [1.0, 2.0]) for name in ("ddim", "heun")]
    assert "\n\n" not in tables.comparison_text({"quality": quality, "orders": []})
