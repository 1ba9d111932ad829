"""Images as PNG files, for TFDS records and pictures: TFDS itself encodes arrays through TensorFlow."""

import io

import numpy as np
from PIL import Image


def png(image: np.ndarray) -> bytes:
    """An image uint8 [H, W, 3] as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()
