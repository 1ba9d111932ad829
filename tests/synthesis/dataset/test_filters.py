"""Filters, on sets of one-coloured images and a classifier that scores a class by its colour channel."""

import itertools
import json
import math

import jax
import numpy as np
import pytest

from jaxcil.errors import InputError
from jaxcil.synthesis.dataset import filters, numbering, store
from jaxcil.synthesis.dataset.filters import Rule
from jaxcil.synthesis.dataset.manifest import Asked, begin, read_manifest
from jaxcil.synthesis.dataset.verify import verify
from jaxcil.workdir import files

NAMES = ("red", "green")
# By class and index: what the image shows, and how strongly. Of red the images 1 and 4 show something else.
SHOWN = {
    "red": [("red", 200), ("green", 100), ("red", 50), ("red", 50), ("blue", 30), ("red", 250), ("red", 50)],
    "green": [("green", 9), ("green", 8), ("green", 7), ("red", 6), ("green", 5), ("green", 4), ("green", 3)],
}
CLASSIFIER = {"class_names": ["blue", "red", "green"], "sha256": "0" * 64}
RECOGNISED = Rule("recognised", "margin")


def scores(images):
    """In the order of the classifier's classes, which is not that of the set."""
    return images.mean((1, 2))[:, [2, 0, 1]] / 10


