"""What a synthetic set is worth: on sets whose worth is known."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.data.datasets import ImageSet
from jaxcil.errors import InputError
from jaxcil.evaluation.worth import worth
from jaxcil.evaluation.worth.judge import Judge
from jaxcil.evaluation.worth.settings import JudgeSettings

NAMES = ("dark", "light")


def two_classes(count, seed, swapped=False):
    labels = np.arange(count, dtype=np.int32) % 2
    level = np.where(labels, 180, 20)[:, None, None, None]
    images = (level + np.random.default_rng(seed).integers(0, 60, (count, 4, 4, 3))).astype(np.uint8)
    return ImageSet(images, 1 - labels if swapped else labels, NAMES)


def features(images):
    """The mean of each channel of each half: [N, 6]."""
    return images.astype(jnp.float32).reshape(len(images), 2, -1, 3).mean(2).reshape(len(images), 6)


def brightness(swapped=False):
    return Judge(features, features, lambda images: (features(images).mean(1) > 120) ^ swapped)


def figures_of(data, swapped=False, seen=None):
    train, test = two_classes(64, 0), two_classes(40, 1)
    sets = worth.joined(data, train, test, train if seen is None else seen)
    return worth.evaluate(sets, brightness(), brightness(swapped), features, duplicate_threshold=8.0, seed=0)


@pytest.fixture(scope="module")
def good():
    return figures_of(two_classes(50, 3))


def accuracy(row):
    return {name: share["value"] for name, share in row["accuracy"].items()}


def test_images_of_the_right_class_are_recognised_and_teach_it(good):
    assert set(accuracy(good["all"]).values()) == {1.0}


def test_images_with_wrong_labels_are_not():
    wrong = figures_of(two_classes(50, 3, swapped=True), swapped=True)
    for row in (wrong["all"], *wrong["classes"].values()):
        assert accuracy(row) == {
            "recognised": 0.0,
            "real_test_trained_on_real": 1.0,
            "real_test_trained_on_synthetic": 0.0,
        }


def test_images_of_the_real_distribution_are_as_far_as_real_test_images_are(good):
    for row in (good["all"], *good["classes"].values()):
        for measure in ("frechet", "kernel"):
            values, errors = (
                [row["distances"][measure][name][field] for name in ("synthetic", "real_test")]
                for field in ("value", "standard_error")
            )
            assert abs(values[0] - values[1]) < 4 * np.hypot(*errors)


def test_another_distribution_is_far():
    bright = two_classes(50, 3)
    row = figures_of(bright._replace(images=bright.images + np.uint8(15)))["all"]["distances"]
    assert row["frechet"]["synthetic"]["value"] > 20 * row["frechet"]["real_test"]["value"]
    assert row["kernel"]["synthetic"]["value"] > 4 * row["kernel"]["synthetic"]["standard_error"]
    assert row["precision"]["synthetic"]["value"] < 0.2 < row["precision"]["real_test"]["value"]


def test_a_copying_generator_is_recognised_as_one(good):
    seen = two_classes(48, 7)
    copying = figures_of(seen, seen=seen)
    for row in (copying["all"], *copying["classes"].values()):
        of_seen = row["copies"]["of_seen"]["synthetic"]
        assert (of_seen["exact"], of_seen["near"], of_seen["close"]) == (row["images"]["seen"], 1.0, 1.0)
    assert good["all"]["copies"]["of_seen"]["synthetic"]["exact"] == 0


def test_the_row_of_a_class_is_that_of_a_set_with_no_other_images(good):
    # a set with the light images of `good` and others in place of the dark ones
    data = two_classes(50, 3)
    mixed = data._replace(
        images=np.where((data.labels == 0)[:, None, None, None], data.images // 2, data.images)
    )
    other = figures_of(mixed)
    assert other["classes"]["light"] == good["classes"]["light"]
    assert other["classes"]["dark"] != good["classes"]["dark"]


def test_equally_many_images_per_class_represent_each_set_and_the_halves_share_none():
    train = two_classes(20, 0)
    parts = {
        name: worth.FeaturedImages(data.images, data.labels, np.asarray(features(jnp.asarray(data.images))))
        for name, data in {
            "synthetic": two_classes(9, 1),
            "real_test": two_classes(30, 2),
            "real_train": train,
        }.items()
    }
    drawn = worth._drawn(parts, seed=0)
    assert {name: len(rows) for name, rows in drawn.items()} == dict.fromkeys(drawn, 9)
    both = np.concatenate([drawn["reference"], drawn["real_train"]])
    assert len(np.unique(both, axis=0)) == 18
    assert set(map(tuple, both)) <= set(map(tuple, parts["real_train"].features))


def test_a_set_of_some_of_the_classes_is_compared_with_those_alone():
    names = ("dark", "grey", "light")
    train, test = (
        ImageSet(data.images, data.labels * 2, names) for data in (two_classes(64, 0), two_classes(40, 1))
    )
    grey = ImageSet(np.full((20, 4, 4, 3), 128, np.uint8), np.ones(20, np.int32), names)
    train = ImageSet(
        np.concatenate([train.images, grey.images]), np.concatenate([train.labels, grey.labels]), names
    )
    sets = worth.joined(two_classes(50, 3), train, test, train)
    assert len(sets.real_train.labels) == len(sets.seen.labels) == 64
    assert set(sets.synthetic.labels) == {0, 2}


def test_labels_join_by_class_name():
    data = two_classes(16, 0)
    turned = ImageSet(data.images, data.labels, ("light", "dark"))
    sets = worth.joined(turned, data, turned, data)
    np.testing.assert_array_equal(sets.synthetic.labels, 1 - data.labels)
    np.testing.assert_array_equal(sets.real_test.labels, 1 - data.labels)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda data: data._replace(class_names=("dark", "lite")), r"no class name 'lite'.*'light'"),
        (
            lambda data: data._replace(images=data.images[:, 1:]),
            r"synthetic images are 3 x 4 pixels.* 4 x 4.*image_size",
        ),
        (lambda data: data._replace(images=data.images[:0], labels=data.labels[:0]), "has no images"),
        (lambda data: data._replace(labels=data.labels * 0), "needs two"),
        (
            lambda data: ImageSet(data.images[:7], data.labels[:7], NAMES),
            "class 'light' has 3 synthetic images, and a comparison needs 4",
        ),
    ],
    ids=["name", "size", "empty", "one class", "few"],
)
def test_sets_that_cannot_be_compared_are_refused_with_what_to_do(change, expected):
    data = two_classes(16, 0)
    with pytest.raises(InputError, match=expected):
        worth.joined(change(data), data, data, data)


def test_real_sets_that_are_too_small_are_named():
    data = two_classes(16, 0)
    few = ImageSet(data.images[:14], data.labels[:14], NAMES)
    with pytest.raises(InputError, match="class 'dark' has 7 real training images, and a comparison needs 8"):
        worth.joined(data, few, data, data)
    without = ImageSet(data.images[::2], data.labels[::2], NAMES)
    with pytest.raises(InputError, match="class 'light' has 0 seen images"):
        worth.joined(data, data, data, without)


def test_judges_learn_from_their_own_set(tmp_path):
    data = two_classes(32, 0)
    sets = worth.joined(two_classes(32, 1, swapped=True), data, two_classes(32, 2), data)
    settings = JudgeSettings(steps=30, batch_size=32, weight_decay=0.0, crop=None)
    by_real, by_synthetic = worth.judges(sets, settings, tmp_path)
    images = jnp.asarray(sets.real_test.images)
    np.testing.assert_array_equal(by_real.labels(images), sets.real_test.labels)
    np.testing.assert_array_equal(by_synthetic.labels(images), 1 - sets.real_test.labels)
