"""A run that grows: what it adds, what it leaves alone, and which other differences are refused."""

import json
import shutil

import pytest

from jaxcil import experiment
from jaxcil.data import datasets
from jaxcil.errors import InputError
from jaxcil.experiment import growth
from jaxcil.experiment.settings import resolve
from jaxcil.extractors.saved import load_features
from jaxcil.training import checkpoint, tasks
from jaxcil.workdir import files, record

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::ResourceWarning"
    ),
    pytest.mark.usefixtures("few_images"),
]
PLAIN = ("variants=plain", "heads=ncm")
# of heads and variants that are new when the run grows
NO_EFFECT_YET = ("head_options.fecam.gamma1=9.0", "auxiliary.future.loss_weight=0.5", "synthetic.nfe=3")


class Stop(Exception):
    """In the place of a kill."""


@pytest.fixture(scope="module", params=[pytest.param("heads", marks=pytest.mark.slow), "variants"])
def begun(request, make_config, tmp_path_factory):
    """A run that lacks heads or variants of the finished one."""
    folder = tmp_path_factory.mktemp(request.param)
    experiment.run(
        make_config(*{"heads": ("heads=fecam",), "variants": ("variants=plain",)}[request.param]), folder
    )
    return folder


@pytest.fixture(scope="module")
def plain(make_config, tmp_path_factory):
    """A run of one head and one variant, with other values of fields that have no effect on them."""
    folder = tmp_path_factory.mktemp("plain")
    experiment.run(make_config(*PLAIN, *NO_EFFECT_YET), folder)
    return folder


def kept(folder):
    """What shows that files of stages were not touched; those that describe a drawn set are written anew."""
    patterns = (
        "extractors/*",
        "heads/*",
        "synthetic/manifest.json",
        "synthetic/*array_record*",
        "seeds.json*",
    )
    found = [path for pattern in patterns for path in folder.glob(pattern) if path.is_file()]
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def assert_equal_runs(one, other):
    assert (one / "results.json").read_bytes() == (other / "results.json").read_bytes()
    names = {str(path.relative_to(other)) for path in (*other.glob("extractors/*"), *other.glob("heads/*"))}
    assert {str(path.relative_to(one)) for path in (*one.glob("extractors/*"), *one.glob("heads/*"))} == names
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_added_heads_or_variants_give_the_bytes_of_a_run_made_at_once_and_touch_nothing(
    begun, finished, make_config
):
    before = kept(begun)
    assert before
    experiment.run(make_config(), begun)
    assert_equal_runs(begun, finished)
    assert before.items() <= kept(begun).items()


def test_added_heads_and_variants_interrupted_in_training_and_reading_give_the_same_bytes(
    plain, finished, make_config, tmp_path, monkeypatch
):
    run = tmp_path / "run"
    shutil.copytree(plain, run)
    before = kept(run)
    save, read = checkpoint.Checkpoints.save, record.write_checked_json

    def one_chunk(store, number, tree, cursor):
        save(store, number, tree, cursor)
        if cursor["steps"]:  # of a training; readings that take long are saved too
            raise Stop

    def one_head(path, value):
        if path.parent.name == "heads" and "real_future" in path.name:
            raise Stop
        read(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Checkpoints, "save", one_chunk)
        with pytest.raises(Stop):
            experiment.run(make_config(), run)
    assert (run / "heads/plain-fecam.json").exists()
    assert (run / "extractors/future_proof/1").exists()
    with monkeypatch.context() as patch:
        patch.setattr(record, "write_checked_json", one_head)
        with pytest.raises(Stop):
            experiment.run(make_config(), run)
    assert (run / "extractors/real_future.safetensors").exists()
    experiment.run(make_config(), run)
    assert_equal_runs(run, finished)
    assert before.items() <= kept(run).items()


