"""From the bytes of an image file to uint8 [H, W, 3], on the host."""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxcil.errors import InputError

# Of the short side, before the middle is cut out: 256 for 224, as ImageNet is evaluated since AlexNet.
MARGIN = 256 / 224
# Modes of Pillow whose values RGB would cut off at 255.
DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
# What stands behind transparent pixels.
GROUND = "white"
# Share of the area and ratio of width to height of a random crop (Szegedy et al., CVPR 2015, section 6).
AREA = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)
TRIES = 10


def decoded(data: bytes, where: str) -> Image.Image:
    """The image in RGB: grey in all three channels, transparent pixels over white.

    It is not turned as its EXIF says, since neither TFDS nor torchvision does it, whose figures are compared with;
    `jaxcil import-images` turns.

    Raises:
      InputError: the bytes are none of an image, or of one with more than 8 bits a channel, which would be cut off;
        `where` says whose.
    """
    try:
        with Image.open(io.BytesIO(data)) as opened:
            if opened.mode not in DEEP:
                return in_rgb(opened)
            mode = opened.mode
    except (UnidentifiedImageError, OSError, SyntaxError) as error:  # SyntaxError: of a broken PNG
        raise InputError(f"{where} cannot be read as an image: {error}") from None
    raise InputError(
        f"{where} has pixels of mode {mode}; expected 8 bits a channel. Convert the images first."
    )


def in_rgb(image: Image.Image) -> Image.Image:
    """An opened image in RGB, transparent pixels over `GROUND`."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, GROUND), image)
    return image.convert("RGB")


def whole(image: Image.Image, size: int) -> np.ndarray:
    """The image at size x size, by bicubic interpolation; both sides are scaled for themselves."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image)


def centre_crop(image: Image.Image, size: int) -> np.ndarray:
    """The middle, size x size, of the image with its short side at size x 256 / 224."""
    side = min(image.size) / MARGIN
    left, top = ((length - side) / 2 for length in image.size)
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))


def random_resized_crop(image: Image.Image, size: int, generator: np.random.Generator) -> np.ndarray:
    """A random part of the image at size x size: the Inception crop.

    8 to 100 percent of the area, 3/4 to 4/3 as wide as high; where ten tries fit in no such part, the largest of such
    a shape in the middle, as on the device (`crops.rectangles`).

    References:
      Szegedy et al., "Going deeper with convolutions", CVPR 2015, section 6.
    """
    width, height = image.size
    w, h = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
    left, top = (width - w) // 2, (height - h) // 2
    box = (left, top, left + w, top + h)
    for _ in range(TRIES):
        area = width * height * generator.uniform(*AREA)
        ratio = np.exp(generator.uniform(*np.log(RATIO)))
        w, h = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = generator.integers(width - w + 1), generator.integers(height - h + 1)
            box = (int(left), int(top), int(left) + w, int(top) + h)
            break
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))
