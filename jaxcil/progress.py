"""Progress of long work: a bar on a terminal, one line a minute elsewhere."""

import sys
import time

from tqdm import tqdm

SECONDS_A_LINE = 60.0


class Progress:
    """Counts towards a total on standard error; a context manager."""

    def __init__(self, what: str, total: int, unit: str, done: int = 0):
        """Starts at `done`, which is not counted into the speed."""
        self._what, self._total, self._unit, self._done = what, total, unit, done
        self._bar = tqdm(desc=what, total=total, unit=unit, initial=done, disable=None, leave=False)
        self._told = time.monotonic()

    def __enter__(self) -> "Progress":
        """Itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Takes the bar away."""
        self._bar.close()

    def reach(self, done: int, note: str = "") -> None:
        """Says how far the work is, with a few words on how it goes."""
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._done)
        self._done = done
        if self._bar.disable and time.monotonic() - self._told > SECONDS_A_LINE:
            self._told = time.monotonic()
            print(f"{self._what}: {done} of {self._total} {self._unit} {note}", file=sys.stderr, flush=True)
