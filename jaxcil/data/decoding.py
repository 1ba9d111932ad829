"""From the bytes of an image file to uint8 [H, W, 3], on the host."""

import contextlib
import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from jaxcil.errors import InputError

# Short side over crop side: 256 for 224, as ImageNet has been evaluated since AlexNet.
MARGIN = 256 / 224
# Modes of Pillow whose values RGB would clip at 255.
DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
# For files of unknown origin: Pillow has decoders that start programs or read what no tool writes for images.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
# What is behind transparent pixels.
GROUND = "white"
# Fraction of the area and ratio of width to height of a random crop (Szegedy et al., CVPR 2015, section 6).
AREA = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)
TRIES = 10


def decoded(data: bytes, where: str, *, imported: bool = False) -> Image.Image:
    """The image in RGB: grey in all three channels, transparent pixels over white.

    Args:
      data: the bytes of an image file.
      where: its name, for messages.
      imported: from an unknown tool: only FORMATS, a size that Pillow considers safe, one frame and MODES are accepted,
        and the image is rotated by its EXIF. Other images are not rotated, as in TFDS and torchvision, whose figures
        are compared with.

    Raises:
      InputError: the bytes are not an image, or of one with more than 8 bits per channel, which would be clipped.
    """
    try:
        # only for imports: filters of warnings are global, and other images are read in several threads
        with warnings.catch_warnings() if imported else contextlib.nullcontext():
            if imported:
                warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS if imported else None)
        frames, mode = getattr(image, "n_frames", 1) if imported else 1, image.mode
        if frames == 1 and (mode in MODES if imported else mode not in DEEP):
            return in_rgb(ImageOps.exif_transpose(image) if imported else image)
    except MemoryError:
        raise
    except Exception as error:  # a decoder may raise anything on damaged bytes
        reason = str(error)
        if isinstance(error, UnidentifiedImageError):  # its message is an address in memory
            reason = "its format is unknown" + (f" (known: {', '.join(FORMATS)})" if imported else "")
        raise InputError(
            f"{where} cannot be read as an image: {reason}. Make it again, or remove it."
        ) from None
    what = f"{frames} frames" if frames > 1 else f"pixels of mode {mode}"
    raise InputError(
        f"{where} has {what}; expected one image with 8 bits per channel. Convert it, or remove it."
    )


def in_rgb(image: Image.Image) -> Image.Image:
    """An opened image in RGB, transparent pixels over `GROUND`."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, GROUND), image)
    return image.convert("RGB")


def whole(image: Image.Image, size: int) -> np.ndarray:
    """The image at size x size, by bicubic interpolation, each side scaled separately."""
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