@pytest.mark.slow
def test_added_seeds_are_those_of_a_run_of_their_own_and_leave_the_others(
    plain, make_config, tmp_path, monkeypatch
):
    run, alone = tmp_path / "run", tmp_path / "alone"
    shutil.copytree(plain, run)
    before = kept(run)
    entries = files.read_json(plain / "results.json")["runs"]
    save = checkpoint.Checkpoints.save

    def one_chunk(store, number, tree, cursor):
        save(store, number, tree, cursor)
        if cursor["steps"]:  # of a training; readings that take long are saved too
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Checkpoints, "save", one_chunk)
        with pytest.raises(Stop):
            experiment.run(make_config(*PLAIN, "seeds=7,5,3"), run)
    grown = experiment.run(make_config(*PLAIN, "seeds=7,5,3"), run)
    of_alone = experiment.run(make_config(*PLAIN, "seeds=7"), alone)
    by_seed = {entry["seed"]: entry for entry in grown["runs"]}
    assert [entry["seed"] for entry in grown["runs"]] == [7, 5, 3]
    assert json.dumps(by_seed[7]) == json.dumps(of_alone["runs"][0])
    assert [by_seed[3], by_seed[5]] == entries
    assert grown["summary"][0]["last_accuracy"]["n"] == 3
    for name in ("extractors/plain.safetensors", "heads/plain-ncm.json"):
        path = run / name
        added = path.with_name(f"{path.stem}.seeds-7{path.suffix}")
        assert added.read_bytes() == (alone / name).read_bytes()
    after = kept(run)
    assert {name: after[name] for name in before if "seeds.json" not in name}.items() <= before.items()
    images = datasets.load("digits", "test", data_dir=make_config().data_dir).images[:4]
    of_seed = [load_features(folder / "extractors/plain", 7)(images) for folder in (run, alone)]
    assert of_seed[0].tolist() == of_seed[1].tolist()


def test_a_second_call_of_a_grown_run_trains_nothing_and_gives_the_same_bytes(
    begun, make_config, monkeypatch
):
    experiment.run(make_config(), begun)
    before, results = kept(begun), (begun / "results.json").read_bytes()

    def never(*arguments, **options):
        raise AssertionError("done already")

    monkeypatch.setattr(tasks, "learn", never)
    experiment.run(make_config(), begun)
    assert kept(begun) == before
    assert (begun / "results.json").read_bytes() == results


@pytest.fixture
def pinned(make_config, tmp_path):
    """Gives a workdir the config of the small run with changes, and work; then pins another one."""

    def pin(there, here):
        growth.pin(resolve(make_config(*there)), tmp_path)
        (tmp_path / "heads").mkdir(exist_ok=True)
        (tmp_path / "heads/plain-ncm.json").write_text("{}")
        growth.pin(resolve(make_config(*here)), tmp_path)
        assert files.read_json(tmp_path / "config.json") == json.loads(
            json.dumps(make_config(*there).to_dict())
        )
        growth.grow(resolve(make_config(*here)), tmp_path)
        return files.read_json(tmp_path / "config.json")

    return pin


@pytest.mark.parametrize(
    ("there", "here"),
    [
        (("heads=ncm",), ("heads=fecam,ncm",)),
        (("variants=plain",), ("variants=known_classes,plain",)),
        (("seeds=3",), ("seeds=5,3,0",)),
        (("heads=ncm",), ("heads=ncm", "head_options.fecam.gamma1=9.0")),
        (("heads=ncm",), ("heads=ncm,fecam", "head_options.fecam.gamma1=9.0")),
        (("variants=plain",), ("variants=plain", "auxiliary.future.images_per_class=7")),
        (("variants=plain,real_future",), ("auxiliary.future.batch_fraction=0.5", "synthetic.nfe=9")),
        (("variants=plain",), ("auxiliary.future.source=a", "auxiliary.future.classes=five,")),
        ((), ("memory.per_class=9", "later_training.steps=9", "auxiliary.past.images_per_class=9")),
        (("lanes=plain/frozen,",), ("lanes=plain/frozen,real_future/frozen",)),
        (("lanes=plain/frozen,",), ()),
    ],
    ids=lambda fields: " ".join(fields) or "as it was",
)
def test_lists_may_grow_and_fields_without_effect_may_change(there, here, pinned, make_config):
    assert pinned(there, here) == json.loads(json.dumps(make_config(*here).to_dict()))


