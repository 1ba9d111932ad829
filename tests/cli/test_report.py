"""`jaxcil report` from the command line, on results of runs that nobody trained."""

import json

import pytest

from jaxcil.cli import main as command


@pytest.fixture
def run(tmp_path):
    """Writes the workdir of a finished run, and returns its path."""

    def write(name, seed, **fields):
        entry = {
            "learner": "frozen",
            "reading": "ncm",
            "variant": "plain",
            "seed": seed,
            "accuracy_matrix": [[0.5, None], [0.25, 0.75]],
            "average_incremental_accuracy": 0.5,
            "last_accuracy": 0.5,
            "forgetting": 0.25,
        }
        results = {
            "schema": 2,
            "config": {"dataset": "pets", "evaluate_on": "test", "scenario": {"class_order": "given"}},
            "versions": {"jax": "0.10.2"},
            "device": "cpu",
            "class_order": [0, 1],
            "class_names": ["cat", "dog"],
            "class_order_hash": "00",
            "task_sizes": [1, 1],
            "test_images": [10, 10],
            "conventions": {"average": "images", "forgetting": "up_to_last"},
            "runs": [entry],
        }
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(results | fields))
        return tmp_path / name

    return write


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        command.main(["report", *map(str, arguments)])
    printed = capsys.readouterr()
    return exit_.value.code, printed.out, printed.err


def test_runs_become_a_page_and_their_tables_are_printed(run, tmp_path, capsys):
    status, out, _ = call(capsys, run("a", 0), run("b", 1), f"--out={tmp_path}/there")
    assert status == 0
    assert "| NCM    | 50.0 ± 0.0 |" in out
    assert out.endswith(f"{tmp_path}/there/report.html, report.md and report.csv\n")
    assert out.startswith((tmp_path / "there" / "report.md").read_text())


def test_without_a_folder_the_report_goes_into_report(run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, _ = call(capsys, run("a", 0))
    assert status == 0
    assert (tmp_path / "report" / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "expected the workdirs of finished runs, got none"),
        (["{run}", "--outt=x"], "outt"),
        (["{run}", "--out="], "--out is empty"),
        (["{run}", "{run}"], "leave one out"),
        (["{run}", "{tmp}/nowhere"], "nowhere has no results.json; give workdirs"),
        (["{run}", "{tmp}/begun"], "begun is not finished"),
        (["{old}"], "is of schema 1"),
        (["{odd}"], "string indices must be integers"),
        (["{run}", "--out=/dev/null/x"], "/dev/null/x cannot be written"),
    ],
)
def test_bad_input_ends_in_a_message_and_status_2(run, tmp_path, capsys, monkeypatch, arguments, says):
    places = {
        "run": run("a", 0),
        "old": run("old", 0, schema=1),
        "odd": run("odd", 0, runs="abc"),
        "tmp": tmp_path,
    }
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    status, out, err = call(capsys, *(argument.format(**places) for argument in arguments))
    assert (status, out) == (2, "")
    assert not (tmp_path / "report").exists()
    assert err.startswith("jaxcil: ")
    assert says in err
