"""The pool of a run: rows of tasks, batches from memory or from a stream, and features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxcil.experiment.auxiliary import AuxiliaryImages
from jaxcil.experiment.benchmark import load_benchmark
from jaxcil.experiment.pool import ImagePool, features
from jaxcil.experiment.settings import defaults, resolve
from jaxcil.experiment.variants import VARIANTS
from jaxcil.learners.fpcil import fpcil
from jaxcil.parallel import mesh as meshes
from jaxcil.training.learner import Part, Training, as_they_are, whole

NAMES = ("ant", "bee", "cat", "dog")
EXTRA = AuxiliaryImages(
    np.full((6, 8, 8, 3), 99, np.uint8), np.array([2, 2, 2, 3, 3, 3], np.int32), (), "somewhere"
)


@pytest.fixture(scope="module")
def benchmark_of(tmp_path_factory):
    """Makes benchmarks of seven training images per class: red and green are 10 times the class plus the number."""
    root = tmp_path_factory.mktemp("images")
    for split, count in (("train", 7), ("test", 3)):
        for label, name in enumerate(NAMES):
            (root / split / name).mkdir(parents=True)
            for n in range(count):
                image = np.full((8, 8, 3), 10 * label + n, np.uint8)
                image[:, :4, 2] = 200  # a crop would show another part of it
                Image.fromarray(image).save(root / split / name / f"{n}.png")

    def make(**changes):
        config = defaults()
        config.dataset, config.training.steps = str(root), 1
        config.scenario.class_order = "dog,cat,bee,ant"
        config.update(changes)
        return load_benchmark(resolve(config))

    return make


@pytest.fixture(scope="module")
def resident(benchmark_of):
    return benchmark_of()


@pytest.fixture(scope="module")
def streamed(benchmark_of):
    return benchmark_of(stream="whole", image_size=8)


@jax.tree_util.register_static
class Corner:
    """In the place of a learner: a feature is the red of a corner."""

    def features(self, state, images):
        return jnp.round((images[:, 0, 0, :1] + 1) * 127.5)

    def phases(self, task_index):
        def parts(learner, state, task, key):
            return (Part(whole(task.rows), 4),)

        return (Training("training", parts, lambda: None, lambda: None, lambda: None, steps=6),)


def test_tasks_have_the_rows_of_their_classes_padded_to_one_length(resident):
    tasks = ImagePool(resident, EXTRA).tasks(VARIANTS["future_proof"])
    assert [task.index for task in tasks] == [0, 1]
    for task in tasks:
        own = whole(task.rows)
        np.testing.assert_array_equal(np.unique(task.labels[own]), np.flatnonzero(task.new))
        assert len(own) == 14
    assert whole(tasks[0].auxiliary).tolist() == list(range(28, 34))
    assert whole(tasks[1].auxiliary).tolist() == []
    assert tasks[0].auxiliary.shape == tasks[1].auxiliary.shape


def test_resident_images_are_all_images_with_labels_as_the_variant_sees_them(resident):
    pool = ImagePool(resident, EXTRA)
    task = pool.tasks(VARIANTS["shuffled_labels"])[0]
    data = pool.batches(task, (), 1, None)
    np.testing.assert_array_equal(data.images, np.concatenate([resident.train.images, EXTRA.images]))
    np.testing.assert_array_equal(data.labels, task.labels)
    assert data.auxiliary.tolist() == [False] * 28 + [True] * 6


def test_features_of_a_split_are_spread_over_the_devices_and_in_its_order(resident, streamed):
    seen = []

    def view(images):
        jax.debug.inspect_array_sharding(images, callback=lambda sharding: seen.append(sharding))
        return images

    for benchmark in (resident, streamed):
        for split in (benchmark.train, benchmark.test):
            computed = features(Corner(), jnp.zeros(1), split, 8, view=view)
            assert computed.shape == (len(split.labels), 1)
            np.testing.assert_array_equal(3 - np.asarray(computed)[:, 0] // 10, split.labels)
    assert all(len(sharding.device_set) == jax.device_count() for sharding in seen)
    assert seen


def test_features_of_rows_are_of_real_and_auxiliary_images_in_the_order_asked_for(resident, streamed):
    rows = np.array([29, 3, -1, 3, 20], np.int32)
    for benchmark in (resident, streamed):
        pool = ImagePool(benchmark, EXTRA)
        computed = pool.features(Corner(), jnp.zeros(1), 0, rows, as_they_are)
        assert np.asarray(computed)[:, 0].tolist() == [99, 3, 0, 3, 26]


def test_a_streamed_batch_has_first_classes_and_auxiliary_images_in_their_fraction(streamed):
    pool = ImagePool(streamed, EXTRA, "whole")
    assert pool.nbytes == 0
    task = pool.tasks(VARIANTS["future_proof"])[0]
    learner = fpcil(Corner(), batch_fraction=0.25)
    parts = learner.phases(0)[0].parts(learner, None, task, jax.random.key(0))
    assert [part.size for part in parts] == [3, 1]
    chunk = pool.batches(task, parts, 6, meshes.training_mesh(1, batch_size=4))
    images, labels, auxiliary = chunk(0, 5)
    np.testing.assert_array_equal(auxiliary, np.broadcast_to([False, False, False, True], (5, 4)))
    assert (images[auxiliary] == 99).all()
    assert (labels[~auxiliary] < 2).all()
    assert (labels[auxiliary] >= 2).all()
    np.testing.assert_array_equal(3 - images[~auxiliary][:, 0, 0, 0] // 10, labels[~auxiliary])
    assert ((images[~auxiliary][:, :, :, 2] == 200).mean((1, 2)) == 0.5).all()  # whole images
    again = chunk(3, 2)
    np.testing.assert_array_equal(again.images, images[3:])  # resumes at any step


def test_streams_of_real_images_alone_need_no_auxiliary_ones(streamed):
    pool = ImagePool(streamed, None, "whole")
    task = pool.tasks(VARIANTS["plain"])[0]
    mesh = meshes.training_mesh(1, batch_size=4)
    shown = pool.batches(task, [Part(np.append(whole(task.rows), -1), 4)], 3, mesh)(0, 3)
    assert shown.images.shape == (3, 4, 8, 8, 3)
    assert not shown.auxiliary.any()


def test_a_streamed_batch_of_a_later_task_has_exemplars_and_synthetic_images_of_past_classes(streamed):
    past = EXTRA._replace(labels=np.array([0, 0, 0, 1, 1, 1], np.int32))
    pool = ImagePool(streamed, past, "whole")
    task = pool.tasks(VARIANTS["sddr"])[1]
    exemplars = np.array([np.flatnonzero(pool.labels.real == label)[0] for label in (0, 1)] + [-1, -1])
    parts = [Part(np.concatenate([task.rows, exemplars]), 4), Part(task.auxiliary, 2)]
    chunk = pool.batches(task, parts, 8, meshes.training_mesh(1, batch_size=6))
    images, labels, auxiliary = chunk(0, 8)
    assert auxiliary.sum(1).tolist() == [2] * 8
    assert set(labels[auxiliary].tolist()) == {0, 1}
    np.testing.assert_array_equal(3 - images[~auxiliary][:, 0, 0, 0] // 10, labels[~auxiliary])
    of_epoch = labels[:4][~auxiliary[:4]]  # 14 new images and two exemplars
    assert np.bincount(of_epoch, minlength=4).tolist() == [1, 1, 7, 7]
