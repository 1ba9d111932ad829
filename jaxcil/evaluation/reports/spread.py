"""Spread over training seeds and over class orders, separately, and gains paired by both.

With x[o, s] the value of training seed s under class order o, m_o the mean over the S_o seeds of order o,

    mean     = mean_o m_o                                                                    (1)
    seeds^2  = sum_{o, s} (x[o, s] - m_o)^2 / sum_o (S_o - 1)                                (2)
    orders^2 = sum_o (m_o - mean)^2 / (O - 1)                                                (3)

(2) is the deviation within an order, pooled over orders: what a new training would change. (3) is that of the order
means: what another class order would change. It holds what the seeds leave in those means, about seeds^2 / S.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

Pair = tuple[str, int]  # class order, training seed


class Spread(NamedTuple):
    """A mean over runs, and how far runs lie from it, by cause."""

    mean: float
    seeds: float | None  # equation (2); None where no order has two seeds
    orders: float | None  # equation (3); None for one order
    counts: tuple[int, ...]  # seeds of each order


def spread(values: Mapping[Pair, float]) -> Spread:
    """Equations (1) to (3) of at least one value, by class order and training seed."""
    groups = by_order(values)
    means = np.array([group.mean() for group in groups])
    seeds = over_seeds(groups)
    return Spread(
        mean=float(means.mean()),
        seeds=None if seeds is None else float(seeds),
        orders=float(means.std(ddof=1)) if len(means) > 1 else None,
        counts=tuple(map(len, groups)),
    )


def by_order(values: Mapping[Pair, float] | Mapping[Pair, np.ndarray]) -> list[np.ndarray]:
    """The values of each class order, [S_o, ...], in the order in which class orders come."""
    of_order: dict[str, list[float | np.ndarray]] = {}
    for (order, _), value in values.items():
        of_order.setdefault(order, []).append(value)
    return [np.asarray(group) for group in of_order.values()]


def over_seeds(groups: Sequence[np.ndarray]) -> np.ndarray | None:
    """The deviation over seeds, equation (2), of values or curves [S_o, ...]; None where no order has two seeds."""
    free = sum(len(group) - 1 for group in groups)
    if not free:
        return None
    return np.sqrt(sum(((group - group.mean(axis=0)) ** 2).sum(axis=0) for group in groups) / free)


def paired(values: Mapping[Pair, float], base: Mapping[Pair, float]) -> dict[Pair, float]:
    """Each value less the base of the same class order and seed, where there are both."""
    return {pair: value - base[pair] for pair, value in values.items() if pair in base}


def recovered(
    values: Mapping[Pair, float], plain: Mapping[Pair, float], bound: Mapping[Pair, float]
) -> float | None:
    """The gain over plain as a fraction of the upper bound's gain: a ratio of means over the pairs that all have.

    None without such a pair, where the values lose, and where the bound's gain is not positive or lies within its
    spread over seeds or class orders: the ratio would be noise.
    """
    differences = paired(bound, plain)
    gains = {pair: gain for pair, gain in paired(values, plain).items() if pair in differences}
    if not gains:
        return None
    gain, whole = spread(gains).mean, spread({pair: differences[pair] for pair in gains})
    if gain < 0 or whole.mean <= max(0.0, whole.seeds or 0.0, whole.orders or 0.0):
        return None
    return gain / whole.mean
