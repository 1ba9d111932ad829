import csv
import json
import re

import numpy as np
import pytest

from jaxcil.errors import InputError
from jaxcil.evaluation.reports import page as pages
from jaxcil.evaluation.reports.curves import accuracy_curves
from jaxcil.evaluation.reports.finished_runs import read_run
from jaxcil.evaluation.reports.page import write_report, write_run_page

LEVELS = {("ncm", "plain"): 0.5, ("ncm", "future_proof"): 0.7, ("ncm", "shuffled_labels"): 0.55}


@pytest.fixture
def runs(finished):
    folders = (
        finished("a", LEVELS, order=1),
        finished("b", LEVELS, order=2),
        finished("c", {("ncm", "future_proof"): 0.6}, order=1, synthetic__images_per_class=50),
    )
    return [read_run(folder) for folder in folders]


@pytest.fixture
def own_page(finished):
    """The text of the page that a run of levels and changes writes into its workdir, which `add` may fill before."""

    def write(levels, add=lambda folder: None, name="run", **changes):
        folder = finished(name, levels, **changes)
        add(folder)
        path = write_run_page(folder, read_run(folder).results)
        assert path == folder / "report.html"
        return path.read_text()

    return write


def words(page):
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def classes_of_cells(page, *texts):
    """The class attribute of the cell that starts with each text."""
    return [re.search(rf'<td class="([^"]*)">\s*{re.escape(text)}', page).group(1).strip() for text in texts]


def test_the_page_of_several_runs_holds_everything_and_loads_nothing(runs, tmp_path):
    text = write_report(tmp_path / "report", runs)
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [
        "report.csv",
        "report.html",
        "report.md",
    ]
    assert (tmp_path / "report" / "report.md").read_text() == text
    page = (tmp_path / "report" / "report.html").read_text()
    for said in (
        "pets, 4 classes: 2 classes first, then 2 per task",
        "evaluated on the test images",
        "images_per_class = 50",
        "60.5 ±0.7 / 0.0",  # FPCIL of both orders: 0.60 and 0.61 in each
        "60.5 (+20.0)",
        "synthetic images with their class labels permuted",
        "every test image counts the same",
        "seed-2",
        "0.10.2",
    ):
        assert said in words(page)
    assert (
        page.count("data:image/png;base64,") == 4
    )  # curves of two settings, for wide and for narrow screens
    assert not re.findall(r'(?:src|srcset|href)="(?!data:)', page)


def test_the_page_of_a_run_holds_everything_and_loads_nothing(own_page):
    page = own_page(LEVELS, seeds=(0, 1, 2))
    for said in (
        "pets, 4 classes: 2 classes first, then 2 per task",
        "Class order seed-1993, seeds 0, 1, 2, evaluated on the test images.",
        "61.0 ±1.0",
        "+20.0 ±0.0",
        "0.10.2",
        f"{1993:016x}",
        "Class order: a, b, c, d.",
        "&#34;images_per_class&#34;: 200",  # the config
    ):
        assert said in words(page)
    assert page.count("data:image/png;base64,") == 2
    assert not re.findall(r'(?:src|srcset|href)="(?!data:)', page)


def test_a_run_of_one_seed_shows_no_spread(own_page):
    page = own_page({("ncm", "plain"): 0.5}, seeds=(7,))
    assert "seed 7," in page
    assert "±" not in words(page)
    assert "standard deviation" not in page


def test_a_report_of_one_run_is_the_page_of_that_run(finished, tmp_path):
    folder = finished("a", LEVELS)
    own = write_run_page(folder, read_run(folder).results).read_text()
    write_report(tmp_path / "report", [read_run(folder)])
    assert (tmp_path / "report" / "report.html").read_text() == own


def test_a_loss_looks_like_a_loss_and_a_gain_like_a_gain(own_page):
    levels = {("ncm", "plain"): 0.5, ("ncm", "future_proof"): 0.45, ("ncm", "shuffled_labels"): 0.65}
    page = own_page({**levels, ("ncm", "real_future"): 0.55})
    assert classes_of_cells(page, "-5.0", "+15.0", "40.5", "35.5") == ["ours loss", "gain", "", "ours"]
    assert "-5.0 ±0.0 +5.0 ±0.0" in words(page)  # and no part of what real images gain
    colours = dict(re.findall(r"--(gain|loss): (#\w+);", page.split("prefers-color-scheme")[1]))
    assert len({*colours.values(), *re.findall(r"--(?:gain|loss): (#\w+);", page)}) == 4


def test_the_part_of_a_gain_is_shown_where_it_is_no_noise(own_page):
    page = own_page(LEVELS | {("ncm", "real_future"): 0.9})
    assert "+20.0 ±0.0 (50 %)" in words(page)


