"""How the images of a data set are stored: lossless PNG or WebP, or lossy JPEG or WebP.

TFDS reads all three with `as_data_source`, which like `store.read` looks at the bytes of an image. features.json can
name only PNG and JPEG, so WebP stays unnamed; TensorFlow's decoder, which `as_dataset` uses, knows WebP only in recent
versions: for others, use PNG or JPEG.
"""

import collections
import functools
import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxcil.errors import InputError

FORMATS = ("png", "jpeg", "webp")
# Default of JPEG, with colours at full resolution, which the small images of data sets need.
JPEG_QUALITY = 95
# Encoders release Python's lock; this many are faster than any disk.
THREADS = 4


class Encoding(NamedTuple):
    """A format and its quality."""

    format: str = "png"  # one of FORMATS
    quality: int | None = None  # 1 .. 100; None: lossless

    @property
    def name(self) -> str:
        """The format as people write it."""
        return {"png": "PNG", "jpeg": "JPEG", "webp": "WebP"}[self.format]

    @property
    def in_tfds(self) -> str | None:
        """Its name in features.json."""
        return None if self.format == "webp" else self.format

    def encode(self, image: np.ndarray) -> bytes:
        """An image uint8 [H, W, 3] as the bytes of a file."""
        options: dict[str, Any] = {} if self.quality is None else {"quality": self.quality}
        if self.format == "webp" and self.quality is None:
            options["lossless"] = True
        if self.format == "jpeg":
            options["subsampling"] = 0
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format=self.format, **options)
        return buffer.getvalue()


def png(image: np.ndarray) -> bytes:
    """An image uint8 [H, W, 3] as the bytes of a PNG file; TFDS itself encodes arrays through TensorFlow."""
    return Encoding().encode(image)


def encoding(format: str, quality: int | None) -> Encoding:
    """The encoding of a format, at a quality or the default one.

    Args:
      format: one of FORMATS.
      quality: 1 to 100, of JPEG or WebP; None: JPEG_QUALITY for JPEG, lossless for WebP.

    Raises:
      InputError: a quality of PNG.
    """
    if quality is not None and format == "png":
        raise InputError(f"PNG has no quality, since it is lossless; got quality {quality}. Omit it.")
    return Encoding(format, JPEG_QUALITY if format == "jpeg" and quality is None else quality)


def encoded(images: Iterable[np.ndarray], encode: Callable[[np.ndarray], bytes]) -> Iterator[bytes]:
    """Images in their order, encoded in several threads, a few in advance."""
    ahead: collections.deque[Future[Any]] = collections.deque()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="encode") as pool:
        for job in map(functools.partial(pool.submit, encode), images):
            ahead.append(job)
            if len(ahead) > THREADS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
