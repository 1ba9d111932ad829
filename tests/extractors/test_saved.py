"""A run's extractor gives the features that the run computed with it, and is never used damaged."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from jaxcil import experiment
from jaxcil.cli.arguments import parse
from jaxcil.data import datasets
from jaxcil.errors import InputError
from jaxcil.experiment import measuring, reading
from jaxcil.extractors.saved import load_features, load_states, save_states
from jaxcil.training.learner import as_they_are
from jaxcil.workdir import files, record


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run on a few images, its images, and the features of the first seed that its head saw."""
    root = tmp_path_factory.mktemp("run")
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("cat", "dog", "fox"):
            (root / "images" / split / name).mkdir(parents=True)
            for n in range(4):
                image = generator.integers(0, 256, (8, 8, 3)).astype(np.uint8)
                Image.fromarray(image).save(root / "images" / split / name / f"{n}.png")
    fields = [
        f"dataset={root}/images",
        "variants=plain",
        "learners=frozen,",
        "heads=ncm,fecam",
        "head_options.fecam.first_task=classifier",
        "seeds=3,5",
        "scenario.first_classes=2",
        "scenario.classes_per_task=1",
        "scenario.class_order=fox,cat,dog",
        "training.steps=2",
        "training.batch_size=8",
        "training.checkpoint_every=2",
    ]
    config, _ = parse(["--config=quickstart", *(f"--config.{field}" for field in fields)])
    seen = []

    class Recording(reading.FrozenFeatures):
        def __init__(self, learner, states, pool):
            super().__init__(learner, states, pool)
            rows = np.arange(len(pool.labels.real))
            seen.extend(
                np.asarray(self.features(learner, states[run], run, rows, as_they_are)) for run in (0, 1)
            )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "FrozenFeatures", Recording)
        experiment.run(config, root / "run")
    return root / "run", datasets.load(f"{root}/images", "train").images, seen


@pytest.mark.parametrize(("seed", "run_number"), [(None, 0), (3, 0), (5, 1)])
def test_features_are_those_of_the_run_for_its_first_or_any_other_seed(seed, run_number, finished):
    run, images, features = finished
    computed = load_features(run / "extractors" / "plain", seed)(jnp.asarray(images))
    # another program of the same network in float32
    np.testing.assert_allclose(computed, features[run_number], rtol=1e-4, atol=1e-5)
    assert np.abs(features[0] - features[1]).max() > 1e-2


def test_a_seed_that_the_run_does_not_have_is_refused(finished):
    with pytest.raises(InputError, match="has no seed 4; its seeds are 3, 5"):
        load_features(finished[0] / "extractors" / "plain", 4)


def test_what_is_no_extractor_is_refused_and_not_made(finished, tmp_path):
    run, _, _ = finished
    for folder in (run / "extractors" / "plane", run / "heads", tmp_path):
        with pytest.raises(InputError, match="RUN/extractors/VARIANT"):
            load_features(folder)
    assert not (run / "extractors" / "plane").exists()


def test_a_head_that_asks_for_it_is_measured_by_the_networks_own_output_layer_after_the_first_task(finished):
    run, _, _ = finished
    test = datasets.load(str(run.parent / "images"), "test")
    order = [test.class_names.index(name) for name in ("fox", "cat")]
    rows = np.isin(test.labels, order)
    tensors = safetensors.numpy.load_file(run / "extractors" / "plain.safetensors")
    weights, bias = (tensors[f"network/output/{name}"][0, :2] for name in ("weights", "bias"))
    features = load_features(run / "extractors" / "plain")(jnp.asarray(test.images[rows]))
    logits = np.asarray(features) @ weights.T + bias
    right = (np.array(order)[logits.argmax(1)] == test.labels[rows]).mean()
    (entry,) = [
        one
        for one in files.read_json(run / "results.json")["runs"]
        if (one["reading"], one["seed"]) == ("fecam", 3)
    ]
    assert entry["accuracy_matrix"][0][0] == right


STATES = {"network": {"kernel": jnp.ones((1, 3))}, "seen": jnp.zeros((1, 2), bool)}


def bit_of_the_header(content):
    return content[:20] + bytes([content[20] ^ 1]) + content[21:]


def bit_of_a_weight(content):
    return content[:-7] + bytes([content[-7] ^ 1]) + content[-6:]


@pytest.mark.parametrize(
    "damage",
    [bit_of_the_header, bit_of_a_weight, lambda content: content[:-5], lambda content: b""],
    ids=["bit of the header", "bit of a weight", "cut", "empty"],
)
def test_damaged_states_are_named_and_made_again_or_refused(damage, finished, tmp_path, capsys):
    run = tmp_path / "run"
    (run / "extractors").mkdir(parents=True)
    shutil.copy(finished[0] / "results.json", run)
    file = run / "extractors/plain.safetensors"
    save_states(file, STATES)
    file.write_bytes(damage(file.read_bytes()))
    assert load_states(file, STATES) is None
    assert f"{file} is damaged: its SHA-256 should be " in capsys.readouterr().err
    with pytest.raises(InputError, match=rf"{file} is damaged: .* Delete it, and start the run again"):
        load_features(run / "extractors/plain")
    save_states(file, STATES)
    jax.tree.map(np.testing.assert_array_equal, load_states(file, STATES), STATES)


def test_states_without_a_checksum_are_refused_and_not_made_again(tmp_path):
    file = tmp_path / "plain.safetensors"
    save_states(file, STATES)
    (tmp_path / "plain.safetensors.sha256").unlink()
    with pytest.raises(
        InputError, match=r"plain\.safetensors has no checksum: .* Delete it, and start the run again"
    ):
        load_states(file, STATES)


def test_there_are_no_states_without_a_file(tmp_path):
    assert load_states(tmp_path / "plain.safetensors", STATES) is None


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({**STATES, "more": jnp.zeros(2)}, r"expected more of shape \[2\], got nothing"),
        ({**STATES, "seen": jnp.zeros((1, 3))}, r"expected seen of shape \[1, 3\], got \(1, 2\)"),
    ],
)
def test_states_of_another_structure_are_refused(like, message, tmp_path):
    save_states(tmp_path / "plain.safetensors", STATES)
    with pytest.raises(InputError, match=message):
        load_states(tmp_path / "plain.safetensors", like)


def test_what_is_no_safetensors_file_is_refused(tmp_path):
    record.write_checked(tmp_path / "plain.safetensors", b"text")
    with pytest.raises(InputError, match="is not a safetensors file"):
        load_states(tmp_path / "plain.safetensors", STATES)


@pytest.mark.parametrize("tree", [jnp.arange(3), (), [jnp.zeros((2, 1)), {"seen": jnp.ones(2, bool)}]])
def test_any_pytree_of_arrays_is_kept_with_its_dtypes(tree, tmp_path):
    save_states(tmp_path / "state.safetensors", tree)
    loaded = load_states(tmp_path / "state.safetensors", tree)
    assert jax.tree.structure(loaded) == jax.tree.structure(tree)
    for one, other in zip(jax.tree.leaves(loaded), jax.tree.leaves(tree)):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
