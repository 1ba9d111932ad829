"""Scalars that TensorBoard draws: numbers over the count of what is done.

An events file has times in it, so nothing compares it, and no data set counts it among its own. Watching is not the
work: a disk that is full, or a folder that cannot be made, ends the curves and not the run.
"""

import contextlib
import os
import pathlib
import sys
import time
from collections.abc import Mapping
from typing import Any


class Scalars:
    """Curves in a folder; the file is made with the first point."""

    def __init__(self, folder: str | os.PathLike):
        """Nothing is written yet."""
        self._folder = pathlib.Path(folder)
        self._file: Any = None
        self._failed = False

    def write(self, done: int, values: Mapping[str, float]) -> None:
        """Adds a point to each curve, and sees to it that a reader finds it.

        Args:
          done: where on the horizontal axis.
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
            print(f"jaxcil: no scalars any more in {self._folder}: {error}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Ends the file, if there is one."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # every point is on its way to the disk already
                self._file.close()
