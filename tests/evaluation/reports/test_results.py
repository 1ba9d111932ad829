import csv
import json

import numpy as np
import pytest

from jaxcil.errors import InputError
from jaxcil.evaluation.reports.results import summarise, tidy, write_results

LEVELS = {("ncm", "plain"): 0.5, ("ncm", "future_proof"): 0.75}


@pytest.fixture
def results(finished):
    return json.loads((finished("run", LEVELS, seeds=(3, 4)) / "results.json").read_text())


def test_every_number_of_a_run_is_one_line(results):
    lines = [line for line in tidy(results) if (line["variant"], line["seed"]) == ("plain", 3)]
    first = 0.5 + 3 / 100
    values = {(line["task"], line["metric"]): line["value"] for line in lines}
    assert len(values) == len(lines)
    assert values == pytest.approx(
        {
            (0, "seen_accuracy"): first,
            (0, "accuracy_of_task_0"): first,
            (1, "seen_accuracy"): first - 0.2,
            (1, "accuracy_of_task_0"): first - 0.2,
            (1, "accuracy_of_task_1"): first - 0.2,
            ("", "average_incremental_accuracy"): first - 0.1,
            ("", "last_accuracy"): first - 0.2,
            ("", "forgetting"): 0.2,
        }
    )
    assert {
        (line["learner"], line["reading"], line["class_order"], line["class_order_hash"]) for line in lines
    } == {("frozen", "ncm", "seed-1993", f"{1993:016x}")}


def test_further_metrics_of_a_run_are_lines_too(results):
    results["runs"][0]["last_calibration_error"] = 0.125
    assert [line["value"] for line in tidy(results) if line["metric"] == "last_calibration_error"] == [0.125]


def test_backward_transfer_and_top_5_of_each_task_are_lines_where_they_were_measured(results):
    results["runs"][0] |= {"backward_transfer": -0.25, "top_5_accuracy": [None, 0.75]}
    values = [(line["task"], line["metric"], line["value"]) for line in tidy(results)]
    assert [line for line in values if line[1] in ("top_5_accuracy", "backward_transfer")] == [
        (1, "top_5_accuracy", 0.75),
        ("", "backward_transfer", -0.25),
    ]


def test_csv_and_json_hold_the_results_and_no_times(results, tmp_path):
    for name in ("one", "other"):
        write_results(tmp_path / name, results)
    names = ["results.csv", "results.json", "results.json.sha256"]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == names
    assert json.loads((tmp_path / "one" / "results.json").read_text()) == results
    with (tmp_path / "one" / "results.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [(line["task"], line["metric"], float(line["value"])) for line in read] == [
        (str(line["task"]), line["metric"], line["value"]) for line in tidy(results)
    ]
    for name in ("results.csv", "results.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_results_that_cannot_be_written_leave_a_run_unfinished(results, tmp_path):
    (tmp_path / "results.csv").mkdir()
    with pytest.raises(InputError, match=r"results\.csv cannot be written"):
        write_results(tmp_path, results)
    assert not (tmp_path / "results.json").exists()


def test_a_class_order_of_names_stays_one_cell(results, tmp_path):
    results["config"]["scenario"]["class_order"] = 'cat, "big" dog'
    write_results(tmp_path, results)
    with (tmp_path / "results.csv").open(newline="") as file:
        assert {line["class_order"] for line in csv.DictReader(file)} == {'cat, "big" dog'}


def test_summary_has_mean_deviation_and_number_of_seeds_method_by_method(finished):
    levels = {
        (*method, variant): level
        for variant, level in {"future_proof": 0.7, "plain": 0.5}.items()
        for method in (("lucir", "cnn"), ("frozen", "fecam"), ("der", "cnn"))
    }
    folder = finished("three", levels, seeds=(0, 2, 4))
    summary = summarise(json.loads((folder / "results.json").read_text())["runs"])
    assert [(entry["learner"], entry["reading"], entry["variant"]) for entry in summary] == [
        (*method, variant)
        for method in (("lucir", "cnn"), ("frozen", "fecam"), ("der", "cnn"))  # as they come
        for variant in ("plain", "future_proof")  # in display order
    ]
    plain = summary[0]["average_incremental_accuracy"]
    # 0.40, 0.42, 0.44: the deviation with n - 1 is 0.02, with n it would be 0.0163
    np.testing.assert_allclose([plain["mean"], plain["std"], plain["n"]], [0.42, 0.02, 3], rtol=1e-12)


def test_one_seed_has_no_deviation_and_the_summary_is_json(results):
    summary = summarise(results["runs"][:1])
    assert summary[0]["forgetting"] == {"mean": 0.2, "std": None, "n": 1}
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_the_summary_has_a_further_metric_where_every_run_has_it(results):
    for entry in results["runs"]:
        entry["last_calibration_error"] = 0.125
    assert summarise(results["runs"])[0]["last_calibration_error"] == {"mean": 0.125, "std": 0, "n": 2}
    results["runs"][0]["last_calibration_error"] = None
    assert "last_calibration_error" not in summarise(results["runs"])[0]
    del results["runs"][0]["last_calibration_error"]
    assert "last_calibration_error" not in summarise(results["runs"])[0]
