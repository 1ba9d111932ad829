"""The extractor of a run gives the features that the run computed with it."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxcil.cli.main import parse
from jaxcil.data import datasets
from jaxcil.errors import InputError
from jaxcil.experiment import reading
from jaxcil.experiment import run as experiment
from jaxcil.extractors import saved
from jaxcil.extractors.saved import load_features
from jaxcil.workdir import files


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
        "extractors=plain",
        "heads=ncm,fecam",
        "head_options.fecam.first_task=classifier",
        "seeds=3,5",
        "scenario.first_classes=2",
        "scenario.classes_per_task=1",
        "scenario.class_order=fox,cat,dog",
        "extractor.steps=2",
        "extractor.batch_size=8",
        "extractor.chunk=2",
    ]
    config, _ = parse(["--config=quickstart", *(f"--config.{field}" for field in fields)])
    seen = []
    original = reading.learn_tasks

    def recording(program, features, *others):
        seen.append(features[0].train)
        return original(program, features, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "learn_tasks", recording)
        experiment.run(config, root / "run")
    return root / "run", datasets.load(f"{root}/images", "train").images, seen[0]


def test_features_are_those_of_the_run_for_its_first_seed(finished):
    run, images, features = finished
    found = load_features(run / "extractors" / "plain")(jnp.asarray(images))
    # another program of the same network in float32
    np.testing.assert_allclose(found, features, rtol=1e-4, atol=1e-5)


def test_what_is_no_extractor_is_refused_and_not_made(finished, tmp_path):
    run, _, _ = finished
    for folder in (run / "extractors" / "plane", run / "heads", tmp_path):
        with pytest.raises(InputError, match="RUN/extractors/NAME"):
            load_features(folder)
    assert not (run / "extractors" / "plane").exists()


def test_a_head_that_asks_for_it_is_measured_by_the_extractors_own_classifier_after_the_first_task(finished):
    run, _, _ = finished
    test = datasets.load(str(run.parent / "images"), "test")
    order = [test.class_names.index(name) for name in ("fox", "cat")]
    rows = np.isin(test.labels, order)
    classifier = saved.load(run / "extractors" / "plain").classifier
    features = load_features(run / "extractors" / "plain")(jnp.asarray(test.images[rows]))
    logits = np.asarray(features) @ np.asarray(classifier["weights"][0, :2]).T + np.asarray(
        classifier["bias"][0, :2]
    )
    right = (np.array(order)[logits.argmax(1)] == test.labels[rows]).mean()
    (entry,) = [
        one
        for one in files.read_json(run / "results.json")["runs"]
        if (one["method"], one["seed"]) == ("fecam", 3)
    ]
    assert entry["accuracy_matrix"][0][0] == right
