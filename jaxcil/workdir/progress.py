"""Progress of long work: a bar on a terminal, one line a minute elsewhere, and curves for TensorBoard.

All three show how much is done and how fast it goes; the first two also how long it will take, the bar by its recent
speed, a line by the speed since the line before.
"""

import contextlib
import os
import pathlib
import sys
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from tqdm import tqdm

from jaxcil.workdir import interruption

SECONDS_PER_LINE = 60.0
# Of a curve. Work that is over sooner leaves none.
SECONDS_PER_POINT = 5.0


class Progress:
    """Counts towards a total on standard error; a context manager."""

    def __init__(
        self, what: str, total: int, unit: str, done: int = 0, scalars: str | os.PathLike | None = None
    ):
        """Starts at `done`, which does not count towards the speed.

        Args:
          what: the work, in a word or two.
          total: units in the whole work.
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
        """Removes the bar and ends the curves."""
        self._bar.close()
        if self._scalars:
            self._scalars.close()

    def reach(self, done: int, note: str = "", values: Mapping[str, float] = MappingProxyType({})) -> None:
        """Shows how far the work is; called where it can be resumed.

        Args:
          done: units.
          note: a few words on how it goes.
          values: the same as numbers for TensorBoard, by the names of their curves.

        Raises:
          Interrupted: the process was asked to end.
        """
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._done)
        self._done = done
        now = time.monotonic()
        if self._bar.disable and now - self._line[0] > SECONDS_PER_LINE:
            print(self._text(_speed(self._line, now, done), note), file=sys.stderr, flush=True)
            self._line = (now, done)
        if self._scalars and now - self._point[0] > SECONDS_PER_POINT:
            point = {"done": done, "a second": _speed(self._point, now, done), **values}
            self._scalars.write(done, {f"{self._what}/{name}": value for name, value in point.items()})
            self._point = (now, done)
        interruption.check()

    def _text(self, speed: float, note: str) -> str:
        """The line of a log."""
        left = tqdm.format_interval((self._total - self._done) / speed) if speed else "unknown time"
        parts = [
            f"{self._what}: {self._done} of {self._total}",
            f"{speed:.3g} a second",
            f"{left} left",
        ]
        return ", ".join([*parts, note] if note else parts)


class Scalars:
    """Curves in a folder, for TensorBoard; the file is made with the first point.

    An events file has times in it, so nothing compares it, and no data set counts it among its own. TensorBoard output
    is best effort: if it fails, the curves stop and the run continues.
    """

    def __init__(self, folder: str | os.PathLike):
        """Nothing is written yet."""
        self._folder = pathlib.Path(folder)
        self._file: Any = None
        self._failed = False

    def write(self, done: int, values: Mapping[str, float]) -> None:
        """Adds a point to each curve, and flushes it for readers.

        Args:
          done: the place on the horizontal axis.
          values: by the name of the curve; a slash in it makes groups.
        """
        if self._failed:
            return
        try:
            # here, since most commands do without; the writers above these two keep a thread, which would
            # wait for ever once it had failed
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
            from tensorboardX.summary import scalar

            if self._file is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                # the process in its name: of several that share a folder each writes its own file
                self._file = EventsWriter(str(self._folder / "events"), f".{os.getpid()}")
            for name, value in values.items():
                self._file.write_event(Event(wall_time=time.time(), step=done, summary=scalar(name, value)))
            self._file.flush()
        except Exception as error:
            self._failed = True
            print(f"jaxcil: no more scalars in {self._folder}: {error}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Ends the file, if there is one."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # every point is on its way to the disk already
                self._file.close()


def _speed(since: tuple[float, int], now: float, done: int) -> float:
    """Units per second since a time and a count."""
    then, before = since
    return (done - before) / (now - then)
