"""A whole run: its files, what it refuses, and that a run which was stopped ends in the same results."""

import shutil

import numpy as np
import pytest

from jaxcil.cli.main import parse
from jaxcil.data import datasets
from jaxcil.errors import InputError
from jaxcil.experiment import reading
from jaxcil.experiment import run as experiment
from jaxcil.experiment.auxiliary import auxiliary
from jaxcil.experiment.settings import defaults
from jaxcil.synthesis.dataset import filters, store
from jaxcil.synthesis.dataset.manifest import read_manifest
from jaxcil.workdir import files, record

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::ResourceWarning"
)
SMALL = (
    *("scenario.first_classes=4", "scenario.classes_per_task=4", "seeds=3,5"),
    *("extractor.steps=4", "extractor.batch_size=8", "extractor.chunk=2"),
    *(
        "synthetic.images_per_class=3",
        "synthetic.calls=2",
        "synthetic.batch_size=2",
        "synthetic.shard_size=6",
    ),
)


@pytest.fixture(scope="module", autouse=True)
def _few_images():
    """Every eighth digit: features of all of them, by a network that is not optimised, took most of a run."""
    load = datasets.load

    def few(*arguments, **options):
        data = load(*arguments, **options)
        return data._replace(images=data.images[::8], labels=data.labels[::8])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load", few)
        yield


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tfds"))


@pytest.fixture
def make_config(data_dir):
    def make(*changes):
        fields = [f"--config.{field}" for field in (*SMALL, f"data_dir={data_dir}", *changes)]
        return parse(["--config=quickstart", *fields])[0]

    return make


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory):
    """A run from beginning to end; tests only read it."""
    fields = [f"--config.{field}" for field in (*SMALL, f"data_dir={data_dir}")]
    folder = tmp_path_factory.mktemp("finished")
    experiment.run(parse(["--config=quickstart", *fields])[0], folder)
    return folder


def test_a_run_leaves_results_that_follow_the_schema(finished):
    results = files.read_json(finished / "results.json")
    assert results["schema"] == 1
    assert results["task_sizes"] == [4, 4, 2]
    assert sorted(results["class_order"]) == list(range(10))
    assert [(run["extractor"], run["method"], run["seed"]) for run in results["runs"]] == [
        (extractor, method, seed)
        for extractor in ("plain", "future_proof", "real_future")
        for method in ("ncm", "fetril", "fecam")
        for seed in (3, 5)
    ]
    for run in results["runs"]:
        matrix = np.array(run["accuracy_matrix"], float)  # null becomes NaN
        assert matrix.shape == (3, 3)
        np.testing.assert_array_equal(np.isnan(matrix), np.triu(np.ones((3, 3), bool), 1))
        assert 0 <= run["last_accuracy"] <= 1
    assert len(results["summary"]) == 9
    assert all(entry["last_accuracy"]["n"] == 2 for entry in results["summary"])


