"""How far sets of images are from a reference set, in the features of one network."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil.evaluation.reports.standard_errors import Estimate, groups, jackknife, proportion
from jaxcil.evaluation.worth.frechet import frechet_distance, moments
from jaxcil.evaluation.worth.kernel_distance import kernel_distance

NEIGHBOURS = 3  # of precision and recall, as in their paper


def feature_distances(features: Mapping[str, np.ndarray], labels: np.ndarray) -> dict[str, Any]:
    """Fréchet and kernel distance, precision and recall of each set to the one called "reference".

    The standard errors of the first two come from the jackknife; those of precision and recall are binomial, on
    manifolds that are taken as given.

    Args:
      features: [N, D] of each set by its name; row n has the same class in all of them.
      labels: int [N], ascending.

    Returns:
      JSON values: the number of images, each measure by the names of the sets, and the reason of each omitted one.
    """
    reference = features["reference"]
    images, dim = reference.shape
    others = {name: points for name, points in features.items() if name != "reference"}
    measures: dict[str, Any] = {"images": images, "omitted": {}}
    if images > dim:
        measures["frechet"] = {name: _frechet(points, reference)._asdict() for name, points in others.items()}
    else:
        measures["omitted"]["frechet"] = f"a covariance of {dim} features needs more than {dim} images"
    measures["kernel"] = {
        name: kernel_distance(points, reference, labels)._asdict() for name, points in others.items()
    }
    pairs = {
        name: precision_and_recall(jnp.asarray(reference), jnp.asarray(points), NEIGHBOURS)
        for name, points in others.items()
    }
    for n, measure in enumerate(("precision", "recall")):
        measures[measure] = {
            name: proportion(float(pair[n]), images)._asdict() for name, pair in pairs.items()
        }
    return measures


def precision_and_recall(real: Array, generated: Array, neighbours: int = 3) -> tuple[Array, Array]:
    """The fraction of generated points on the manifold of real ones, and the fraction of real points on theirs.

    A set's manifold is the union of balls around its points, each with the distance to the k-th nearest other point
    of the set as its radius.

    Args:
      real: features [N, D], N > k.
      generated: features [M, D], M > k; N and M should be similar, since denser sets have smaller balls.
      neighbours: k.

    References:
      Kynkäänniemi, Karras, Laine, Lehtinen and Aila, arXiv:1904.06991, equations 1 and 2.
    """
    if min(len(real), len(generated)) <= neighbours:
        raise ValueError(
            f"expected more than {neighbours} points on both sides, got {len(real)} and {len(generated)}."
        )
    return _on_manifold(generated, real, neighbours), _on_manifold(real, generated, neighbours)


def _frechet(x: np.ndarray, y: np.ndarray) -> Estimate:
    of_group = groups(len(x))

    def distance(kept: np.ndarray) -> float:
        rows = np.isin(of_group, kept)
        return frechet_distance(moments(x[rows]), moments(y[rows]))

    return jackknife(distance, len(x))


@functools.partial(jax.jit, static_argnames="neighbours")
def _on_manifold(points: Array, manifold: Array, neighbours: int) -> Array:
    """The fraction of points [N, D] in a ball around any point of a manifold [M, D], 64 rows at a time."""

    def radius(point: Array) -> Array:
        # the nearest is the point itself
        return jax.lax.top_k(-_squares(point, manifold), neighbours + 1)[0][-1]

    radii = -jax.lax.map(radius, manifold, batch_size=64)
    inside = jax.lax.map(lambda point: (_squares(point, manifold) <= radii).any(), points, batch_size=64)
    return jnp.mean(inside.astype(points.dtype))


def _squares(point: Array, others: Array) -> Array:
    """Squared distances [M] of one point [D], from differences: no cancellation between near points."""
    return jnp.sum((point[None] - others) ** 2, -1)
