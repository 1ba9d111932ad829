"""What a synthetic set is worth: on sets whose worth is known."""

import numpy as np
import pytest

from jaxcil.data.datasets import ImageSet
from jaxcil.errors import InputError
from jaxcil.evaluation import synthetic

JUDGE = synthetic.Judge(
    blocks=1, steps=40, batch_size=32, learning_rate=0.1, weight_decay=0.0, shift=0, seed=0
)
NAMES = ("dark", "light")


def two_classes(count, seed, swapped=False):
    generator = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int32) % 2
    level = np.where(labels, 180, 20)[:, None, None, None]
    images = (level + generator.integers(0, 60, (count, 8, 8, 3))).astype(np.uint8)
    return ImageSet(images, 1 - labels if swapped else labels, NAMES)


@pytest.fixture(scope="module")
def figures():
    train, test, seen = (two_classes(64, seed) for seed in (0, 1, 2))
    good = synthetic.evaluate(two_classes(64, 3), train, test, seen, JUDGE)
    wrong = synthetic.evaluate(two_classes(64, 3, swapped=True), train, test, seen, JUDGE)
    return good, wrong


def test_images_of_the_right_class_are_recognised_and_teach_it(figures):
    good, _ = figures
    assert good["recognised"] == good["real_test_accuracy_trained_on_synthetic"] == 1.0


def test_images_with_wrong_labels_are_not(figures):
    _, wrong = figures
    assert wrong["recognised"] == wrong["real_test_accuracy_trained_on_synthetic"] == 0.0
    assert wrong["real_test_accuracy_trained_on_real"] == 1.0


def test_the_distance_to_the_nearest_image_is_its_root_mean_square():
    seen = np.stack([np.full((2, 2, 3), 10, np.uint8), np.full((2, 2, 3), 100, np.uint8)])
    images = np.stack([seen[1], seen[0] + 4, seen[0]])
    images[2, 0, 0, 0] += 6  # one entry of twelve
    distances, number = synthetic.nearest(images, seen)
    np.testing.assert_allclose(distances, [0, 4, 6 / np.sqrt(12)])
    assert number.tolist() == [1, 0, 0]


def test_labels_join_by_class_name_and_an_unknown_name_is_refused():
    data = two_classes(4, 0)
    joined = synthetic._joined(ImageSet(data.images, data.labels, ("light", "dark")), NAMES)
    np.testing.assert_array_equal(joined.labels, 1 - data.labels)
    with pytest.raises(InputError, match=r"no class name 'lite'.*'light'"):
        synthetic._joined(data._replace(class_names=("dark", "lite")), NAMES)


def test_the_sheet_shows_twenty_images_above_their_nearest(tmp_path):
    from PIL import Image

    data = two_classes(64, 0)
    synthetic.nearest_sheet(data, data, tmp_path / "sheet.png", zoom=1)
    with Image.open(tmp_path / "sheet.png") as opened:
        sheet = np.asarray(opened)
    assert sheet.shape == (2 * 12, 20 * 12, 3)  # images of 8 pixels in a frame of 2
    np.testing.assert_array_equal(sheet[:12], sheet[12:])  # each is its own nearest
    np.testing.assert_array_equal(sheet[2:10, 2:10], data.images[0])
