"""A run of a learner that keeps training, with and without synthetic images of past classes, and what it leaves."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil import experiment, learners
from jaxcil.data.augmentation.augmentation import to_float
from jaxcil.errors import InputError
from jaxcil.experiment.benchmark import load_benchmark
from jaxcil.experiment.settings import resolve

CHANGES = ("learners=icarl,", "variants=plain,sddr", "later_training.steps=3", "memory.per_class=2")

pytestmark = pytest.mark.usefixtures("few_images")


@pytest.fixture(scope="module")
def run(make_config, few_images, tmp_path_factory):
    """The folder of the run and its results."""
    folder = tmp_path_factory.mktemp("icarl")
    return folder, experiment.run(make_config(*CHANGES), folder)


def test_every_reading_of_every_variant_has_results_for_every_seed(run):
    _, results = run
    ours = {(one["learner"], one["variant"], one["reading"], one["seed"]) for one in results["runs"]}
    assert ours == {
        ("icarl", variant, reading, seed)
        for variant in ("plain", "sddr")
        for reading in ("cnn", "nme")
        for seed in (3, 5)
    }


def test_variants_are_equal_after_the_first_task_and_differ_after_it(run):
    _, results = run
    of = {(one["variant"], one["reading"], one["seed"]): one["accuracy_matrix"] for one in results["runs"]}
    for reading in ("cnn", "nme"):
        for seed in (3, 5):
            assert of["plain", reading, seed][0] == of["sddr", reading, seed][0]
    assert any(of["plain", reading, 3] != of["sddr", reading, 3] for reading in ("cnn", "nme"))


@pytest.mark.parametrize("variant", ["plain", "sddr"])
@pytest.mark.parametrize("seed", [3, 5])
def test_a_learner_that_is_loaded_predicts_what_the_run_measured(variant, seed, run, make_config):
    folder, results = run
    test = load_benchmark(resolve(make_config(*CHANGES))).test
    loaded = learners.load(folder, "icarl", variant, seed=seed)
    assert loaded.class_names == tuple(results["class_names"])
    features = loaded.learner.features(loaded.state, to_float(jnp.asarray(test.images)))
    for reading, scores in loaded.learner.readings(loaded.state, features).items():
        (one,) = (
            one
            for one in results["runs"]
            if (one["variant"], one["reading"], one["seed"]) == (variant, reading, seed)
        )
        right = np.mean(np.asarray(scores).argmax(-1) == test.labels)
        assert right == pytest.approx(one["last_accuracy"], abs=1e-9)


def test_what_a_run_does_not_have_is_named(run, tmp_path):
    folder, _ = run
    with pytest.raises(
        InputError, match="no final state of learner lucir with variant plain; there are: plain-icarl"
    ):
        learners.load(folder, "lucir")
    with pytest.raises(InputError, match="no seed 4; its seeds are 3, 5"):
        learners.load(folder, "icarl", seed=4)
    with pytest.raises(InputError, match="is no workdir of `jaxcil run`"):
        learners.load(tmp_path, "icarl")


def test_a_damaged_state_is_named(run, make_config, tmp_path):
    folder, _ = run
    path = folder / "learners" / "plain-icarl" / "state.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        with pytest.raises(InputError, match=r"state\.safetensors is damaged"):
            learners.load(folder, "icarl")
    finally:
        path.write_bytes(content)


@pytest.mark.slow
def test_a_run_that_grows_by_sddr_gives_the_bytes_of_one_made_at_once(run, make_config, tmp_path):
    folder, _ = run
    experiment.run(make_config(*CHANGES, "variants=plain"), tmp_path)
    before = (tmp_path / "learners" / "plain-icarl" / "state.safetensors").stat()
    experiment.run(make_config(*CHANGES), tmp_path)
    after = (tmp_path / "learners" / "plain-icarl" / "state.safetensors").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert (tmp_path / "results.json").read_bytes() == (folder / "results.json").read_bytes()
