"""The kernel distance of two sets of features, and so KID with any network's features.

    d^2 = E k(x, x') + E k(y, y') - 2 E k(x, y),    k(x, y) = (x . y / D + 1)^3                        (1)

estimated without bias: no image is a pair with itself. It needs no more images than D, unlike the Fréchet distance.
Float64 on the host throughout, a block of rows at a time.
"""

import numpy as np
from numpy.typing import ArrayLike

from jaxcil.evaluation.reports.standard_errors import GROUPS, Estimate, groups, jackknife

ROWS = 512  # of a block


def kernel_distance(x: ArrayLike, y: ArrayLike, labels: ArrayLike) -> Estimate:
    """The squared distance d^2 by (1) of two sets that have equally many images of each class; it may be negative.

    In a set with N_c images of class c, pairs of one class are rarer than in the distribution, since no image is a
    pair with itself. The pairs of one class that exist also count for those that are missing:

        E k(x, x') = N^-2 (sum_ij k_ij + sum_c sum_ij in c (k_ij - k_ii) / (N_c - 1)),    k_ij = k(x_i, x_j),   (2)

    which is the mean over all other pairs for one class. The paper averages over random subsets; here every pair
    counts, and the standard error comes from leaving out a tenth of the images at a time.

    Args:
      x: features [N, D].
      y: features [N, D] of the other set.
      labels: int [N], the classes of the rows of both; at least 3 rows each.

    References:
      Bińkowski, Sutherland, Arbel and Gretton, arXiv:1801.01401, section 3 and equation 4.
    """
    labels = np.asarray(labels)
    x, y = (np.asarray(points, np.float64) for points in (x, y))
    sizes = np.unique(labels, return_counts=True)[1]
    if not len(x) == len(y) == len(labels) or sizes.min() < 3:
        raise ValueError(
            f"expected at least 3 rows of each class in both sets, got {len(x)} and {len(y)} rows, and labels of "
            f"classes with {sizes.min()} or more."
        )
    order = np.argsort(labels, kind="stable")
    x, y = x[order], y[order]
    member = np.eye(GROUPS)[groups(len(labels))]  # [N, G]
    sums = _sums(x, x, member) + _sums(y, y, member) - 2 * _sums(x, y, member)
    classes = [slice(stop - size, stop) for size, stop in zip(sizes, np.cumsum(sizes))]
    within = np.stack([sum(_sums(z[c], z[c], member[c]) for z in (x, y)) for c in classes])  # [C, G, G]
    own = np.stack(
        [sum(_kernel((z[c] ** 2).sum(1), z.shape[1]) @ member[c] for z in (x, y)) for c in classes]
    )
    counts = np.stack([member[c].sum(0) for c in classes])  # [C, G]

    def distance(kept: np.ndarray) -> float:
        size = counts[:, kept].sum(1)
        of_classes = within[:, kept][:, :, kept].sum((1, 2)) - size * own[:, kept].sum(1)
        return float((sums[kept][:, kept].sum() + (of_classes / (size - 1)).sum()) / size.sum() ** 2)

    return jackknife(distance, len(labels))


def _kernel(products: np.ndarray, dim: int) -> np.ndarray:
    scaled = products / dim + 1
    return scaled * scaled * scaled


def _sums(x: np.ndarray, y: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Sums [G, G] of the kernel over all pairs of rows, by the groups of both."""
    total = np.zeros((member.shape[1],) * 2)
    for start in range(0, len(x), ROWS):
        rows = slice(start, start + ROWS)
        total += member[rows].T @ (_kernel(x[rows] @ y.T, x.shape[1]) @ member)
    return total
