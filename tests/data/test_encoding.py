"""Images as they are stored."""

import io
import threading

import numpy as np
import pytest
from PIL import Image

from jaxcil.data.encoding import Encoding, encoded, encoding
from jaxcil.errors import InputError

# A smooth picture with some grain, as photos have.
SLOPE = np.linspace(0, 200, 32)[:, None, None] + np.linspace(0, 40, 32)[None, :, None] * np.array([1, 0.5, 0])
PICTURE = (SLOPE + np.random.default_rng(0).uniform(0, 12, (32, 32, 3))).astype(np.uint8)


def decoded(data):
    with Image.open(io.BytesIO(data)) as image:
        return image.format, np.asarray(image)


@pytest.mark.parametrize("format", ["png", "webp"])
def test_without_a_quality_nothing_is_lost(format):
    kind, pixels = decoded(encoding(format, None).encode(PICTURE))
    assert kind == format.upper()
    np.testing.assert_array_equal(pixels, PICTURE)


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_a_higher_quality_is_nearer(format):
    files = [encoding(format, quality).encode(PICTURE) for quality in (30, 60, 95)]
    errors = [np.abs(decoded(data)[1].astype(float) - PICTURE).mean() for data in files]
    assert errors[0] > errors[1] > errors[2] > 0
    assert {decoded(data)[0] for data in files} == {format.upper()}


def test_jpeg_keeps_the_colours_of_single_pixels():
    # Stripes of equal brightness: at half the resolution of colour they would become one.
    stripes = np.where(np.arange(16)[None, :, None] % 2, [255, 0, 0], [0, 130, 0]) * np.ones((16, 1, 1))
    _, pixels = decoded(encoding("jpeg", None).encode(stripes.astype(np.uint8)))
    assert np.abs(pixels - stripes).max() < 40


def test_equal_images_are_equal_bytes():
    for made in (encoding("png", None), encoding("jpeg", 80), encoding("webp", 80), encoding("webp", None)):
        assert made.encode(PICTURE) == made.encode(PICTURE.copy())


def test_png_has_no_quality():
    with pytest.raises(InputError, match="PNG has no quality"):
        encoding("png", 90)


def test_the_usual_quality_of_jpeg_stands_in_its_encoding():
    assert encoding("jpeg", None) == Encoding("jpeg", 95)


def test_images_stay_in_order_and_few_are_asked_for_ahead():
    asked, threads = [], set()

    def images():
        for number in range(40):
            asked.append(number)
            yield np.uint8(number)

    def encode(image):
        threads.add(threading.get_ident())
        return bytes([image])

    for number, data in enumerate(encoded(images(), encode)):
        assert data == bytes([number])
        assert len(asked) <= number + 6
    assert threading.get_ident() not in threads


def test_what_an_encoder_raises_is_raised():
    def encode(image):
        raise OSError("no memory")

    with pytest.raises(OSError, match="no memory"):
        list(encoded(iter([PICTURE] * 9), encode))
