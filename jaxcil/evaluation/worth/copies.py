"""Copies among synthetic images: of each other, and of the real images that their generator saw.

In pixels a copy is exact, or near by a given threshold. In features, where a shift or another brightness counts
little, no distance is near by itself: an image is close if its distance is that of the nearest hundredth of the real
test images (of fewer than a hundred, of the nearest one). So about one image in a hundred is close by chance, and of
a generator that copies, nearly all are.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxcil.evaluation.worth.nearest import copied, flat, nearest, nearest_within, repeated

RARE = 0.01  # fraction of real test images that is close
PERCENTILES = range(0, 101, 5)
LISTED = 20  # closest pairs


class FeaturedImages(NamedTuple):
    """Images with a network's features of them."""

    images: np.ndarray  # uint8 [N, H, W, 3]
    labels: np.ndarray  # int32 [N]
    features: np.ndarray  # [N, D]


def copies(
    parts: Mapping[str, FeaturedImages], drawn: Mapping[str, np.ndarray], duplicate_threshold: float
) -> dict[str, Any]:
    """How many images are copies, and how many real ones are.

    Args:
      parts: "synthetic", "real_train", "real_test" and "seen", none of them empty.
      drawn: features [N, D] of "synthetic" and of "real_test", equally many, in which close ones are looked for: the
        more images there are, the smaller are their distances.
      duplicate_threshold: two images at most this many grey levels apart are near-duplicates, exact copies included.

    Returns:
      JSON values. "within" a set: the images that repeat an earlier one exactly, and the fractions that have another
      image near or close. "of_seen": the images that are in the set seen, the fractions near or close to one there,
      and the percentiles 0, 5, ..., 100 of the distance to the nearest. "closest": rows of the synthetic set given
      here and of the one seen, closest pair first.
    """
    pixels = {name: flat(part.images) for name, part in parts.items()}
    of_seen = {name: nearest(pixels[name], pixels["seen"]) for name in ("synthetic", "real_test")}
    close_to_seen = _close(
        *(nearest(parts[name].features, parts["seen"].features).distance for name in of_seen)
    )
    close_within = _close(*(nearest_within(drawn[name]).distance for name in of_seen))
    order = np.argsort(of_seen["synthetic"].distance, kind="stable")[:LISTED]
    within = {
        name: {
            "exact": repeated(parts[name].images),
            "near": float((nearest_within(pixels[name]).distance <= duplicate_threshold).mean()),
        }
        for name in ("synthetic", "real_train")
    }
    beyond = {
        name: {
            "exact": copied(parts[name].images, parts["seen"].images),
            "near": float((neighbours.distance <= duplicate_threshold).mean()),
            "percentiles": [float(value) for value in np.percentile(neighbours.distance, PERCENTILES)],
        }
        for name, neighbours in of_seen.items()
    }
    within["synthetic"]["close"] = close_within
    beyond["synthetic"]["close"] = close_to_seen
    distance, number = of_seen["synthetic"]
    return {
        "within": within,
        "of_seen": beyond,
        "closest": [
            {"synthetic": int(row), "seen": int(number[row]), "distance": float(distance[row])}
            for row in order
        ],
    }


def _close(synthetic: np.ndarray, real_test: np.ndarray) -> float:
    """The fraction of distances at most that of the nearest hundredth of real test images, of one at least."""
    return float((synthetic <= np.quantile(real_test, RARE, method="lower")).mean())
