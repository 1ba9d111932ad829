"""A whole run: its files, what it refuses, and that nothing is done again that is done."""

import json
import shutil

import numpy as np
import pytest

from jaxcil import experiment
from jaxcil.cli.arguments import parse
from jaxcil.data import datasets
from jaxcil.errors import InputError
from jaxcil.experiment.auxiliary import load_auxiliary
from jaxcil.experiment.benchmark import load_benchmark
from jaxcil.experiment.settings import defaults, resolve
from jaxcil.synthesis.dataset import filters, store
from jaxcil.synthesis.dataset.manifest import read_manifest
from jaxcil.training import checkpoint, loop, tasks
from jaxcil.workdir import files, record

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::ResourceWarning"
    ),
    pytest.mark.usefixtures("few_images"),
]


def test_a_run_leaves_results_that_follow_the_schema(finished):
    results = files.read_json(finished / "results.json")
    assert results["schema"] == 2
    assert results["task_sizes"] == [4, 4, 2]
    assert sorted(results["class_order"]) == list(range(10))
    assert [(run["learner"], run["variant"], run["reading"], run["seed"]) for run in results["runs"]] == [
        ("frozen", variant, reading, seed)
        for variant in ("plain", "future_proof", "real_future")
        for reading in ("ncm", "fecam")
        for seed in (3, 5)
    ]
    for run in results["runs"]:
        matrix = np.array(run["accuracy_matrix"], float)  # null becomes NaN
        assert matrix.shape == (3, 3)
        np.testing.assert_array_equal(np.isnan(matrix), np.triu(np.ones((3, 3), bool), 1))
        assert 0 <= run["last_accuracy"] <= 1
    assert len(results["summary"]) == 6
    assert all(entry["last_accuracy"]["n"] == 2 for entry in results["summary"])


def test_a_run_leaves_a_page_that_needs_no_other_file(finished):
    page = (finished / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 2  # curves and auxiliary images
    assert 'src="http' not in page
    assert (finished / "accuracy.png").read_bytes()[:4] == b"\x89PNG"
    assert {"synthesis", "extractor plain"} <= set(files.read_json(finished / "timing.json"))


def test_images_of_all_classes_are_drawn_those_to_come_first_and_each_as_often_as_asked(finished):
    images = store.read(finished / "synthetic")
    order = files.read_json(finished / "results.json")["class_names"]
    assert images.class_names == (*order[4:], *order[:4])
    assert np.bincount(images.labels).tolist() == [3] * 10


def test_a_run_says_which_auxiliary_images_it_was_trained_on(finished):
    about = files.read_json(finished / "auxiliary.json")
    order = files.read_json(finished / "results.json")["class_names"]
    assert about == {
        "source": "synthetic",
        "variants": {"future_proof": dict.fromkeys(order[4:], 3)},
    }
    assert (finished / "auxiliary.png").read_bytes()[:4] == b"\x89PNG"


def test_confusion_matrices_are_of_every_lane_and_reading_and_count_the_test_images(finished):
    with np.load(finished / "confusion.npz") as matrices:
        total = sum(files.read_json(finished / "results.json")["test_images"])
        assert len(matrices) == 6
        for name in matrices:
            assert matrices[name].shape == (2, 10, 10)
            assert matrices[name].sum((1, 2)).tolist() == [total] * 2


def test_a_second_call_does_nothing_again(finished, make_config, monkeypatch):
    def never(*arguments, **options):
        raise AssertionError("done already")

    for place, name in (
        (store, "write_shard"),
        (checkpoint.Checkpoints, "save"),
        (tasks, "learn"),
    ):
        monkeypatch.setattr(place, name, never)
    # what describes a complete set is written anew, of the same content
    patterns = ("extractors/*", "heads/*", "synthetic/manifest.json", "synthetic/*array_record*")
    kept = {path: path.stat() for pattern in patterns for path in finished.glob(pattern)}
    before = (finished / "results.json").read_bytes()
    experiment.run(make_config(), finished)
    assert (finished / "results.json").read_bytes() == before
    assert {path.parent.name for path in kept} == {"extractors", "heads", "synthetic"}
    for path, stat in kept.items():
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns), path


def test_a_config_that_was_refused_may_be_corrected_in_its_place(make_config, tmp_path):
    with pytest.raises(InputError, match="first_classes"):
        experiment.run(make_config("scenario.first_classes=20"), tmp_path)
    with pytest.raises(InputError, match="nowhere"):
        experiment.run(make_config("synthetic.path=nowhere"), tmp_path)
    with pytest.raises(InputError, match="elsewhere"):  # not: a run of another config
        experiment.run(make_config("synthetic.path=elsewhere"), tmp_path)


def test_other_images_under_the_same_path_are_refused(finished, make_config, monkeypatch):
    def changed(*arguments, **options):
        data = load(*arguments, **options)
        return data._replace(images=255 - data.images)

    load = datasets.load
    monkeypatch.setattr(datasets, "load", changed)
    with pytest.raises(InputError, match=r"a run on other data \(real_train\)"):
        experiment.run(make_config(), finished)


