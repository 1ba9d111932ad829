"""Crops, flips, Cutout, colour and blur, beside Pillow, numpy, scipy and colorsys."""

import colorsys

import jax
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image, ImageEnhance

from jaxcil.data.augmentation import augmentation, colour, crops

MANY = 2_000


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


@pytest.fixture(scope="module")
def images(photographs):
    return np.asarray(augmentation.to_float(photographs(24)))


def rectangles(drawn, height, width):
    return np.asarray(jax.jit(crops.rectangles, static_argnums=(1, 2))(drawn, height, width))


def levels(images):
    return (np.asarray(images) + 1) * 127.5


@pytest.mark.parametrize(
    ("border", "mode"), [("black", {"mode": "constant", "constant_values": -1}), ("edge", {"mode": "edge"})]
)
def test_a_crop_is_a_window_of_the_padded_image_and_every_window_comes(images, border, mode):
    image = images[0]
    cropped = jax.jit(crops.padded_crop, static_argnums=(2, 3))(
        keys(MANY), np.broadcast_to(image, (MANY, *image.shape)), 1, border
    )
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), **mode)
    height, width, _ = image.shape
    windows = [padded[top : top + height, left : left + width] for top in range(3) for left in range(3)]
    counts = np.array([(np.asarray(cropped) == window).all(axis=(1, 2, 3)).sum() for window in windows])
    assert counts.sum() == MANY
    # each comes with probability 1/9: standard error 7e-3
    np.testing.assert_allclose(counts / MANY, 1 / 9, atol=0.03)


def test_half_of_the_images_are_flipped(images):
    flipped = np.asarray(crops.flip(keys(MANY), np.broadcast_to(images[0], (MANY, *images[0].shape))))
    is_flipped = (flipped == images[0][:, ::-1]).all(axis=(1, 2, 3))
    assert (is_flipped | (flipped == images[0]).all(axis=(1, 2, 3))).all()
    assert abs(is_flipped.mean() - 0.5) < 0.045  # standard error 0.011


def test_cutout_blackens_a_square_whose_centre_is_any_pixel():
    white = np.ones((MANY, 10, 12, 3), np.float32)
    black = np.asarray(crops.cutout(keys(MANY), white, 4)) == -1
    rows, columns = black.any(axis=(2, 3)), black.any(axis=(1, 3))
    np.testing.assert_array_equal(
        black, (rows[:, :, None] & columns[:, None, :])[..., None] & np.ones(3, bool)
    )
    # over all centres a side of 4 keeps 4 pixels, but 2 and 3 at the near border and 3 at the far one
    for side, size in ((rows, 10), (columns, 12)):
        assert set(side.sum(axis=1)) == {2, 3, 4}
        assert abs(side.sum(axis=1).mean() - (4 * size - 2 - 1 - 1) / size) < 0.06  # standard error 0.014


def test_a_resized_crop_is_pillows(images):
    drawn = keys(len(images))
    ours = np.asarray(jax.jit(crops.resized_crop)(drawn, images))
    _, height, width, _ = images.shape
    for image, result, box in zip(images, ours, rectangles(drawn, height, width)):
        top, left, tall, wide = box.tolist()
        for channel in range(3):
            part = Image.fromarray(np.ascontiguousarray(image[top : top + tall, left : left + wide, channel]))
            resized = part.resize((width, height), Image.Resampling.BILINEAR)
            # two float32 products of two weights each
            np.testing.assert_allclose(result[..., channel], np.asarray(resized), atol=1e-5)


def test_rectangles_keep_to_their_areas_ratios_and_image():
    top, left, tall, wide = rectangles(keys(MANY), 200, 200).T
    assert min(top.min(), left.min()) >= 0
    assert max((top + tall).max(), (left + wide).max()) <= 200
    share, ratio = tall * wide / 200**2, wide / tall
    # sides are rounded, so at 49 pixels and more a ratio moves by up to 2 percent; the ends of both ranges are reached
    for values, low, high in ((share, 0.08, 1.0), (ratio, 3 / 4, 4 / 3)):
        assert low / 1.02 <= values.min() <= low * 1.05
        assert high / 1.05 <= values.max() <= high * 1.02


