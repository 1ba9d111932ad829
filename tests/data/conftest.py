"""Images, and Pillow as the reference of what is done to them."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps


@pytest.fixture(scope="session")
def photographs():
    """Makes smooth images with noise, of different brightness, that do not fill the range: uint8 [count, 24, 20, 3]."""

    def make(count, height=24, width=20):
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 256, (count, 5, 5, 3), np.uint8)
        smooth = [
            np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
            for image in coarse
        ]
        noise = rng.normal(0, 5, (count, height, width, 3)) + rng.uniform(0, 60, (count, 1, 1, 3))
        return (0.75 * np.stack(smooth) + noise).clip(3, 250).astype(np.uint8)

    return make


@pytest.fixture(scope="session")
def in_pillow():
    """Does an operation of an augmentation policy by Pillow: of name, magnitude, levels, fill and interpolation."""

    def do(name, size, levels, fill, interpolation):
        image = Image.fromarray(levels)
        how = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR}[interpolation]

        def affine(*matrix):
            return image.transform(image.size, Image.Transform.AFFINE, matrix, how, fillcolor=(fill,) * 3)

        return np.asarray(
            {
                "identity": lambda: image,
                "invert": lambda: ImageOps.invert(image),
                "auto_contrast": lambda: ImageOps.autocontrast(image),
                "equalize": lambda: ImageOps.equalize(image),
                "solarize": lambda: ImageOps.solarize(image, size),
                "posterize": lambda: ImageOps.posterize(image, int(size)),
                "shear_x": lambda: affine(1, size, 0, 0, 1, 0),
                "shear_y": lambda: affine(1, 0, 0, size, 1, 0),
                "translate_x": lambda: affine(1, 0, size, 0, 1, 0),
                "translate_y": lambda: affine(1, 0, 0, 0, 1, size),
                "rotate": lambda: image.rotate(size, how, fillcolor=(fill,) * 3),
                "brightness": lambda: ImageEnhance.Brightness(image).enhance(size),
                "contrast": lambda: ImageEnhance.Contrast(image).enhance(size),
                "color": lambda: ImageEnhance.Color(image).enhance(size),
                "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(size),
            }[name]()
        )

    return do
