"""The judge: goes on to the same weights, and sees a large set piece by piece."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.data.datasets import ImageSet
from jaxcil.errors import InputError
from jaxcil.evaluation.worth import judge
from jaxcil.evaluation.worth.judge import Judge, in_batches, train_classifier

JUDGE = Judge(blocks=1, steps=12, batch_size=8, learning_rate=0.1, weight_decay=0.0, shift=0, seed=0)


@pytest.fixture(scope="module")
def data():
    labels = np.arange(32, dtype=np.int32) % 2
    noise = np.random.default_rng(0).integers(0, 60, (32, 8, 8, 3))
    return ImageSet(
        (np.where(labels, 180, 20)[:, None, None, None] + noise).astype(np.uint8), labels, ("dark", "light")
    )


class Kept:
    """Checkpoints in memory, that stop a training after one chunk."""

    def __init__(self):
        self.newest = None

    def save(self, step, tree):
        if self.newest is None:
            self.newest = step, tree
            raise KeyboardInterrupt
        self.newest = step, tree

    def restore(self, like):
        return self.newest


def test_a_training_that_was_stopped_goes_on_to_the_same_classifier(data, monkeypatch):
    monkeypatch.setattr(judge, "CHUNK", 8)
    images, kept = jnp.asarray(data.images), Kept()
    whole = train_classifier(data, JUDGE)
    with pytest.raises(KeyboardInterrupt):
        train_classifier(data, JUDGE, kept)
    told = []
    resumed = train_classifier(data, JUDGE, kept, told.append)
    np.testing.assert_array_equal(resumed.features(images), whole.features(images))
    assert [report.done for report in told] == [12]  # the first 8 steps are not done again
    assert (np.asarray(whole.labels(images)) == data.labels).all()


def test_fewer_images_than_a_batch_are_refused(data):
    with pytest.raises(InputError, match="at least 64 images, got 32"):
        train_classifier(data, JUDGE._replace(batch_size=64))


def test_batches_are_those_of_one_call_and_of_one_shape(data, monkeypatch):
    monkeypatch.setattr(judge, "BATCH", 5)
    shapes = []

    def mean(images):
        shapes.append(images.shape[0])
        return images.astype(jnp.float32).mean((1, 2, 3))

    found = in_batches(mean, data.images)
    np.testing.assert_allclose(found, data.images.mean((1, 2, 3)), rtol=1e-6)
    assert shapes == [5] * 7
