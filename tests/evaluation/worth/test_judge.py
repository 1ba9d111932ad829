"""The judge: a stopped training resumes to the same weights, and a large set is seen a batch at a time."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.data.datasets import ImageSet
from jaxcil.errors import InputError
from jaxcil.evaluation.worth import judge
from jaxcil.evaluation.worth.judge import in_batches, train_judge
from jaxcil.evaluation.worth.settings import JudgeSettings

JUDGE = JudgeSettings(steps=12, batch_size=8, weight_decay=0.0, crop=None)


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


def test_a_training_that_was_stopped_resumes_to_the_same_judge(data, monkeypatch):
    monkeypatch.setattr(judge, "CHUNK", 8)
    images, kept = jnp.asarray(data.images), Kept()
    whole = train_judge(data, JUDGE)
    with pytest.raises(KeyboardInterrupt):
        train_judge(data, JUDGE, kept)
    reports = []
    resumed = train_judge(data, JUDGE, kept, reports.append)
    np.testing.assert_array_equal(resumed.features(images), whole.features(images))
    assert [report.done for report in reports] == [12]  # the first 8 steps are not done again
    assert (np.asarray(whole.labels(images)) == data.labels).all()


def test_fewer_images_than_a_batch_are_refused(data):
    with pytest.raises(InputError, match=r"at least judge\.batch_size = 64 images, got 32"):
        train_judge(data, dataclasses.replace(JUDGE, batch_size=64))


def test_batches_are_those_of_one_call_and_of_one_shape(data, monkeypatch):
    monkeypatch.setattr(judge, "BATCH", 5)
    shapes = []

    def mean(images):
        shapes.append(images.shape[0])
        return images.astype(jnp.float32).mean((1, 2, 3))

    found = in_batches(mean, data.images)
    np.testing.assert_allclose(found, data.images.mean((1, 2, 3)), rtol=1e-6)
    assert shapes == [5] * 7