def test_an_image_too_long_for_any_rectangle_gives_its_middle():
    boxes = rectangles(keys(5), 2, 64)
    assert boxes.tolist() == [[0, 30, 2, 3]] * 5


@pytest.mark.parametrize(
    ("jitter", "pillow", "tolerance"),
    # In grey levels. Pillow cuts to an integer (1); contrast and saturation move away from a grey that it rounds
    # (0.5), by up to 0.8 times that
    [
        (colour.jitter_brightness, ImageEnhance.Brightness, 1.0),
        (colour.jitter_contrast, ImageEnhance.Contrast, 1.4),
        (colour.jitter_saturation, ImageEnhance.Color, 1.4),
    ],
    ids=["brightness", "contrast", "saturation"],
)
def test_jitters_are_pillows_by_their_factors(images, photographs, jitter, pillow, tolerance):
    drawn = keys(len(images))
    ours = levels(jitter(drawn, images, 0.8))
    given = np.asarray(colour.factors(drawn, 0.8)).tolist()
    theirs = [
        np.asarray(pillow(Image.fromarray(image)).enhance(factor))
        for image, factor in zip(photographs(len(images)), given)
    ]
    np.testing.assert_allclose(ours, theirs, atol=tolerance + 1e-3)


@pytest.mark.parametrize(
    ("strength", "low", "high"), [(63 / 255, 1 - 63 / 255, 1 + 63 / 255), (1.5, 0.0, 2.5)]
)
def test_factors_cover_their_range_evenly(strength, low, high):
    drawn = np.sort(np.asarray(colour.factors(keys(MANY), strength)))
    assert low <= drawn[0] < drawn[-1] <= np.float32(high)
    # Kolmogorov's distance of 2,000 uniform draws passes 0.045 with probability 6e-4; the keys are fixed
    assert abs((drawn - low) / (high - low) - np.linspace(0, 1, MANY)).max() < 0.045


def test_hues_turn_as_in_colorsys(images):
    shares = np.array([0.0, 0.1, -0.3, 0.5], np.float32)
    turned = (np.asarray(colour.turn_hue(images[:4], shares)) + 1) / 2
    for image, share, result in zip((images + 1) / 2, shares.tolist(), turned):
        for place in ((0, 0), (5, 7), (11, 3), (20, 19)):
            hue, saturation, value = colorsys.rgb_to_hsv(*image[place].tolist())
            expected = colorsys.hsv_to_rgb((hue + share) % 1.0, saturation, value)
            np.testing.assert_allclose(
                result[place], expected, atol=1e-5
            )  # float32, a division by the chroma


def test_a_grey_pixel_has_no_hue_to_turn():
    grey = np.full((1, 2, 2, 3), 0.25, np.float32)
    np.testing.assert_array_equal(colour.turn_hue(grey, np.float32([0.3])), grey)


def test_images_turn_grey_as_often_as_asked(images, photographs):
    grey = np.asarray(
        colour.random_grey(keys(MANY), np.broadcast_to(images[0], (MANY, *images[0].shape)), 0.2)
    )
    chosen = (grey != images[0]).any(axis=(1, 2, 3))
    assert abs(chosen.mean() - 0.2) < 0.036  # standard error 0.009
    expected = np.asarray(Image.fromarray(photographs(24)[0]).convert("L").convert("RGB"))
    np.testing.assert_allclose(
        levels(grey[chosen][0]), expected, atol=0.51
    )  # Pillow rounds to the nearest level


def test_a_blur_is_scipys(images):
    deviations = np.array([0.0, 0.3, 1.0, 2.0], np.float32)
    for image, deviation, ours in zip(images, deviations, colour.gaussian_blur(images[:4], deviations)):
        expected = scipy.ndimage.gaussian_filter(
            image.astype(np.float64), (deviation, deviation, 0), mode="mirror", radius=(18, 18, 0)
        )
        np.testing.assert_allclose(ours, expected, atol=1e-5)  # sums of 24 float32 products, twice


def test_no_blur_gives_the_very_image(images):
    np.testing.assert_array_equal(colour.gaussian_blur(images[:2], np.zeros(2, np.float32)), images[:2])
