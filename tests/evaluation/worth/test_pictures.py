"""The sheet shows the images that it is said to show."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxcil.data.datasets import ImageSet
from jaxcil.evaluation.worth import worth
from jaxcil.evaluation.worth.judge import Judge
from jaxcil.evaluation.worth.pictures import nearest_sheet

FRAME = 12  # images of 8 pixels in a frame of 2


def features(images):
    return images.astype(jnp.float32).mean((1, 2))


@pytest.fixture(scope="module")
def compared():
    noise = np.random.default_rng(0).integers(0, 256, (4, 24, 8, 8, 3)).astype(np.uint8)
    labels = np.arange(24, dtype=np.int32) % 2
    sets = worth.joined(*(ImageSet(images, labels, ("even", "odd")) for images in noise))
    sets.synthetic.images[[5, 8]] = sets.seen.images[[7, 2]]  # two copies
    judge = Judge(features, features, lambda images: features(images).sum(1) > 0)
    figures = worth.evaluate(sets, judge, judge, features, duplicate_threshold=8.0, seed=0)
    return sets, figures


def opened(buffer):
    with Image.open(io.BytesIO(buffer.getvalue())) as image:
        return np.asarray(image)


def test_the_sheet_shows_twenty_images_above_their_nearest_then_the_closest(compared):
    sets, results = compared
    nearest_sheet(sets, results, buffer := io.BytesIO(), zoom=1)
    sheet = opened(buffer)
    assert sheet.shape == (4 * FRAME + 4, 20 * FRAME, 3)
    np.testing.assert_array_equal(sheet[2:10, 2:10], sets.synthetic.images[0])
    closest = sheet[2 * FRAME + 4 :]
    for column, row in enumerate((5, 8)):  # the copies come first, above what they copy
        place = slice(column * FRAME + 2, column * FRAME + 10)
        np.testing.assert_array_equal(closest[2:10, place], sets.synthetic.images[row])
        np.testing.assert_array_equal(closest[FRAME + 2 : FRAME + 10, place], sets.synthetic.images[row])
    assert (
        closest[2:10, 2 * FRAME : 3 * FRAME] != closest[FRAME + 2 : FRAME + 10, 2 * FRAME : 3 * FRAME]
    ).any()


def test_the_sheet_is_written_as_a_file_too(compared, tmp_path):
    nearest_sheet(*compared, tmp_path / "nearest.png")
    with Image.open(tmp_path / "nearest.png") as image:
        assert image.format == "PNG"
