import csv
import re

import pytest

from jaxcil.errors import InputError
from jaxcil.evaluation.reports import page as runs_report
from jaxcil.evaluation.reports.finished_runs import read_run
from jaxcil.evaluation.reports.page import write_runs_report

LEVELS = {("ncm", "plain"): 0.5, ("ncm", "future_proof"): 0.7, ("ncm", "shuffled_labels"): 0.55}


@pytest.fixture
def runs(finished):
    folders = (
        finished("a", LEVELS, order=1),
        finished("b", LEVELS, order=2),
        finished("c", {("ncm", "future_proof"): 0.6}, order=1, synthetic__images_a_class=50),
    )
    return [read_run(folder) for folder in folders]


def test_the_page_holds_everything_and_loads_nothing(runs, tmp_path):
    text = write_runs_report(tmp_path / "report", runs)
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [
        "report.csv",
        "report.html",
        "report.md",
    ]
    assert (tmp_path / "report" / "report.md").read_text() == text
    page = (tmp_path / "report" / "report.html").read_text()
    told = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    for said in (
        "pets, 4 classes: 2 classes first, then 2 a task",
        "evaluated on the test images",
        "images_per_class = 50",
        "60.5 ±0.7 / 0.0",  # FPCIL of both orders: 0.60 and 0.61 in each
        "60.5 (+20.0)",
        "synthetic images with their class labels permuted",
        "every test image counts the same",
        "seed-2",
        "0.10.2",
    ):
        assert said in told
    # Curves of two settings, and both side by side; for wide and for narrow screens
    assert page.count("data:image/png;base64,") == 6
    assert not re.findall(r'(?:src|srcset|href)="(?!data:)', page)


def test_curves_are_over_all_orders_and_seeds_of_a_setting(runs, tmp_path, monkeypatch):
    drawn = []

    def record(curves, classes_seen, path, *, columns):
        drawn.append(
            {
                extractor: {pair: curve[0] for pair, curve in of_pair.items()}
                for extractor, of_pair in curves["ncm"].items()
            }
        )
        assert classes_seen.tolist() == [2, 4]

    monkeypatch.setattr(runs_report, "draw_curves", record)
    write_runs_report(tmp_path, runs)
    main, fewer = drawn[::2]  # each for wide and for narrow screens
    one, two = f"{1:016x}", f"{2:016x}"
    assert main["plain"] == {(one, 0): 0.5, (one, 1): 0.51, (two, 0): 0.5, (two, 1): 0.51}
    assert fewer["future_proof"] == {(one, 0): 0.6, (one, 1): 0.61}


def test_the_page_tells_the_fields_of_settings_that_are_named_by_their_folders(finished, tmp_path):
    changes = {f"extractor__{name}": 1 for name in ("epochs", "warmup", "cutout", "batch_size", "momentum")}
    write_runs_report(
        tmp_path / "report",
        [read_run(finished("one", LEVELS)), read_run(finished("other", LEVELS, **changes))],
    )
    page = (tmp_path / "report" / "report.html").read_text()
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["one", "other", "Runs"]
    assert "<dt>extractor.warmup</dt><dd>1</dd>" in page
    assert "<dt>extractor.warmup</dt><dd>none</dd>" in page


def test_equal_runs_give_equal_bytes(runs, tmp_path):
    for name in ("one", "other"):
        write_runs_report(tmp_path / name, runs[:1])
    for file in ("report.html", "report.md", "report.csv"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def test_names_from_outside_cannot_break_the_page(finished, tmp_path):
    run = finished(
        "a", {("<script>alert(1)</script>", "<b>mine</b>"): 0.5}, dataset="<i>pets</i>", seeds=(0,)
    )
    write_runs_report(tmp_path / "report", [read_run(run)])
    page = (tmp_path / "report" / "report.html").read_text()
    assert not re.search("<script|<b>mine|<i>pets", page)


def test_the_csv_tells_of_every_value_where_it_is_from(runs, tmp_path):
    write_runs_report(tmp_path, runs)
    with (tmp_path / "report.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    found = {
        (line["run"], line["setting"], line["extractor"], line["seed"]): float(line["value"])
        for line in lines
        if line["metric"] == "last_accuracy"
    }
    assert len(found) == 2 * 3 * 2 + 2
    key = (runs[2].folder, "images_per_class = 50", "future_proof", "1")
    assert found[key] == pytest.approx(0.6 + 0.01 - 0.2, rel=1e-12)
    assert {(line["dataset"], line["task_sizes"]) for line in lines} == {("pets", "2 2")}


def test_runs_that_cannot_stand_side_by_side_write_nothing(runs, tmp_path):
    with pytest.raises(InputError, match="leave one out"):
        write_runs_report(tmp_path / "report", [runs[0], runs[0]])
    assert not (tmp_path / "report").exists()


def test_scenarios_stand_apart_on_one_page(finished, tmp_path):
    runs = [
        read_run(finished(name, LEVELS, sizes=sizes, seeds=(0,)))
        for name, sizes in (("a", (2, 2)), ("b", (4, 1)))
    ]
    write_runs_report(tmp_path / "report", runs)
    page = (tmp_path / "report" / "report.html").read_text()
    headings = re.findall(r"<h[12][^>]*>(.*?)</h[12]>", page)
    assert headings[0] == "2 scenarios of class-incremental learning"
    assert headings[1:3] == [
        "pets, 4 classes: 2 classes first, then 2 a task",
        "pets, 5 classes: 4 classes first, then 1 a task",
    ]


def test_the_page_of_a_run_is_not_written_over(finished):
    folder = finished("a", {("ncm", "plain"): 0.5})
    with pytest.raises(InputError, match="is a run and has a page of its own"):
        write_runs_report(folder, [read_run(folder)])
    assert [path.name for path in folder.iterdir()] == ["results.json"]
