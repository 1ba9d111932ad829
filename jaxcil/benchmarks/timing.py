"""Times of several ways to do the same work, comparable on a machine that is not quiet."""

import time
from collections.abc import Callable, Mapping

import numpy as np

BUDGET, FEWEST, MOST = 10.0, 3, 30  # seconds of all rounds together; bounds on the number of rounds


def rounds_for(ways: Mapping[str, Callable[[], object]]) -> int:
    """Rounds that take about `BUDGET` seconds; calls every way twice, the first time to compile it."""
    smallest_seconds(ways, 1)
    once = sum(smallest_seconds(ways, 1).values())
    return int(np.clip(BUDGET / once, FEWEST, MOST))


def smallest_seconds(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Calls all ways in turn, `rounds` times, and takes the smallest time of each.

    Other programs only ever add time, and what slows the machine for a while slows all ways alike.

    Args:
      ways: functions by name that return when their work is done; compiled before.
      rounds: at least 1.

    Returns:
      Seconds of one call by name.
    """
    best = dict.fromkeys(ways, np.inf)
    for _ in range(rounds):
        for name, call in ways.items():
            start = time.perf_counter()
            call()
            best[name] = min(best[name], time.perf_counter() - start)
    return best