@pytest.mark.parametrize(
    ("there", "here", "message"),
    [
        ((), ("heads=ncm",), r"heads: there \['ncm', 'fecam'\], now \['ncm'\]"),
        ((), ("heads=fecam,fetril",), r"heads: there \['ncm', 'fecam'\], now \['fecam', 'fetril'\]"),
        ((), ("variants=plain",), r"variants: there \[.*\], now \['plain'\]"),
        ((), ("seeds=3",), r"seeds: there \[3, 5\], now \[3\]"),
        ((), ("training.steps=5",), r"training\.steps: there 4, now 5"),
        ((), ("training.learning_rate=0.2",), r"training\.learning_rate: there 0\.1, now 0\.2"),
        ((), ("head_options.fecam.gamma1=9.0",), r"head_options\.fecam\.gamma1: there 1\.0, now 9\.0"),
        (
            (),
            ("auxiliary.future.images_per_class=2",),
            r"auxiliary\.future\.images_per_class: there None, now 2",
        ),
        ((), ("synthetic.nfe=9",), r"synthetic\.nfe: there 2, now 9"),
        (
            (),
            ("lanes=plain/frozen,future_proof/icarl",),
            r"lanes: there \[.*\], now \['plain/frozen', 'future_proof/icarl'\]",
        ),
        (
            ("variants=plain",),
            ("training.momentum=0.5", "scenario.first_classes=2"),
            r"scenario\.first_classes: there 4, now 2\n  training\.momentum: there 0\.9, now 0\.5",
        ),
        # of a field that has an effect now and had one before
        (
            ("variants=plain,known_classes",),
            ("variants=plain,known_classes", "synthetic.seed=1"),
            r"synthetic\.seed",
        ),
    ],
)
def test_every_other_difference_is_refused_by_name_with_both_values(there, here, message, pinned):
    with pytest.raises(InputError, match=message) as refused:
        pinned(there, here)
    assert "only heads, variants, learners, seeds may have more entries than there" in str(refused.value)


@pytest.mark.parametrize("damage", ["removed", "cut"])
def test_a_config_that_is_lost_is_asked_for_whatever_the_run_is_now(damage, pinned, make_config, tmp_path):
    pinned((), ())
    path = tmp_path / "config.json"
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(
        InputError, match=r"config\.json.* Bring (the|back the) file .*or give another workdir"
    ):
        growth.pin(resolve(make_config("training.steps=5")), tmp_path)


def test_a_run_that_could_not_grow_may_be_corrected_in_its_place(plain, make_config, tmp_path, monkeypatch):
    class Begun(Exception):
        pass

    def begin(*arguments, **options):
        raise Begun

    monkeypatch.setattr(tasks, "learn", begin)
    run = tmp_path / "run"
    shutil.copytree(plain, run)
    grown = ("heads=ncm", "variants=plain,future_proof", "seeds=3,5,7")
    for path in ("nowhere", "elsewhere"):  # not: a run of another config
        with pytest.raises(InputError, match=path):
            experiment.run(make_config(*grown, f"synthetic.path={path}"), run)
    with pytest.raises(Begun):
        experiment.run(make_config(*PLAIN, "seeds=9,3,5"), run)
    assert files.read_json(run / "seeds.json") == [[3, 5], [9]]


def test_seeds_that_were_interrupted_before_any_work_are_trained_together(make_config, tmp_path):
    for seeds, groups in (("3", [[3]]), ("3,5", [[3, 5]])):
        settings = resolve(make_config(f"seeds={seeds},"))
        growth.pin(settings, tmp_path)
        assert growth.grow(settings, tmp_path) == groups
    (tmp_path / "extractors").mkdir()
    (tmp_path / "extractors/plain.safetensors").write_text("")
    for seeds, groups in (("5,7,3", [[3, 5], [7]]), ("5,7,3,9,8", [[3, 5], [7], [9, 8]])):
        settings = resolve(make_config(f"seeds={seeds}"))
        growth.pin(settings, tmp_path)
        assert growth.grow(settings, tmp_path) == groups
