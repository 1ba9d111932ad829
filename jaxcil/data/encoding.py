"""How the images of a data set are stored: PNG or WebP without loss, JPEG or WebP with some.

TFDS reads all three by `as_data_source`, which like `store.read` goes by the bytes of an image. But features.json has
words for PNG and JPEG alone, so that it leaves WebP unnamed, and TensorFlow's decoder, by which `as_dataset` reads,
came to know WebP late: where it does not, PNG or JPEG must do.
"""

import collections
import functools
import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxcil.data.png import png
from jaxcil.errors import InputError, unknown_name

FORMATS = ("png", "jpeg", "webp")
# Of JPEG, where none is given; with colours at full resolution, which the small images of data sets need.
JPEG_QUALITY = 95
# Encoders leave Python's lock; more than these are faster than any disk.
THREADS = 4


class Encoding(NamedTuple):
    """A format and its quality."""

    format: str = "png"  # one of FORMATS
    quality: int | None = None  # 1 .. 100; None is without loss

    @property
    def name(self) -> str:
        """The format as people write it."""
        return {"png": "PNG", "jpeg": "JPEG", "webp": "WebP"}[self.format]

    @property
    def in_tfds(self) -> str | None:
        """What features.json calls it."""
        return None if self.format == "webp" else self.format

    def encode(self, image: np.ndarray) -> bytes:
        """An image uint8 [H, W, 3] as the bytes of a file."""
        if self.format == "png":
            return png(image)
        options: dict[str, Any] = {"lossless": True} if self.quality is None else {"quality": self.quality}
        if self.format == "jpeg":
            options["subsampling"] = 0
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format=self.format, **options)
        return buffer.getvalue()


def encoding(format: str, quality: int | None) -> Encoding:
    """The encoding of a format, at the quality given or the usual one.

    Args:
      format: png, jpeg or webp.
      quality: 1 to 100, of JPEG or WebP; None is JPEG_QUALITY for JPEG, and no loss for WebP.

    Raises:
      InputError: there is no such format, or no such quality of it.
    """
    if format not in FORMATS:
        raise unknown_name("image format", format, FORMATS)
    if quality is not None and format == "png":
        raise InputError(f"PNG has no quality, since it loses nothing; got quality {quality}. Leave it away.")
    if quality is not None and not 1 <= quality <= 100:
        raise InputError(f"quality must lie in [1, 100], got {quality}.")
    return Encoding(format, JPEG_QUALITY if format == "jpeg" and quality is None else quality)


def encoded(images: Iterable[np.ndarray], encode: Callable[[np.ndarray], bytes]) -> Iterator[bytes]:
    """Images in their order, encoded in several threads, a few ahead of the one asked for."""
    ahead: collections.deque[Future[Any]] = collections.deque()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="encode") as pool:
        for job in map(functools.partial(pool.submit, encode), images):
            ahead.append(job)
            if len(ahead) > THREADS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
