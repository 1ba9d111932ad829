"""scikit-learn's handwritten digits as a TFDS builder, in three parts that never meet.

1797 grey images of 8 x 8 pixels (the test part of the UCI set "Optical Recognition of Handwritten Digits",
Alpaydin and Kaynak, 1998), upscaled once, here, to 16 x 16 x 3 by bicubic interpolation. The parts are disjoint
and stratified: 600 images to train an image generator with, 700 training and 497 test images of the benchmark.
An image's part follows from the checksum of its pixels, so it never changes.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from jaxcil.data.encoding import png

CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PARTS = {"generator": 600, "train": 700, "test": 497}
SIDE = 16


class JaxcilDigits(tfds.core.GeneratorBasedBuilder):
    """Handwritten digits of 16 x 16 x 3 with the words zero ... nine as class names."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(SIDE, SIDE, 3), dtype=np.uint8, encoding_format="png"),
                "label": tfds.features.ClassLabel(names=CLASS_NAMES),
                "index": np.int64,  # position in scikit-learn's array: TFDS stores records in the order of a hash
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=features,
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
            license="CC BY 4.0",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        from sklearn.datasets import (
            load_digits,
        )  # here, because it costs a second and reading does not need it

        digits: Any = load_digits()
        parts = split(digits.images, digits.target)
        return {
            part: self._generate_examples(digits.images, digits.target, rows) for part, rows in parts.items()
        }

    def _generate_examples(
        self, images: np.ndarray, labels: np.ndarray, rows: np.ndarray
    ) -> Iterator[tuple[int, dict]]:
        for row in rows.tolist():
            # bytes of a PNG, since TFDS encodes arrays through TensorFlow
            yield (
                row,
                {"image": png(np.asarray(upscale(images[row]))), "label": int(labels[row]), "index": row},
            )


def upscale(image: np.ndarray) -> Image.Image:
    """An image of 8 x 8 in [0, 16] as one of 16 x 16 x 3 in [0, 255]."""
    grey = Image.fromarray(np.round(image * (255 / 16)).astype(np.uint8))
    return grey.resize((SIDE, SIDE), Image.Resampling.BICUBIC).convert("RGB")


def split(images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Row numbers [600], [700], [497] of the three parts, each in ascending order.

    Within a class the images are ordered by the SHA-256 of their pixels; the parts take them one after the
    other. A class gives each part its share of the class, rounded down, and the largest remainders fill up.
    """
    by_class = []
    for label in range(len(CLASS_NAMES)):
        rows = np.flatnonzero(labels == label)
        digests = [hashlib.sha256(np.uint8(images[row]).tobytes()).digest() for row in rows]
        by_class.append(rows[sorted(range(len(rows)), key=lambda n: (digests[n], n))])
    taken = np.zeros(len(by_class), int)
    sizes = np.array([len(rows) for rows in by_class])
    parts = {}
    for part, total in PARTS.items():
        share = total * sizes / len(labels)
        counts = np.floor(share).astype(int)
        fill = np.argsort(counts - share, kind="stable")[: total - counts.sum()]
        counts[fill] += 1
        counts = np.minimum(counts, sizes - taken)
        if part == list(PARTS)[-1]:
            counts = sizes - taken  # the last part takes what is left
        parts[part] = np.sort(
            np.concatenate([rows[t : t + n] for rows, t, n in zip(by_class, taken, counts)])
        )
        taken += counts
    return parts
