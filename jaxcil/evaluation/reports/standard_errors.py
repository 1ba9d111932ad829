"""Measured values with standard errors: of proportions by formula, of other statistics by the jackknife over groups."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

GROUPS = 10


class Estimate(NamedTuple):
    """A measured value, and how far another sample of the same size would lie from it."""

    value: float
    standard_error: float


def proportion(value: float, count: int) -> Estimate:
    """A proportion in [0, 1] of `count` independent images."""
    return Estimate(value, float(np.sqrt(value * (1 - value) / count)))


def groups(count: int) -> np.ndarray:
    """The group of each row [N] of a set: in turn, so that every group of a set sorted by class has all classes."""
    return np.arange(count) % min(GROUPS, count)


def jackknife(statistic: Callable[[np.ndarray], float], count: int) -> Estimate:
    """A statistic of N rows, with its standard error from leaving out one of G groups at a time.

        se^2 = (G - 1) / G  sum_g (s_g - mean s)^2,    s_g without group g                             (1)

    In the mean it is too large rather than too small. It does not include a bias that all s_g share.

    Args:
      statistic: takes the numbers of the groups that count: all of them, or all but one.
      count: N > 1, in groups as `groups` makes them.

    References:
      Efron and Stein, The jackknife estimate of variance, 1981.
    """
    every = np.arange(min(GROUPS, count))
    without = np.array([statistic(every[every != group]) for group in every])
    spread = np.sum((without - without.mean()) ** 2)
    return Estimate(float(statistic(every)), float(np.sqrt((1 - 1 / len(every)) * spread)))
