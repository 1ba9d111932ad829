"""The Fréchet distance of two Gaussians, and so of two sets of features: FID with any network's features.

    d^2 = |m - m'|^2 + tr C + tr C' - 2 tr (C^(1/2) C' C^(1/2))^(1/2)                   (1)

The last trace is the sum of the singular values of C^(1/2) C'^(1/2), with roots by eigenvalues. So it is symmetric
and real, also for singular covariances, which features of small sets have: there the usual root of the product C C' is
complex, or does not exist. Float64 on the host throughout.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Moments(NamedTuple):
    """Mean and covariance of a set of features, float64."""

    mean: np.ndarray  # [D]
    covariance: np.ndarray  # [D, D], with N - 1


def moments(features: ArrayLike) -> Moments:
    """Mean and covariance of features [N, D], N > 1."""
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"expected features [N, D] of at least 2 images, got shape {features.shape}.")
    mean = features.mean(0)
    away = features - mean
    return Moments(mean, away.T @ away / (len(features) - 1))


def frechet_distance(a: Moments, b: Moments) -> float:
    """The squared distance d^2 by (1), which is what FID reports.

    For N features it is too large by the order of D^2 / N times a feature's variance: compare sets of equal size.

    References:
      Heusel, Ramsauer, Unterthiner, Nessler and Hochreiter, arXiv:1706.08500, equation 6.
    """
    cross = np.linalg.svd(_root(a.covariance) @ _root(b.covariance), compute_uv=False).sum()
    traces = np.trace(a.covariance) + np.trace(b.covariance)
    return float(np.sum((a.mean - b.mean) ** 2) + max(traces - 2 * cross, 0.0))


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T  # rounding makes zeros negative
