import numpy as np
import pytest
from PIL import Image

from jaxcil.synthesis.dataset.contact_sheet import CELL, GAP, contact_sheet


@pytest.mark.parametrize(("side", "shown"), [(16, 64), (48, 48), (256, CELL)])
def test_sheet_shows_a_row_a_class_and_small_images_enlarged(side, shown, tmp_path):
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    labels = np.array([2, 0, 0, 2, 2])
    images = np.broadcast_to(colours[labels][:, None, None], (5, side, side, 3))
    contact_sheet(images, labels, ("red", "none", "blue"), tmp_path / "sheet.png", columns=2)
    with Image.open(tmp_path / "sheet.png") as file:
        sheet = np.asarray(file)
    assert sheet.shape[0] == 2 * (shown + GAP)  # the class without images has no row
    cells = sheet[:, sheet.shape[1] - 2 * (shown + GAP) :]
    np.testing.assert_array_equal(cells[:shown, :shown], np.broadcast_to(colours[0], (shown, shown, 3)))
    np.testing.assert_array_equal(
        cells[shown + GAP : -GAP, :shown], np.broadcast_to(colours[2], (shown, shown, 3))
    )
    names = sheet[:, : sheet.shape[1] - 2 * (shown + GAP)]
    assert (names[:shown] < 128).any()


def test_enlarged_pixels_stay_sharp(tmp_path):
    image = np.zeros((1, 16, 16, 3), np.uint8)
    image[0, 3, 5] = 200
    contact_sheet(image, np.zeros(1, int), ("a",), tmp_path / "sheet.png", columns=1)
    with Image.open(tmp_path / "sheet.png") as file:
        cell = np.asarray(file)[:64, -66:-2]
    np.testing.assert_array_equal(cell, np.kron(image[0], np.ones((4, 4, 1), np.uint8)))
