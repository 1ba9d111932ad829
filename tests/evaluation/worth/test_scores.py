"""Scores by a classifier whose features are the mean colours of an image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil import heads, keys
from jaxcil.data.datasets import ImageSet
from jaxcil.errors import InputError
from jaxcil.evaluation.worth import judge
from jaxcil.evaluation.worth.scores import image_scores, on_features

NAMES = ("red", "green", "blue")


@jax.jit
def colours(images):
    return images.astype(jnp.float32).mean((1, 2))


def coloured(count, seed):
    generator = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int32) % 3
    images = generator.integers(0, 60, (count, 4, 5, 3))
    images[np.arange(count), :, :, labels] += 150
    return ImageSet(images.astype(np.uint8), labels, NAMES)


def test_the_scores_are_those_of_the_program_whatever_the_number_of_images(monkeypatch):
    monkeypatch.setattr(judge, "BATCH", 7)
    data = coloured(30, 0)
    scores = image_scores(colours, data).scores
    np.testing.assert_allclose(scores(data.images), data.images.mean((1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(scores(data.images[21:28]), scores(data.images)[21:28])
    assert scores(data.images[:1]).shape == (1, 3)


@pytest.mark.parametrize("head", [heads.ncm(), heads.fecam(images_per_class=22)], ids=["ncm", "fecam"])
def test_a_head_learns_the_labels_from_the_features(head):
    train, test = coloured(66, 0), coloured(30, 1)
    # labels one further than the channel that is bright: what the head can only have from the images
    train, test = (data._replace(labels=(data.labels + 1) % 3) for data in (train, test))
    program = on_features(head, colours, train, keys.root_key(0))
    np.testing.assert_array_equal(image_scores(program, train).scores(test.images).argmax(1), test.labels)


def test_the_checksum_tells_apart_classifiers_that_say_something_else():
    data = coloured(12, 0)
    assert image_scores(colours, data).sha256 == image_scores(lambda images: colours(images), data).sha256
    assert image_scores(lambda images: 2 * colours(images), data).sha256 != image_scores(colours, data).sha256


def test_images_of_another_size_and_classes_without_images_are_refused():
    with pytest.raises(InputError, match=r"trained on images of 4 x 5 pixels, these have 5 x 4"):
        image_scores(colours, coloured(9, 0)).scores(np.zeros((2, 5, 4, 3), np.uint8))
    data = coloured(9, 0)._replace(class_names=(*NAMES, "pale"))
    with pytest.raises(InputError, match="no images of 'pale'"):
        on_features(heads.ncm(), colours, data, keys.root_key(0))