def test_a_run_leaves_a_page_that_needs_no_other_file(finished):
    page = (finished / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 2  # curves and contact sheet
    assert 'src="http' not in page
    assert (finished / "accuracy.png").read_bytes()[:4] == b"\x89PNG"
    assert {"synthesis", "extractor plain"} <= set(files.read_json(finished / "timing.json"))


def test_only_future_classes_are_drawn_and_each_as_often_as_asked(finished):
    images = store.read(finished / "synthetic")
    order = files.read_json(finished / "results.json")["class_names"]
    assert set(images.class_names) == set(order[4:])
    assert np.bincount(images.labels).tolist() == [3] * 6


class Stop(Exception):
    """In the place of a kill."""


@pytest.mark.parametrize("stage", ["generation", "extractor", "heads"])
def test_a_run_that_was_stopped_goes_on_to_the_same_results(
    stage, finished, make_config, tmp_path, monkeypatch
):
    folder = tmp_path / "run"
    calls = {"count": 0}

    def stopping(function, at):
        def run(*arguments, **options):
            calls["count"] += 1
            if calls["count"] == at:
                raise Stop
            return function(*arguments, **options)

        return run

    with monkeypatch.context() as patch:
        if stage == "generation":
            patch.setattr(store, "write_shard", stopping(store.write_shard, 2))
        elif stage == "extractor":
            patch.setattr(experiment.Checkpoints, "save", stopping(experiment.Checkpoints.save, 2))
        else:
            patch.setattr(reading, "learn_tasks", stopping(reading.learn_tasks, 2))
        with pytest.raises(Stop):
            experiment.run(make_config(), folder)
    assert not (folder / "results.json").exists()
    experiment.run(make_config(), folder)
    extractors = [f"extractors/{name}.safetensors" for name in ("plain", "future_proof", "real_future")]
    for name in ("results.json", *extractors):
        assert (folder / name).read_bytes() == (finished / name).read_bytes(), name


def test_a_second_call_does_nothing_again(finished, make_config, monkeypatch):
    def never(*arguments, **options):
        raise AssertionError("done already")

    for place, name in (
        (store, "write_shard"),
        (experiment.Checkpoints, "save"),
        (reading, "learn_tasks"),
    ):
        monkeypatch.setattr(place, name, never)
    before = (finished / "results.json").read_bytes()
    experiment.run(make_config(), finished)
    assert (finished / "results.json").read_bytes() == before


def test_a_config_that_was_refused_may_be_corrected_in_its_place(make_config, tmp_path):
    with pytest.raises(InputError, match="first_classes"):
        experiment.run(make_config("scenario.first_classes=20"), tmp_path)
    with pytest.raises(InputError, match="images_per_class"):
        experiment.run(make_config("synthetic.images_per_class=0"), tmp_path)
    with pytest.raises(InputError, match="order of the solver"):  # not: a run of another config
        experiment.run(make_config("synthetic.order=7"), tmp_path)


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
    with record.locked(tmp_path):  # given back
        pass


def test_a_workdir_of_another_config_is_refused_with_the_difference(finished, make_config):
    with pytest.raises(InputError, match=r"extractor\.steps: there 4, now 5"):
        experiment.run(make_config("extractor.steps=5"), finished)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("heads=nmc", "no head 'nmc'.*Did you mean 'ncm'"),
        ("heads=ncm,ncm", "names a head twice"),
        ("extractors=plane", "no extractor 'plane'.*'plain'"),
        ("extractor.network=resnet9", "no network 'resnet9'"),
        ("evaluate_on=training", "no split to evaluate on 'training'"),
        ("scenario.first_classes=11", r"first_classes must lie in \[1, 10\]"),
        ("scenario.first_classes=0", r"first_classes must lie in \[1, 10\]"),
        ("scenario.first_classes=10", "future_proof has none to come"),
        ("seeds=('a',)", "a seed is a whole number"),
        ("extractor.augmentation.crop=-1", "crop of an augmentation must be at least 0"),
        ("data_dir=/dev/null/x", "cannot be prepared"),
        ("synthetic.guidance_scale=nan", "must be finite"),
        ("scenario.classes_per_task=0", "classes_per_task must be at least 1"),
        (
            "scenario.class_order=zero,tow,one,three,four,five,six,seven,eight,nine",
            "no class name 'tow'.*'two'",
        ),
        ("scenario.class_order=zero,one", "class_order must name each of the class ids 0 to 9 once; got 2"),
        ("synthetic.images_per_class=0", "images_per_class must be at least 1"),
        ("synthetic.model=digit", "no embedded generator 'digit'.*'digits'"),
        ("synthetic.order=4", "order of the solver must be 1, 2 or 3"),
        ("synthetic.calls=0", "number of calls"),
        ("synthetic.path=nowhere", "nowhere"),
        ("extractor.steps=0", r"extractor\.steps must be at least 1"),
        ("dataset=mnist", "no data set 'mnist'"),
        (
            "extractor.network=resnet32_podnet",
            r"both signs; switch it off with head_options\.fecam\.beta=1\.0",
        ),
    ],
    ids=lambda value: value.partition("=")[0] if "=" in value else "",
)
def test_what_cannot_be_done_is_refused_before_anything_compiles(
    change, message, make_config, tmp_path, monkeypatch
):
    def never(*arguments, **options):
        raise AssertionError("compiled something")

    monkeypatch.setattr(experiment.loop, "program", never)
    with pytest.raises(InputError, match=message):
        experiment.run(make_config(change), tmp_path / "run")


def test_a_border_that_images_cannot_mirror_is_refused_before_images_are_drawn(make_config, tmp_path):
    config = make_config("extractor.augmentation.crop=16", "extractor.augmentation.border=reflect")
    with pytest.raises(InputError, match="a border of 16 pixels cannot mirror images of 16 x 16"):
        experiment.run(config, tmp_path / "run")
    assert not (tmp_path / "run" / "synthetic").exists()


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


def test_only_the_images_that_a_filter_keeps_are_trained_on_and_the_results_say_so(
    finished, make_config, tmp_path
):
    directory = tmp_path / "set"
    shutil.copytree(finished / "synthetic", directory)
    names = [*read_manifest(directory).class_names, "other"]
    even = filters.judge(  # of equal scores the first image of each class is kept
        directory,
        filters.Rule("top", "margin", 0.1),
        lambda images: np.zeros((len(images), len(names))),
        {"class_names": names, "sha256": "0" * 64},
    )
    filters.write_filter(directory, "first", even)
    config = make_config(
        f"synthetic.path={directory}", "synthetic.filter=first", "extractors=future_proof", "heads=ncm"
    )
    future = auxiliary(config, experiment.load_benchmark(config).scenario, (16, 16), tmp_path)
    every = store.read(directory)
    np.testing.assert_array_equal(future.images, every.images[::3])
    results = experiment.run(config, tmp_path / "run")
    assert results["synthetic_filter"]["share_kept"] == dict.fromkeys(every.class_names, 1 / 3)
    assert results["synthetic_filter"]["name"] == "first"
    assert "those that its filter first keeps" in (tmp_path / "run" / "report.html").read_text()
    assert "synthetic_filter" not in files.read_json(finished / "results.json")


def test_a_filter_needs_the_data_set_that_it_is_of(make_config, tmp_path):
    with pytest.raises(InputError, match=r"give its folder as synthetic\.path"):
        experiment.run(make_config("synthetic.filter=first"), tmp_path)
