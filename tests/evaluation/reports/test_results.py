import csv
import json

import pytest

from jaxcil.errors import InputError
from jaxcil.evaluation.reports import results as result_writers
from jaxcil.evaluation.reports.results import tidy, write_results

LEVELS = {("ncm", "plain"): 0.5, ("ncm", "future_proof"): 0.75}


@pytest.fixture
def results(finished):
    return json.loads((finished("run", LEVELS, seeds=(3, 4)) / "results.json").read_text())


def test_every_number_of_a_run_is_one_line(results):
    lines = [line for line in tidy(results) if (line["extractor"], line["seed"]) == ("plain", 3)]
    first = 0.5 + 3 / 100
    found = {(line["task"], line["metric"]): line["value"] for line in lines}
    assert len(found) == len(lines)
    assert found == pytest.approx(
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
    assert {(line["method"], line["class_order"], line["class_order_hash"]) for line in lines} == {
        ("ncm", "seed-1993", f"{1993:016x}")
    }


def test_metrics_that_a_run_has_besides_are_told_too(results):
    results["runs"][0]["last_calibration_error"] = 0.125
    assert [line["value"] for line in tidy(results) if line["metric"] == "last_calibration_error"] == [0.125]


def test_backward_transfer_and_top_5_of_each_task_are_lines_where_they_were_measured(results):
    results["runs"][0] |= {"backward_transfer": -0.25, "top_5_accuracy": [None, 0.75]}
    found = [(line["task"], line["metric"], line["value"]) for line in tidy(results)]
    assert [line for line in found if line[1] in ("top_5_accuracy", "backward_transfer")] == [
        (1, "top_5_accuracy", 0.75),
        ("", "backward_transfer", -0.25),
    ]


def test_csv_and_json_hold_the_results_and_no_times(results, tmp_path):
    paths = write_results(tmp_path / "one", results, ("json", "csv"))
    assert [path.name for path in paths] == ["results.json", "results.csv"]
    assert json.loads(paths[0].read_text()) == results
    with paths[1].open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [(line["task"], line["metric"], float(line["value"])) for line in read] == [
        (str(line["task"]), line["metric"], line["value"]) for line in tidy(results)
    ]
    again = write_results(tmp_path / "other", results, ("json", "csv"))
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]


def test_a_class_order_of_names_stays_one_cell(results, tmp_path):
    results["config"]["scenario"]["class_order"] = 'cat, "big" dog'
    (path,) = write_results(tmp_path, results, ("csv",))
    with path.open(newline="") as file:
        assert {line["class_order"] for line in csv.DictReader(file)} == {'cat, "big" dog'}


def test_results_of_a_run_that_goes_on_are_written_over(results, tmp_path, monkeypatch):
    part = results | {"runs": results["runs"][:1]}
    for process, some in enumerate((part, results)):
        monkeypatch.setattr(
            "os.getpid", lambda process=process: process
        )  # it is in the name of a file of curves
        csv_path, folder = write_results(tmp_path, some, ("csv", "tensorboard"))
    assert csv_path.read_text().count("last_accuracy") == 4
    assert len(list(folder.iterdir())) == 1
    assert not (tmp_path / "results.json").exists()  # it would tell that the run is finished


def test_curves_have_a_point_a_task(results, tmp_path, monkeypatch):
    points = []

    class Recorder:
        def __init__(self, folder):
            assert folder == tmp_path / "tensorboard" / "results"

        def write(self, done, values):
            points.extend((done, name, value) for name, value in values.items())

        def close(self):
            pass

    monkeypatch.setattr(result_writers, "Scalars", Recorder)
    write_results(tmp_path, results, ("tensorboard",))
    curve = [(done, value) for done, name, value in points if name == "ncm/future_proof/seed_4/seen_accuracy"]
    assert curve == [(0, pytest.approx(0.79)), (1, pytest.approx(0.59))]


def test_an_unknown_format_is_refused_before_anything_is_written(results, tmp_path):
    with pytest.raises(InputError, match=r"no format of results 'cvs'.*Did you mean 'csv'"):
        write_results(tmp_path / "there", results, ("json", "cvs"))
    assert not (tmp_path / "there").exists()
