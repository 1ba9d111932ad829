"""Data sets from what a config says."""

import pathlib

import numpy as np
import pytest

import jaxcil.diffusion as sd
from jaxcil.errors import InputError
from jaxcil.solvers import er_sde, power
from jaxcil.synthesis.dataset import store
from jaxcil.synthesis.dataset.manifest import read_manifest
from jaxcil.synthesis.drawing import generate as generation
from jaxcil.synthesis.drawing.models import generate_by_name
from jaxcil.synthesis.drawing.plans import er_sde_plan, model_grid, write_plan

SD1 = pathlib.Path(__file__).parents[2] / "golden/stable_diffusion/sd1"
OPTIONS = {"images_per_class": 2, "templates": ("{}",), "batch_size": 1, "shard_size": 4, "seed": 5}
CLASSES = ("cat", "dog")


@pytest.fixture(scope="module")
def model():
    return sd.load(SD1)


def generate(directory, nfe, **options):
    return generate_by_name(directory, CLASSES, model=str(SD1), order=3, nfe=nfe, **OPTIONS, **options)


def test_a_plan_from_a_file_takes_the_place_of_order_and_nfe(model, tmp_path, monkeypatch):
    plan = er_sde(model_grid(model, 2), power(0.5))
    write_plan(tmp_path / "plan.json", plan, {"solver": "er_sde", "eta": 0.5})
    manifest = generate(tmp_path / "a", 1, plan=tmp_path / "plan.json")
    assert manifest.notes == {
        "model": str(SD1),
        "plan": str(tmp_path / "plan.json"),
        "nfe": 2,
        "dtype": "float32",
        "made_by": {"solver": "er_sde", "eta": 0.5},
    }
    stored = manifest.config["plan"]
    np.testing.assert_array_equal(np.float32(stored["noise"]), plan.noise)
    assert store.read(tmp_path / "a").images.shape[0] == 4

    monkeypatch.setattr(generation, "drawing", None)  # a second run draws nothing
    assert generate(tmp_path / "a", 1, plan=tmp_path / "plan.json") == manifest
    with pytest.raises(InputError, match="holds a synthetic data set of another config:\n  plan"):
        generate(tmp_path / "a", 2)


def test_without_a_file_the_notes_name_the_solver(tmp_path, model, monkeypatch):
    side = model.unet.sample_size * model.vae.factor
    blank = lambda ids, image_keys, scales: np.zeros((len(ids), side, side, 3), np.float32)  # noqa: E731
    monkeypatch.setattr(generation, "drawing", lambda *arguments: blank)  # the network's turn is above
    generate(tmp_path / "a", 1)
    manifest = read_manifest(tmp_path / "a")
    solver = {"solver": "er_sde", "order": 3, "derivative": "corrected", "nfe": 1}
    assert manifest.notes == {"model": str(SD1), "dtype": "float32", **solver}
    np.testing.assert_array_equal(np.float32(manifest.config["plan"]["time"]), er_sde_plan(model, 3, 1).time)


def test_classes_and_what_prompts_call_them_come_from_a_list(tmp_path, model, monkeypatch):
    side = model.unet.sample_size * model.vae.factor
    blank = lambda ids, image_keys, scales: np.zeros((len(ids), side, side, 3), np.float32)  # noqa: E731
    monkeypatch.setattr(generation, "drawing", lambda *arguments: blank)
    (tmp_path / "names.txt").write_text("sea_lion\nn1: crane, whooping crane; a bird\nox\n")
    options = OPTIONS | {"model": str(SD1), "order": 3, "nfe": 1, "class_list": str(tmp_path / "names.txt")}
    all_of_it = generate_by_name(tmp_path / "a", None, synonyms="all", **options)
    assert all_of_it.class_names == ("sea_lion", "n1", "ox")
    assert all_of_it.phrases == {"n1": ("crane, a bird", "whooping crane, a bird")}
    some = generate_by_name(tmp_path / "b", ("ox", "n1"), **options)
    assert some.class_names == ("ox", "n1")
    assert some.phrases == {"n1": ("crane, a bird",)}
    assert "| n1    | crane, a bird | 2      |" in (tmp_path / "b" / "README.md").read_text()
    assert "licence" not in some.notes
    said = generate_by_name(tmp_path / "b", ("ox", "n1"), licence="cc-by-4.0", **options)
    assert said.notes["licence"] == "cc-by-4.0"
    assert "license: cc-by-4.0" in (tmp_path / "b" / "README.md").read_text()
    assert some.notes["class_list"] == options["class_list"]


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (None, {}, "got neither"),
        (("zebra",), {"class_list": "cifar10"}, "no class in the list 'zebra'"),
        (("cat",), {"class_list": "cifar1"}, "Did you mean 'cifar10'"),
        (("cat",), {"synonyms": "all"}, "needs a class list"),
    ],
    ids=["no-classes", "class", "list", "synonyms"],
)
def test_classes_that_are_in_no_list_are_refused_before_the_model_is_read(names, options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        generate_by_name(tmp_path, names, model="no such model", order=3, nfe=1, **OPTIONS, **options)


def test_a_grid_starts_at_the_noisiest_time_and_ends_without_noise(model):
    trained = model.scheduler_config["num_train_timesteps"]
    for nfe in (1, 3, 10):
        grid = model_grid(model, nfe)
        assert float(grid.time[0]) == trained - 1
        assert len(grid.time) == nfe + 1
        assert float(grid.lam[-1]) == 0


def test_a_file_that_is_no_plan_is_refused_before_the_model_is_read(tmp_path):
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(InputError, match="does not hold a plan"):
        generate_by_name(
            tmp_path / "a",
            CLASSES,
            model="no such model",
            order=3,
            nfe=1,
            plan=tmp_path / "plan.json",
            **OPTIONS,
        )