def test_a_directory_has_one_writer_at_a_time(tmp_path):
    with (
        record.locked(tmp_path),
        pytest.raises(InputError, match="another process works in"),
        record.locked(tmp_path),
    ):
        pass
    with record.locked(tmp_path):  # released
        pass


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("scenario.first_classes=11", r"first_classes must lie in \[1, 10\]"),
        ("scenario.first_classes=10", "the first task has all 10 classes, so that none is to come"),
        ("data_dir=/dev/null/x", "cannot be prepared"),
        (
            "scenario.class_order=zero,tow,one,three,four,five,six,seven,eight,nine",
            "no class name 'tow'.*'two'",
        ),
        ("scenario.class_order=zero,one", "class_order must name each of the class ids 0 to 9 once; got 2"),
        ("synthetic.model=digit", "no embedded generator 'digit'.*'digits'"),
        ("synthetic.path=nowhere", "nowhere"),
        ("dataset=mnist", "no data set 'mnist'"),
        ("heads=nmc", "no heads.* 'nmc'.*Did you mean 'ncm'"),
    ],
    ids=lambda value: value.partition("=")[0] if "=" in value else "",
)
def test_what_cannot_be_done_is_refused_before_anything_compiles(
    change, message, make_config, tmp_path, monkeypatch
):
    def never(*arguments, **options):
        raise AssertionError("compiled something")

    monkeypatch.setattr(loop, "program", never)
    with pytest.raises(InputError, match=message):
        experiment.run(make_config(change), tmp_path / "run")


def test_a_class_without_images_is_refused_by_name(make_config, tmp_path):
    from PIL import Image

    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            if (split, name) != ("test", "dog"):
                Image.new("RGB", (8, 8)).save(tmp_path / split / name / "0.png")
    with pytest.raises(InputError, match="class 'dog' has no images"):
        experiment.run(make_config(f"dataset={tmp_path}", "scenario.first_classes=1"), tmp_path / "run")


def test_the_run_can_be_started_from_the_config_that_it_wrote(finished, make_config):
    config, _ = parse([f"--config={finished / 'config.json'}"], defaults())
    assert config.to_dict() == make_config().to_dict()


@pytest.fixture
def copied_set(finished, tmp_path):
    """The synthetic images of the finished run, in a folder of their own."""
    shutil.copytree(finished / "synthetic", tmp_path / "set")
    return tmp_path / "set"


def test_only_the_images_that_a_filter_keeps_are_trained_on_and_the_results_say_so(
    finished, make_config, copied_set, tmp_path
):
    names = [*read_manifest(copied_set).class_names, "other"]
    even = filters.judge(  # of equal scores the first image of each class is kept
        copied_set,
        filters.Rule("top", "margin", 0.1),
        lambda images: np.zeros((len(images), len(names))),
        {"class_names": names, "sha256": "0" * 64},
    )
    filters.write_filter(copied_set, "first", even)
    config = make_config(
        f"synthetic.path={copied_set}", "synthetic.filter=first", "variants=future_proof", "heads=ncm"
    )
    settings = resolve(config)
    future = load_auxiliary(settings, load_benchmark(settings).scenario, (16, 16), tmp_path)
    every = store.read(copied_set)
    np.testing.assert_array_equal(future.images, every.images[: 6 * 3 : 3])
    results = experiment.run(config, tmp_path / "run")
    assert results["synthetic_filter"]["share_kept"] == dict.fromkeys(every.class_names, 1 / 3)
    assert results["synthetic_filter"]["name"] == "first"
    assert "those that its filter first keeps" in (tmp_path / "run" / "report.html").read_text()
    assert "synthetic_filter" not in files.read_json(finished / "results.json")


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("images_per_class=99999", "synthetic.images_per_class"),
        ("guidance_scale=55", "synthetic.guidance_scale"),
    ],
)
def test_settings_of_drawing_are_said_to_have_no_effect_on_a_set_that_exists(
    field, name, make_config, copied_set, tmp_path, capsys, monkeypatch
):
    class Stop(Exception):
        pass

    def stop(*arguments, **options):
        raise Stop

    monkeypatch.setattr(tasks, "learn", stop)
    with pytest.raises(Stop):
        experiment.run(make_config(f"synthetic.path={copied_set}", f"synthetic.{field}"), tmp_path / "run")
    said = capsys.readouterr().err
    assert f"{name}" in said
    assert "without effect, since images of synthetic.path are not drawn" in said
    assert "set auxiliary.future.images_per_class" in said


def test_damaged_files_of_a_run_are_named_and_made_again_to_the_same_results(
    finished, make_config, tmp_path, capsys
):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    before = (run / "results.json").read_bytes()
    damaged = run / "extractors/plain.safetensors"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    for path in run.glob("heads/plain-fecam*"):
        path.unlink()
    named = [damaged]
    for name, change in (
        ("plain-ncm", lambda value: value["accuracy_matrix"][0][0].__setitem__(0, 5.0)),
        ("future_proof-fecam", lambda value: value.pop("top_5_accuracy")),
        ("real_future-ncm", lambda value: value["accuracy_matrix"][0].pop()),
    ):
        path = run / f"heads/{name}.json"
        value = json.loads(path.read_text())
        change(value)
        path.write_text(files.json_text(value))
        named.append(path)
    cut = run / "heads/real_future-fecam.json"
    cut.write_bytes(cut.read_bytes()[:100])
    out_of_range = run / "heads/future_proof-ncm.json"  # although its checksum is right
    value = json.loads(out_of_range.read_text())
    value["top_5_accuracy"][0][0] = 1.5
    record.write_checked_json(out_of_range, value)
    (run / "results.json").unlink()
    experiment.run(make_config(), run)
    said = capsys.readouterr().err
    for path in (*named, cut):
        assert f"{path} is damaged: its SHA-256 should be " in said
    assert f"{out_of_range} does not hold what can be measured of 2 seeds, 3 tasks and 10 classes" in said
    assert said.count("it will be made again") == 6
    assert (run / "results.json").read_bytes() == before
    for path in finished.glob("heads/*"):
        assert (run / "heads" / path.name).read_bytes() == path.read_bytes()
    assert damaged.read_bytes() == (finished / "extractors/plain.safetensors").read_bytes()
