import json
import re

import numpy as np
import pytest

from jaxcil.evaluation.reports import curves, report

SIZES = [2, 2, 1]


def run(method, extractor, seed, level):
    matrix = [[level, None, None], [level - 0.2, level, None], [level - 0.3, level - 0.1, level]]
    return {
        "method": method,
        "extractor": extractor,
        "seed": seed,
        "accuracy_matrix": matrix,
        "average_incremental_accuracy": level - 0.1,
        "last_accuracy": level - 0.2,
        "forgetting": 0.2,
    }


def results_of(runs, **config):
    return {
        "schema": 1,
        "config": {"dataset": "pets", "scenario": {"class_order": "seed-1993"}, **config},
        "versions": {"jax": "0.10.2"},
        "device": "cpu",
        "class_order": [4, 2, 0, 1, 3],
        "class_order_hash": "0123456789abcdef",
        "task_sizes": SIZES,
        "conventions": {"average": "images", "forgetting": "up_to_last"},
        "runs": runs,
        "summary": report.summarise(runs),
    }


@pytest.fixture
def results():
    levels = {"plain": 0.5, "future_proof": 0.7, "real_future": 0.9}
    return results_of(
        [
            run(method, extractor, seed, level + 0.02 * seed)
            for extractor, level in levels.items()
            for method in ("ncm", "fecam")
            for seed in (0, 1, 2)
        ]
    )


def test_summary_has_mean_deviation_and_number_of_seeds_method_by_method(results):
    summary = report.summarise(results["runs"])
    assert [(entry["method"], entry["extractor"]) for entry in summary] == [
        (method, extractor)
        for method in ("ncm", "fecam")
        for extractor in ("plain", "future_proof", "real_future")
    ]
    plain = summary[0]["average_incremental_accuracy"]
    # 0.40, 0.42, 0.44: the deviation with n - 1 is 0.02, with n it would be 0.0163
    np.testing.assert_allclose([plain["mean"], plain["std"], plain["n"]], [0.42, 0.02, 3], rtol=1e-12)


def test_one_seed_has_no_deviation_and_the_summary_is_json():
    summary = report.summarise([run("ncm", "plain", 0, 0.5)])
    assert summary[0]["forgetting"] == {"mean": 0.2, "std": None, "n": 1}
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_gain_is_paired_by_seed_over_the_seeds_of_both():
    # Seeds differ by far more than the gain: unpaired, its deviation would be 0.28
    runs = [run("ncm", "plain", 0, 0.3), run("ncm", "plain", 1, 0.7), run("ncm", "plain", 2, 0.1)]
    runs += [run("ncm", "future_proof", 1, 0.82), run("ncm", "future_proof", 0, 0.4)]
    runs += [run("ncm", "real_future", 0, 0.5)]
    # The share is over the seeds of all three: 0.1 of 0.2
    (gain,) = report.gains(runs)
    np.testing.assert_allclose([gain.mean, gain.std, gain.share], [0.11, np.sqrt(2) / 100, 0.5], rtol=1e-9)


def test_without_a_gap_to_the_bound_no_share_of_it_is_told():
    runs = [run("ncm", "plain", 0, 0.5), run("ncm", "future_proof", 0, 0.6)]
    assert report.gains(runs)[0].share is None
    assert report.gains([*runs, run("ncm", "real_future", 0, 0.5)])[0].share is None
    assert report.gains(runs[:1]) == []


def test_the_printed_table_is_aligned_and_in_percent(results):
    lines = report.summary_table(results).split("\n")
    table, notes = lines[:8], lines[8:]
    assert len({len(line) for line in table}) == 1
    assert re.fullmatch(r"NCM +FPCIL +62\.0 ± 2\.0 +52\.0 ± 2\.0 +20\.0 ± 0\.0", table[3])
    assert notes == [
        f"FPCIL gains +20.0 ± 0.0 points over plain with {name}, 50 % of the way to real future images"
        for name in ("NCM", "FeCAM")
    ]


def test_the_page_holds_everything_and_loads_nothing(results, tmp_path):
    (tmp_path / "synthetic").mkdir()
    curves.accuracy_curves(results, tmp_path / "synthetic" / "contact_sheet.png")
    path = report.write_report(tmp_path, results, synthetic={"images": 100, "distance": 1.23456})
    page = path.read_text()
    for said in (
        "62.0 ± 2.0",
        "+20.0 ± 0.0",
        "seed-1993",
        "0.10.2",
        "0123456789abcdef",
        "1.235",
        "seeds 0, 1, 2",
    ):
        assert said in page
    assert page.count("data:image/png;base64,") == 3  # curves for wide and for narrow screens, contact sheet
    assert not re.findall(r'(?:src|srcset|href)="(?!data:)', page)
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["report.html"]


def test_names_from_outside_cannot_break_the_page(tmp_path):
    runs = [run("<script>alert(1)</script>", "<b>mine</b>", 0, 0.5)]
    page = report.write_report(tmp_path, results_of(runs, note="</pre><script>")).read_text()
    assert "<script" not in page
    assert "<b>mine" not in page