def test_a_loss_is_a_loss_in_the_table_of_settings_too(finished, tmp_path):
    levels = {("ncm", "future_proof"): 0.4}
    runs = [finished("a", LEVELS), finished("b", levels, synthetic__images_per_class=50)]
    write_report(tmp_path / "report", [read_run(run) for run in runs])
    page = (tmp_path / "report" / "report.html").read_text()
    assert classes_of_cells(page, "60.5<small>(+20.0)", "30.5<small>(-10.0)") == ["gain", "loss"]


def add_auxiliary(variants, source="/data/drawn"):
    def add(folder):
        (folder / "auxiliary.json").write_text(json.dumps({"source": source, "variants": variants}))
        accuracy_curves(read_run(folder).results, folder / "auxiliary.png")

    return add


def test_the_caption_says_what_was_trained_on_in_class_order_with_counts(own_page):
    images = {"other": 7, "d": 1200, "c": 1200}  # `other` is a class that never comes
    page = own_page(
        LEVELS,
        add_auxiliary({"future_proof": images, "known_classes": {"b": 1203, "a": 1204}}),
        classes="abcd",
    )
    for said in (
        "Auxiliary images that were trained on, from /data/drawn; classes in the order in which they come.",
        "FPCIL: 2,407 images, 1,200 of each of c, d; 7 of other.",
        "known classes: 2,407 images, 1,204 of a; 1,203 of b.",
    ):
        assert said in words(page)
    assert page.count("data:image/png;base64,") == 3


def test_the_caption_names_the_filter_of_a_set(finished):
    folder = finished("a", LEVELS)
    add_auxiliary({"future_proof": {"c": 5}})(folder)
    results = {**read_run(folder).results, "synthetic_filter": {"name": "first"}}
    page = write_run_page(folder, results).read_text()
    assert "from /data/drawn, those that its filter first keeps; classes" in words(page)


def test_a_run_without_auxiliary_images_has_no_sheet(own_page):
    assert "Auxiliary images" not in own_page(LEVELS, lambda folder: (folder / "auxiliary.png").touch())


def test_damaged_counts_of_auxiliary_images_are_named(own_page):
    with pytest.raises(InputError, match=r"auxiliary\.json is damaged"):
        own_page(LEVELS, add_auxiliary({"future_proof": [200, 200]}))


def test_the_table_of_runs_has_the_number_of_auxiliary_images(runs, finished, tmp_path):
    add_auxiliary({"future_proof": {"c": 1200, "d": 200}})(tmp_path / "b")
    write_report(tmp_path / "report", runs)
    page = (tmp_path / "report" / "report.html").read_text()
    assert "<th>auxiliary images</th>" in page
    assert page.count("<td>FPCIL 1,400 images</td>") == 1


def test_the_page_has_the_time_of_each_stage(own_page):
    seconds = {"synthesis": 27.63, "extractor plain": 600.0, "heads": 9000}
    page = own_page(LEVELS, lambda folder: (folder / "timing.json").write_text(json.dumps(seconds)))
    assert "Time per stage synthesis 27.6 s extractor plain 10.0 min heads 2.5 h" in words(page)


def test_the_page_says_what_its_controls_are(own_page):
    page = own_page({("ncm", "plain"): 0.5, ("ncm", "known_classes"): 0.5})
    assert "Known classes: equally many synthetic images, of first-task classes only." in page


def test_confusion_matrices_of_the_first_method_are_drawn_where_the_run_kept_them(own_page, monkeypatch):
    counts = {
        ("plain", "frozen", "ncm"): 1,
        ("future_proof", "frozen", "ncm"): 2,
        ("plain", "frozen", "acil"): 3,
    }
    drawn = []

    def add(folder):
        arrays = {"-".join(name): np.full((2, 4, 4), value) for name, value in counts.items()}
        np.savez(folder / "confusion.npz", **arrays)

    def record(confusions, names, task_sizes, *, columns):
        drawn.append({title: int(counts[0, 0, 0]) for title, counts in confusions.items()})
        assert (names, task_sizes) == (list("abcd"), [2, 2])
        return b"picture"

    monkeypatch.setattr(pages, "draw_confusions", record)
    page = own_page(LEVELS, add)
    assert drawn == [{"plain": 1, "FPCIL": 2}] * 2  # for wide and for narrow screens
    assert "NCM after the last task" in page
    counts = {("real_future", "frozen", "ncm"): 1}
    assert "Confusion matrices" not in own_page(LEVELS, add, name="other")


