"""Progress of long work: a bar on a terminal, one line a minute elsewhere, and curves for TensorBoard.

All three tell how much is done, how fast it goes, and the first two how long it will take: the bar by its recent
speed, a line by that since the line before.
"""

import os
import sys
import time
from collections.abc import Mapping
from types import MappingProxyType

from tqdm import tqdm

from jaxcil.workdir.scalars import Scalars

SECONDS_PER_LINE = 60.0
# Of a curve. Work that is over sooner leaves none.
SECONDS_PER_POINT = 5.0


class Progress:
    """Counts towards a total on standard error; a context manager."""

    def __init__(
        self, what: str, total: int, unit: str, done: int = 0, scalars: str | os.PathLike | None = None
    ):
        """Starts at `done`, which is not counted into the speed.

        Args:
          what: the work, in a word or two.
          total: units that it has.
          unit: what is counted, in the singular.
          done: units that were done before.
          scalars: folder for curves of the units done, of their speed and of the values that `reach` is given; None
            draws none.
        """
        self._what, self._total, self._done = what, total, done
        self._bar = tqdm(
            desc=what,
            total=total,
            unit=f" {unit}",
            initial=done,
            disable=None,
            leave=False,
            dynamic_ncols=True,
        )
        self._scalars = None if scalars is None else Scalars(scalars)
        self._line = self._point = (time.monotonic(), done)

    def __enter__(self) -> "Progress":
        """Itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Takes the bar away and ends the curves."""
        self._bar.close()
        if self._scalars:
            self._scalars.close()

    def reach(self, done: int, note: str = "", values: Mapping[str, float] = MappingProxyType({})) -> None:
        """Says how far the work is.

        Args:
          done: units.
          note: a few words on how it goes.
          values: numbers that tell the same to TensorBoard, by the names of their curves.
        """
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._done)
        self._done = done
        now = time.monotonic()
        if self._bar.disable and now - self._line[0] > SECONDS_PER_LINE:
            print(self._told(_speed(self._line, now, done), note), file=sys.stderr, flush=True)
            self._line = (now, done)
        if self._scalars and now - self._point[0] > SECONDS_PER_POINT:
            told = {"done": done, "a second": _speed(self._point, now, done), **values}
            self._scalars.write(done, {f"{self._what}/{name}": value for name, value in told.items()})
            self._point = (now, done)

    def _told(self, speed: float, note: str) -> str:
        """The line of a log."""
        left = tqdm.format_interval((self._total - self._done) / speed) if speed else "unknown time"
        parts = [
            f"{self._what}: {self._done} of {self._total}",
            f"{speed:.3g} a second",
            f"{left} left",
        ]
        return ", ".join([*parts, note] if note else parts)


def _speed(since: tuple[float, int], now: float, done: int) -> float:
    """Units a second since a time and a count."""
    then, before = since
    return (done - before) / (now - then)