def test_a_run_of_one_task_one_seed_and_no_synthetic_images_has_a_page(tmp_path):
    entry = run("ncm", "plain", 7, 0.5) | {"accuracy_matrix": [[0.5]]}
    page = report.write_report(tmp_path, results_of([entry]) | {"task_sizes": [5]}).read_text()
    assert "No synthetic images were used" in page
    assert "±" not in page


def test_a_data_set_that_the_config_names_gives_the_contact_sheet_and_the_sentence(results, tmp_path):
    curves.accuracy_curves(results, tmp_path / "contact_sheet.png")
    (tmp_path / "run").mkdir()
    results["config"]["synthetic"] = {"path": str(tmp_path), "model": "unused"}
    page = report.write_report(tmp_path / "run", results).read_text()
    assert page.count("data:image/png;base64,") == 3
    assert f"from the data set {tmp_path}." in page
    results["config"]["synthetic"]["filter"] = "good"
    page = report.write_report(tmp_path / "run", results).read_text()
    assert f"from the data set {tmp_path}, those that its filter good keeps." in page


@pytest.mark.parametrize(
    ("extractor", "chosen", "sentence"),
    [
        (
            "shuffled_labels",
            {},
            "The controls train their extractors on the real images of the first task and on ",
        ),
        ("known_classes", {}, "synthetic images of the classes to come, from the generator digits."),
        (
            "future_proof",
            {"classes": ["oak", "fir"]},
            "synthetic images of oak, fir, from the generator digits.",
        ),
        (
            "future_proof",
            {"source": "others", "classes": ["oak"], "images_per_class": 7, "known_share": 1.0},
            "real images of oak (7 of each), from the data set others.",
        ),
        ("future_proof", {"known_share": 0.5}, "synthetic images of 50 % of the classes to come, from"),
    ],
)
def test_a_page_tells_which_images_stood_beside_those_of_the_first_task(
    tmp_path, extractor, chosen, sentence
):
    results = results_of([run("ncm", "plain", 0, 0.5), run("ncm", extractor, 0, 0.5)])
    results["config"] |= {"synthetic": {"path": None, "model": "digits"}, "future_proof": chosen}
    page = report.write_report(tmp_path, results).read_text()
    assert sentence in page
    assert "No synthetic images" not in page


def test_extractors_stand_in_one_order_whatever_that_of_the_runs(results):
    results["runs"].reverse()
    assert [entry["extractor"] for entry in report.summarise(results["runs"])] == [
        "plain",
        "future_proof",
        "real_future",
    ] * 2


def test_a_metric_is_told_where_every_run_has_it(results, tmp_path):
    for entry in results["runs"]:
        entry["last_calibration_error"] = 0.125
    results["summary"] = report.summarise(results["runs"])
    page = report.write_report(tmp_path, results).read_text()
    assert "<th>last calibration error</th>" in page
    assert "<td>12.5 ± 0.0</td>" in page
    results["runs"][0]["last_calibration_error"] = None
    assert "last_calibration_error" not in report.summarise(results["runs"])[0]
    del results["runs"][0]["last_calibration_error"]
    assert "last_calibration_error" not in report.summarise(results["runs"])[0]


def test_backward_transfer_is_told(results, tmp_path):
    for entry in results["runs"]:
        entry["backward_transfer"] = -0.25
    results["summary"] = report.summarise(results["runs"])
    page = report.write_report(tmp_path, results).read_text()
    assert "<th>backward transfer</th>" in page
    assert "<td>-25.0 ± 0.0</td>" in page


def test_confusion_matrices_of_the_first_head_are_drawn_where_the_run_kept_them(
    results, tmp_path, monkeypatch
):
    counts = {f"{name}-ncm": np.full((3, 5, 5), value) for name, value in (("plain", 1), ("future_proof", 2))}
    counts |= {"plain-fecam": np.full((3, 5, 5), 3), "real_future-ncm": np.full((3, 5, 5), 4)}
    np.savez(tmp_path / "confusion.npz", **counts)
    drawn = []

    def record(confusions, names, task_sizes, *, columns):
        drawn.append({title: int(counts[0, 0, 0]) for title, counts in confusions.items()})
        assert (names, task_sizes) == (results["class_order"], SIZES)
        return b"picture"

    monkeypatch.setattr(report, "draw_confusions", record)
    page = report.write_report(tmp_path, results).read_text()
    assert drawn == [{"plain": 1, "FPCIL": 2}] * 2  # for wide and for narrow screens
    assert "NCM after the last task, mean over seeds" in page


def test_a_run_without_confusion_matrices_of_its_first_head_shows_none(results, tmp_path):
    np.savez(tmp_path / "confusion.npz", **{"real_future-ncm": np.ones((3, 5, 5))})
    assert "Confusion matrices" not in report.write_report(tmp_path, results).read_text()


def test_the_page_says_what_its_controls_are(results, tmp_path):
    results["runs"] += [run("ncm", "known_classes", seed, 0.5) for seed in (0, 1, 2)]
    page = report.write_report(tmp_path, results).read_text()
    assert "Known classes: as many synthetic images, of first-task classes only." in page


def test_equal_results_give_equal_bytes(results, tmp_path):
    (tmp_path / "again").mkdir()
    first = report.write_report(tmp_path, results).read_bytes()
    assert report.write_report(tmp_path / "again", results).read_bytes() == first