def test_curves_are_over_all_orders_and_seeds_of_a_setting(runs, tmp_path, monkeypatch):
    drawn = []

    def record(comparison, setting, *, columns):
        drawn.append({(entry.variant, *entry.pair): entry.curve[0] for entry in setting.entries})
        assert comparison.task_sizes == (2, 2)
        return b"picture"

    monkeypatch.setattr(pages, "draw_curves", record)
    write_report(tmp_path, runs)
    main, fewer = drawn[::2]  # each for wide and for narrow screens
    one, two = f"{1:016x}", f"{2:016x}"
    plain = {
        pair: value
        for (variant, *pair), value in main.items()
        for pair in [tuple(pair)]
        if variant == "plain"
    }
    assert plain == {(one, 0): 0.5, (one, 1): 0.51, (two, 0): 0.5, (two, 1): 0.51}
    assert fewer == {("future_proof", one, 0): 0.6, ("future_proof", one, 1): 0.61}


def test_the_page_has_the_fields_of_settings_that_are_named_by_their_folders(finished, tmp_path):
    changes = {f"training__{name}": 1 for name in ("epochs", "warmup", "cutout", "batch_size", "momentum")}
    write_report(
        tmp_path / "report",
        [read_run(finished("one", LEVELS)), read_run(finished("other", LEVELS, **changes))],
    )
    page = (tmp_path / "report" / "report.html").read_text()
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["Settings next to each other", "one", "other", "Runs"]
    assert "<dt>training.warmup</dt><dd>1</dd>" in page
    assert "<dt>training.warmup</dt><dd>none</dd>" in page


def test_equal_runs_give_equal_bytes(runs, finished, tmp_path):
    for name in ("one", "other"):
        write_report(tmp_path / name, runs[:2])
    for file in ("report.html", "report.md", "report.csv"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()
    first, second = (
        write_run_page(finished(name, LEVELS), runs[0].results).read_bytes() for name in ("here", "there")
    )
    assert first == second


def test_names_from_outside_cannot_break_the_page(own_page, finished, tmp_path):
    levels = {("<u>us</u>", "<script>alert(1)</script>", "<b>mine</b>"): 0.5, ("ncm", "plain"): 0.5}
    changes = {"dataset": "<i>pets</i>", "note": "</pre><script>"}
    own = own_page(levels, **changes)
    write_report(
        tmp_path / "report", [read_run(finished(name, levels, order=ord(name), **changes)) for name in "ab"]
    )
    for page in (own, (tmp_path / "report" / "report.html").read_text()):
        assert not re.search("<script|<b>mine|<i>pets|<u>us", page)
        assert "&lt;u&gt;us&lt;/u&gt;" in page


def test_the_csv_has_the_origin_of_every_value(runs, tmp_path):
    write_report(tmp_path, runs)
    with (tmp_path / "report.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    values = {
        (
            line["run"],
            line["setting"],
            line["learner"],
            line["reading"],
            line["variant"],
            line["seed"],
        ): float(line["value"])
        for line in lines
        if line["metric"] == "last_accuracy"
    }
    assert len(values) == 2 * 3 * 2 + 2
    key = (runs[2].folder, "images_per_class = 50", "frozen", "ncm", "future_proof", "1")
    assert values[key] == pytest.approx(0.6 + 0.01 - 0.2, rel=1e-12)
    assert {(line["dataset"], line["task_sizes"]) for line in lines} == {("pets", "2 2")}


def test_runs_that_cannot_be_compared_write_nothing(runs, tmp_path):
    with pytest.raises(InputError, match="leave one out"):
        write_report(tmp_path / "report", [runs[0], runs[0]])
    assert not (tmp_path / "report").exists()


def test_scenarios_are_separate_on_one_page(finished, tmp_path):
    runs = [
        read_run(finished(name, LEVELS, sizes=sizes, seeds=(0,)))
        for name, sizes in (("a", (2, 2)), ("b", (4, 1)))
    ]
    write_report(tmp_path / "report", runs)
    page = (tmp_path / "report" / "report.html").read_text()
    headings = re.findall(r"<h[12][^>]*>(.*?)</h[12]>", page)
    assert headings[0] == "2 scenarios of class-incremental learning"
    assert headings[1:3] == [
        "pets, 4 classes: 2 classes first, then 2 per task",
        "pets, 5 classes: 4 classes first, then 1 per task",
    ]


def test_the_page_of_a_run_is_not_overwritten_by_a_report(finished):
    folder = finished("a", {("ncm", "plain"): 0.5})
    with pytest.raises(InputError, match="is a run and has a page of its own"):
        write_report(folder, [read_run(folder)])
    assert [path.name for path in folder.iterdir()] == ["results.json"]
