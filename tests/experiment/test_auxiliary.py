"""The auxiliary images of a run: which of a set are taken, and what cannot be."""

import numpy as np
import pytest
from PIL import Image

from jaxcil.data.scenario import make_scenario
from jaxcil.errors import InputError
from jaxcil.experiment.auxiliary import load_auxiliary
from jaxcil.experiment.settings import defaults, resolve

NAMES = ("ant", "bee", "cat", "dog", "elk", "fox")
SCENARIO = make_scenario(NAMES, 2, 2, class_order="label-order")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Real images of all six classes and of a yak, four of each, one grey level per class."""
    root = tmp_path_factory.mktemp("images")
    for level, name in enumerate((*NAMES, "yak")):
        (root / "train" / name).mkdir(parents=True)
        for n in range(4):
            Image.new("RGB", (8, 8), (level,) * 3).save(root / "train" / name / f"{n}.png")
    return root


@pytest.fixture
def load(folder, tmp_path):
    def load(variants=("plain", "future_proof"), **future):
        config = defaults()
        config.training.steps = 1
        config.variants = variants
        config.auxiliary.future.update({"source": str(folder), "classes": NAMES[2:], **future})
        return load_auxiliary(resolve(config), SCENARIO, (8, 8), tmp_path)

    return load


def counts(extra):
    return {int(label): int((extra.labels == label).sum()) for label in np.unique(extra.labels)}


def test_images_join_the_classes_by_name(load, folder):
    extra = load()
    assert counts(extra) == {2: 4, 3: 4, 4: 4, 5: 4}
    np.testing.assert_array_equal(extra.images[:, 0, 0, 0], extra.labels)
    assert extra.source == str(folder)


def test_fewer_images_per_class_are_the_first_of_each(load):
    assert counts(load(images_per_class=3)) == {2: 3, 3: 3, 4: 3, 5: 3}


def test_a_fraction_of_known_classes_leaves_the_others_out(load):
    assert len(counts(load(known_fraction=0.5))) == 2


def test_a_class_that_never_comes_gets_a_label_behind_all_others(load):
    extra = load(classes=("dog", "yak"))
    assert counts(extra) == {3: 4, 6: 4}
    assert extra.other_classes == ("yak",)


def test_the_control_of_known_classes_brings_images_of_the_first_classes(load):
    # of the classes to come; the control repeats as few as it can
    extra = load(("future_proof", "known_classes"), images_per_class=2)
    assert counts(extra) == {0: 4, 1: 4, 2: 2, 3: 2, 4: 2, 5: 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ("dog", "eel")}, "has no images of eel; it has ant"),
        ({"classes": ("ant",)}, "names classes of the first task: ant"),
        ({"known_fraction": 0.1}, "at least one of 4 classes, got 0.1"),
        ({"images_per_class": 5}, "is 5, but .* has 4 images of cat"),
        ({"source": "nowhere"}, "no data set 'nowhere'"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_what_cannot_be_taken_is_refused(change, message, load):
    with pytest.raises(InputError, match=message):
        load(**change)