def make(directory, images_per_class=7, shard_size=4, **changes):
    config = {"image_size": [2, 3], "shard_size": shard_size, **changes}
    manifest = begin(directory, Asked(config, NAMES, images_per_class))
    for shard in store.missing_shards(directory, manifest):
        numbers = range(*manifest.requests.shards[shard])
        images = []
        for label, index in zip(*numbering.located(manifest.requests, numbers)):
            colour, level = SHOWN[NAMES[label]][index]
            image = np.zeros((2, 3, 3), np.uint8)
            image[..., ("red", "green", "blue").index(colour)] = level
            image[0, 0] = 0  # an image of one colour is a finding of verify
            images.append(image)
        store.write_shard(directory, manifest, shard, images, "none")
    store.finish(directory, manifest)
    return directory


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A complete set; tests only read it."""
    return make(tmp_path_factory.mktemp("made"))


@pytest.fixture
def own(tmp_path):
    """The same set, which a test may change."""
    return make(tmp_path / "set")


def test_recognised_keeps_the_images_that_show_what_their_label_says(made):
    found = filters.judge(made, RECOGNISED, scores, CLASSIFIER)
    # requests: seven of red, then seven of green
    assert np.flatnonzero(~found.kept).tolist() == [1, 4, 10]
    assert [CLASSIFIER["class_names"][n] for n in found.taken_for[[1, 4, 10]]] == ["green", "blue", "red"]
    assert filters.fractions_kept(read_manifest(made), found) == {"red": 5 / 7, "green": 6 / 7}


def test_top_keeps_the_best_of_each_class_and_of_equals_the_first_requested(made):
    found = filters.judge(made, Rule("top", "margin", 0.5), scores, CLASSIFIER)
    # half of seven is four: red 250, 200, and of three with 50 the first two; the strongest four of green
    assert np.flatnonzero(found.kept).tolist() == [0, 2, 3, 5, 7, 8, 9, 11]


@pytest.mark.parametrize(("fraction", "count"), [(1.0, 30), (0.1, 3), (0.7, 21), (1e-9, 1), (0.99, 30)])
def test_the_fraction_is_rounded_up_and_the_digits_of_a_float_add_no_image(fraction, count):
    kept = filters._top(np.arange(30.0), np.zeros(30, int), Rule("top", "margin", fraction))
    assert kept.sum() == count
    assert kept[-count:].all()


def test_a_larger_fraction_keeps_what_a_smaller_one_keeps(made):
    fractions = (0.2, 0.4, 0.6, 0.8, 1.0)
    kept = [
        filters.judge(made, Rule("top", "probability", fraction), scores, CLASSIFIER).kept
        for fraction in fractions
    ]
    for fewer, more in itertools.pairwise(kept):
        assert more[fewer].all()
    assert kept[-1].all()


def test_what_is_kept_does_not_depend_on_the_shards(made, tmp_path):
    found = filters.judge(made, Rule("top", "probability", 0.5), scores, CLASSIFIER)
    other = filters.judge(make(tmp_path, shard_size=5), Rule("top", "probability", 0.5), scores, CLASSIFIER)
    np.testing.assert_array_equal(other.kept, found.kept)
    np.testing.assert_array_equal(other.scores, found.scores)


def test_the_probability_is_the_softmax_of_the_own_label_and_safe_far_from_zero():
    given = np.random.default_rng(0).normal(0, 3, (50, 4))
    labels = np.arange(50) % 4
    expected = np.asarray(jax.nn.softmax(given.astype(np.float32)))[np.arange(50), labels]
    np.testing.assert_allclose(filters.own_score(given, labels, "probability"), expected, rtol=1e-5)
    moved = filters.own_score(given + 1e6, labels, "probability")
    np.testing.assert_allclose(moved, expected, rtol=1e-5)
    far = filters.own_score(np.array([[0.0, 5000.0], [5000.0, 0.0]]), np.zeros(2, int), "probability")
    np.testing.assert_array_equal(far, [0, 1])


def test_the_margin_is_positive_where_the_label_has_the_best_score():
    given = np.random.default_rng(1).normal(0, 3, (200, 5))
    labels = np.arange(200) % 5
    margin = filters.own_score(given, labels, "margin")
    np.testing.assert_array_equal(margin > 0, given.argmax(1) == labels)
    beside = np.sort(given, axis=1)
    best = margin > 0
    np.testing.assert_allclose(margin[best], (beside[:, -1] - beside[:, -2])[best])


def test_a_filter_comes_back_as_it_was_written_and_changes_no_other_file(own):
    before = {path.name: path.read_bytes() for path in own.iterdir() if path.is_file()}
    found = filters.judge(own, RECOGNISED, scores, CLASSIFIER)
    path = filters.write_filter(own, "good", found)
    back = filters.read_filter(own, "good")
    np.testing.assert_array_equal(back.kept, found.kept)
    np.testing.assert_array_equal(back.taken_for, found.taken_for)
    np.testing.assert_allclose(back.scores, found.scores, rtol=1e-5)  # six digits are written
    assert (back.rule, back.classifier, back.content_hash) == (found.rule, CLASSIFIER, found.content_hash)
    assert {item.name: item.read_bytes() for item in own.iterdir() if item.is_file()} == before
    assert verify(own) == []
    value = json.loads(path.read_text())
    assert value["judged"] == 14
    assert value["share_kept"]["red"] == 5 / 7
    assert len(path.read_text().splitlines()) == len(value) + 2  # a field a line


def test_a_filtered_read_gives_the_kept_images_in_their_order(own):
    filters.write_filter(own, "good", filters.judge(own, RECOGNISED, scores, CLASSIFIER))
    every, kept = filters.read(own, None), filters.read(own, "good")
    rows = [0, 2, 3, 5, 6, 7, 8, 9, 11, 12, 13]
    np.testing.assert_array_equal(kept.images, every.images[rows])
    np.testing.assert_array_equal(kept.labels, every.labels[rows])
    assert kept.class_names == NAMES


def test_a_filter_of_a_set_that_grew_is_stale_until_it_is_made_again(tmp_path):
    directory = make(tmp_path, images_per_class=5)
    first = filters.judge(directory, RECOGNISED, scores, CLASSIFIER)
    filters.write_filter(directory, "good", first)
    make(directory, images_per_class=7)
    with pytest.raises(
        InputError, match=r"'good' is stale: it judged 10 .* now has 14, .*--name=good` again"
    ):
        filters.read(directory, "good")
    again = filters.judge(directory, RECOGNISED, scores, CLASSIFIER)
    np.testing.assert_array_equal(again.kept[:10], first.kept)
    filters.write_filter(directory, "good", again)
    assert len(filters.read(directory, "good").labels) == 11


def test_a_filter_of_another_set_is_stale(own, tmp_path):
    filters.write_filter(own, "good", filters.judge(own, RECOGNISED, scores, CLASSIFIER))
    other = make(tmp_path / "other", seed=1)
    files.write(filters.folder(other) / "good.json", (filters.folder(own) / "good.json").read_bytes())
    with pytest.raises(InputError, match="is stale"):
        filters.read_filter(other, "good")


def test_a_class_that_loses_all_is_named_with_what_it_was_taken_for(made):
    with pytest.raises(InputError, match=r"no image is left of 'red': of the 7 .* takes 7 for 'green'"):
        filters.judge(made, RECOGNISED, lambda images: scores(images) + np.array([0, 0, 30]), CLASSIFIER)


def test_an_unknown_filter_is_told_with_those_that_there_are(own):
    with pytest.raises(InputError, match=r".*has no filters, so none named 'godo'.*--name=godo"):
        filters.read_filter(own, "godo")
    filters.write_filter(own, "good", filters.judge(own, RECOGNISED, scores, CLASSIFIER))
    with pytest.raises(InputError, match=r"there are: good\. Did you mean 'good'\?"):
        filters.read_filter(own, "godo")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rule": Rule("best", "margin")}, "no rule 'best'"),
        ({"rule": Rule("recognised", "marign")}, "Did you mean 'margin'"),
        ({"rule": Rule("top", "margin")}, r"must lie in \(0, 1\], got None"),
        ({"rule": Rule("top", "margin", 1.5)}, "got 1.5"),
        ({"rule": Rule("top", "margin", math.nan)}, "got nan"),
        ({"rule": Rule("recognised", "margin", 0.5)}, "belongs to the rule 'top'"),
        ({"classifier": {**CLASSIFIER, "class_names": ["blue", "red", "grean"]}}, "Did you mean 'grean'"),
        ({"scores": lambda images: scores(images)[:, :2]}, r"finite scores \[4, 3\], got shape \(4, 2\)"),
        ({"scores": lambda images: np.full((len(images), 3), np.nan)}, "with 12 that are not"),
        ({"scores": lambda images: np.full((len(images), 3), -np.inf)}, "trained on every class"),
    ],
)
def test_what_cannot_be_judged_is_refused(changes, message, made):
    arguments = {"rule": RECOGNISED, "scores": scores, "classifier": CLASSIFIER} | changes
    with pytest.raises(InputError, match=message):
        filters.judge(made, **arguments)


def test_a_classifier_of_one_class_is_refused(tmp_path):
    begin(tmp_path, Asked({"image_size": [2, 3], "shard_size": 3}, ["red"], 3))
    with pytest.raises(InputError, match="'red' alone"):
        filters.check_class_names(tmp_path, ["red"])


@pytest.mark.parametrize("name", ["", "../out", "a/b", ".hidden", "a b"])
def test_a_name_that_is_no_plain_file_name_is_refused(name, made):
    with pytest.raises(InputError, match="the name of a filter"):
        filters.read_filter(made, name)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:100], "cannot be read"),
        (lambda text: "[]", "is not a filter"),
        (lambda text: text.replace('"kept": [', '"kept": [99, '), "is not a filter"),
        (lambda text: text.replace('"scores": [', '"scores": [1.0, '), "is damaged"),
    ],
    ids=["cut", "list", "number", "length"],
)
def test_a_damaged_filter_is_named(damage, message, own):
    path = filters.write_filter(own, "good", filters.judge(own, RECOGNISED, scores, CLASSIFIER))
    path.write_text(damage(path.read_text()))
    with pytest.raises(InputError, match=message) as caught:
        filters.read_filter(own, "good")
    assert str(path) in str(caught.value)


def test_a_damaged_shard_is_not_judged(own):
    path = store.shard_path(own, 1)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="00001 is damaged"):
        filters.judge(own, RECOGNISED, scores, CLASSIFIER)
    path.unlink()
    with pytest.raises(InputError, match="00001 is missing"):
        filters.judge(own, RECOGNISED, scores, CLASSIFIER)
