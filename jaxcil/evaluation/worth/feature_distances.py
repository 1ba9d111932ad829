"""How far sets of images lie from a reference set, in the features of one network."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxcil.evaluation.reports.standard_errors import Estimate, groups, jackknife, share
from jaxcil.evaluation.samplers.distances import precision_and_recall
from jaxcil.evaluation.worth.frechet import frechet_distance, moments
from jaxcil.evaluation.worth.kernel_distance import kernel_distance

NEIGHBOURS = 3  # of precision and recall, as in their paper


def feature_distances(features: Mapping[str, np.ndarray], labels: np.ndarray) -> dict[str, Any]:
    """Fréchet and kernel distance, precision and recall of each set to the one called "reference".

    The standard errors of the first two are those of the jackknife; those of precision and recall are those of a
    share of so many images, on manifolds that are taken as given.

    Args:
      features: [N, D] of each set by its name, row n of each of one class.
      labels: int [N], ascending.

    Returns:
      JSON values: the number of images, each measure by the names of the sets, and why one is missing, if it is.
    """
    reference = features["reference"]
    images, dim = reference.shape
    others = {name: points for name, points in features.items() if name != "reference"}
    found: dict[str, Any] = {"images": images, "omitted": {}}
    if images > dim:
        found["frechet"] = {name: _frechet(points, reference)._asdict() for name, points in others.items()}
    else:
        found["omitted"]["frechet"] = f"a covariance of {dim} features needs more than {dim} images"
    found["kernel"] = {
        name: kernel_distance(points, reference, labels)._asdict() for name, points in others.items()
    }
    pairs = {
        name: precision_and_recall(jnp.asarray(reference), jnp.asarray(points), NEIGHBOURS)
        for name, points in others.items()
    }
    for n, measure in enumerate(("precision", "recall")):
        found[measure] = {name: share(float(pair[n]), images)._asdict() for name, pair in pairs.items()}
    return found


def _frechet(x: np.ndarray, y: np.ndarray) -> Estimate:
    of_group = groups(len(x))

    def distance(kept: np.ndarray) -> float:
        rows = np.isin(of_group, kept)
        return frechet_distance(moments(x[rows]), moments(y[rows]))

    return jackknife(distance, len(x))
