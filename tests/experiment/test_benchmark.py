"""Real images of a run: resident and streamed ones are the same to a training and to an extractor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxcil.data.batches import Part
from jaxcil.errors import InputError
from jaxcil.experiment import benchmark as real_images
from jaxcil.experiment import lanes
from jaxcil.experiment.auxiliary import Auxiliary
from jaxcil.experiment.settings import defaults

NAMES = ("ant", "bee", "cat", "dog")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven training and three test images a class: red and green are 10 times the class and the number."""
    root = tmp_path_factory.mktemp("images")
    for split, count in (("train", 7), ("test", 3)):
        for label, name in enumerate(NAMES):
            (root / split / name).mkdir(parents=True)
            for n in range(count):
                image = np.full((8, 8, 3), 10 * label + n, np.uint8)
                image[:, :4, 2] = 200  # a crop would show another share of it
                Image.fromarray(image).save(root / split / name / f"{n}.png")
    return root


def config(folder, **changes):
    made = defaults()
    made.dataset = str(folder)
    made.scenario.class_order = "dog,cat,bee,ant"
    made.extractor.update(steps=4, batch_size=4)
    made.update(changes)
    return made


def test_streamed_images_have_the_labels_and_the_order_of_resident_ones(folder):
    resident = real_images.load_benchmark(config(folder))
    streamed = real_images.load_benchmark(config(folder, stream="whole", image_size=8))
    assert streamed.train.images is None
    for one, other in ((resident.train, streamed.train), (resident.test, streamed.test)):
        np.testing.assert_array_equal(one.labels, other.labels)
        blocks = [np.concatenate(list(split.blocks(8))) for split in (one, other)]
        np.testing.assert_array_equal(*blocks)
        seen = real_images.features(corner, one, 8)
        assert seen.shape == (len(one.labels), 1)
        np.testing.assert_array_equal(3 - np.asarray(seen)[:, 0] // 10, one.labels)  # the order is reversed


def corner(images):
    assert len(images.sharding.device_set) == jax.device_count()
    return images[:, 0, 0, :1].astype(jnp.float32)


def test_a_streamed_batch_has_first_classes_and_auxiliary_images_in_their_share(folder):
    made = config(folder, stream="whole", image_size=8)
    benchmark = real_images.load_benchmark(made)
    extra = Auxiliary(np.full((6, 8, 8, 3), 99, np.uint8), np.array([2, 2, 2, 3, 3, 3], np.int32), ())
    made.future_proof.share = 0.25
    learner = lanes.make_learner(made, benchmark, extra)
    task, learner = lanes._first_task(learner, benchmark, extra, "future_proof")
    parts = lanes._parts(made, learner, task, "future_proof")
    assert [part.size for part in parts] == [3, 1]
    chunk = real_images.streamed(benchmark, extra, parts, 6, "whole")
    images, labels, synthetic = chunk(0, 5)
    np.testing.assert_array_equal(synthetic, np.broadcast_to([False, False, False, True], (5, 4)))
    assert (images[synthetic] == 99).all()
    assert (labels[~synthetic] < 2).all()
    assert (labels[synthetic] >= 2).all()
    np.testing.assert_array_equal(3 - images[~synthetic][:, 0, 0, 0] // 10, labels[~synthetic])
    assert ((images[~synthetic][:, :, :, 2] == 200).mean((1, 2)) == 0.5).all()  # whole images
    again = chunk(3, 2)
    np.testing.assert_array_equal(again.images, images[3:])  # goes on at any step


def test_streams_of_real_images_alone_need_no_auxiliary_ones(folder):
    benchmark = real_images.load_benchmark(config(folder, stream="whole", image_size=8))
    rows = np.flatnonzero(benchmark.train.labels < 2).astype(np.int32)
    shown = real_images.streamed(benchmark, None, [Part(np.append(rows, -1), 4)], 3, "whole")(0, 3)
    assert shown.images.shape == (3, 4, 8, 8, 3)
    assert not shown.synthetic.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": "ant,eel"}, "has no class 'eel'"),
        ({"classes": "ant,ant"}, "named once each"),
    ],
)
def test_images_that_cannot_be_had_are_refused(folder, change, message):
    with pytest.raises(InputError, match=message):
        real_images.load_benchmark(config(folder, **change))
