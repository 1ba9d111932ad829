"""Copies among synthetic images: of each other, and of the real images that their generator saw.

In pixels a copy is exact or near, by a distance that one sets. In features, where a shift or another brightness
counts little, no distance is near by itself: there an image counts as close that lies nearer than 99 of 100 real
test images do in its place. So about one in a hundred is close by chance, and of fewer than a hundred real test images
one in as many; of a copying machine's, nearly all are.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxcil.evaluation.worth.nearest import copied, flat, nearest, nearest_within, repeated

RARE = 0.01  # of real test images are close
PERCENTILES = range(0, 101, 5)
LISTED = 20  # closest pairs


class Measured(NamedTuple):
    """Images with what a network says of them."""

    images: np.ndarray  # uint8 [N, H, W, 3]
    labels: np.ndarray  # int32 [N]
    features: np.ndarray  # [N, D]


def copies(parts: Mapping[str, Measured], drawn: Mapping[str, np.ndarray], near: float) -> dict[str, Any]:
    """How many images are copies, beside how many real ones are.

    Args:
      parts: "synthetic", "real_train", "real_test" and "seen", none of them empty.
      drawn: features [N, D] of "synthetic" and of "real_test", as many of both, to look for close ones within: the
        more images there are, the nearer they lie.
      near: two images at most so many grey levels apart are near-duplicates; exact ones are among them.

    Returns:
      JSON values. "within" a set: the images that repeat an earlier one exactly, and the shares that have another
      image near or close. "of_seen": the images that are in the set seen, the shares near or close to one there, and
      the percentiles 0, 5, ..., 100 of the distance to the nearest. "closest": rows among the images given here, of
      the synthetic set and of the one seen, closest pair first.
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
            "near": float((nearest_within(pixels[name]).distance <= near).mean()),
        }
        for name in ("synthetic", "real_train")
    }
    found = {
        name: {
            "exact": copied(parts[name].images, parts["seen"].images),
            "near": float((neighbours.distance <= near).mean()),
            "percentiles": [float(value) for value in np.percentile(neighbours.distance, PERCENTILES)],
        }
        for name, neighbours in of_seen.items()
    }
    within["synthetic"]["close"] = close_within
    found["synthetic"]["close"] = close_to_seen
    distance, number = of_seen["synthetic"]
    return {
        "within": within,
        "of_seen": found,
        "closest": [
            {"synthetic": int(row), "seen": int(number[row]), "distance": float(distance[row])}
            for row in order
        ],
    }


def _close(synthetic: np.ndarray, real_test: np.ndarray) -> float:
    """The share of distances that only the rarest of real test images, one at least, have or go below."""
    return float((synthetic <= np.quantile(real_test, RARE, method="lower")).mean())
