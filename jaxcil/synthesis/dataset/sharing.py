"""How several processes fill one data set without talking.

Every process that draws shares the lock of the directory; who repairs, imports, begins or extends a set has it alone.
A shard is drawn by the process that has the lease on it: a lock on a file beside it, from before its first image is
drawn until its sidecar stands. Both go with the process however it ends, so what was lost another takes up.

Where locks do not reach from host to host, each process is given a share, every n-th shard, and touches no other.
"""

import contextlib
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple

import jax

from jaxcil.errors import InputError
from jaxcil.synthesis.dataset import store
from jaxcil.synthesis.dataset.manifest import Manifest
from jaxcil.workdir import locks

# A beginner has the directory alone for milliseconds, share 0 may first have to find a free machine.
SECONDS_FOR_A_BEGINNER = 10.0
SECONDS_FOR_SHARE_0 = 900.0
BETWEEN_LOOKS = 0.1
FINISHING = f".finishing{locks.LEASE}"


class Share(NamedTuple):
    """Shards index, index + count, index + 2 count, ... of a data set."""

    index: int
    count: int


def own_share(text: str | None) -> Share | None:
    """The share of this process.

    Args:
      text: "i/n" with 0 <= i < n; None takes that of jax.distributed, where there are several processes in one job.

    Returns:
      None where shards go to whoever comes first.

    Raises:
      InputError: the text is no share.
    """
    if text is None:
        return Share(jax.process_index(), jax.process_count()) if jax.process_count() > 1 else None
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise InputError(f"share must be i/n with 0 <= i < n, as 0/4, 1/4, 2/4 and 3/4, got {text!r}.")
    return Share(int(index), int(count))


@contextlib.contextmanager
def admitted(
    directory: str | os.PathLike,
    share: Share | None,
    begin: Callable[[], Manifest],
    join: Callable[[], Manifest | None],
) -> Iterator[Manifest]:
    """Keeps a place among those that draw into a directory, which nobody then begins, extends or repairs.

    Args:
      directory: exists.
      share: of this process; only share 0 begins and extends.
      begin: writes the manifest that is asked for, and may raise InputError; called with the directory alone.
      join: the manifest that stands there; None where it is not, or not yet, what is asked for.

    Raises:
      InputError: another process has the directory alone, or draws by a manifest that would have to grow.
    """
    directory = pathlib.Path(directory)
    beginner = share is None or share.index == 0
    patience = SECONDS_FOR_A_BEGINNER if beginner else SECONDS_FOR_SHARE_0
    end, told = time.monotonic() + patience, beginner
    with locks.opened(directory / locks.LOCK) as file:
        while True:
            if beginner and _take(file, share):
                begin()
                file.truncate(0)  # what a killed process said of itself
                locks.release(file)
            manifest = join() if (together := _take(file, share, shared=True)) else None
            if manifest is not None:
                break
            locks.release(file)
            if not told:
                told = True
                print(f"waiting for share 0 to begin {directory}", file=sys.stderr, flush=True)
            if time.monotonic() > end:
                raise _refusal(directory, share, together)
            time.sleep(BETWEEN_LOOKS)
        yield manifest


class Leases:
    """The shards that this process may draw; a context manager, which gives back all that is left."""

    def __init__(self, directory: str | os.PathLike, share: Share | None):
        """Of a data set; without a share, of whatever no other process has."""
        self._directory, self._share = pathlib.Path(directory), share
        self._held: dict[int, IO[str]] = {}

    def __enter__(self) -> "Leases":
        """Itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Gives back what is left."""
        for shard in [*self._held]:
            self.give_back(shard)

    def take(self, shard: int) -> bool:
        """Takes a shard that neither this nor another process has; it may stand by now."""
        others = self._share is not None and shard % self._share.count != self._share.index
        if others or shard in self._held:
            return False
        file = _leased(store.lease_path(self._directory, shard), self._share)
        if file is None:
            return False
        self._held[shard] = file
        return True

    def give_back(self, shard: int) -> None:
        """Leaves a shard to others, if it does not stand."""
        _end(self._held.pop(shard), store.lease_path(self._directory, shard))


def finishes(directory: str | os.PathLike, share: Share | None) -> bool:
    """Whether this process may finish a set whose shards all stand: where there are no locks, share 0 alone."""
    if share is None or share.index == 0:
        return True
    with locks.opened(pathlib.Path(directory) / locks.LOCK) as file:
        try:
            locks.acquire(file)
        except locks.NoLocksError:
            print(
                "all shards stand; share 0, if it has ended, finishes them when started again",
                file=sys.stderr,
            )
            return False
    return True


@contextlib.contextmanager
def finishing(directory: str | os.PathLike, share: Share | None) -> Iterator[None]:
    """Waits until no other process writes the files of a set whose shards all stand."""
    path = pathlib.Path(directory) / FINISHING
    while (file := _leased(path, share)) is None:
        time.sleep(BETWEEN_LOOKS)
    try:
        yield
    finally:
        _end(file, path)


def _take(file: IO[str], share: Share | None, *, shared: bool = False) -> bool:
    """As `locks.acquire`; where there are no locks, a share makes them needless."""
    try:
        return locks.acquire(file, shared=shared)
    except locks.NoLocksError as error:
        if share is None:
            raise InputError(
                f"{error}. Give each process its share: --config.share=0/2 and 1/2 for two, 0/1 for one alone."
            ) from None
        return True


def _leased(path: pathlib.Path, share: Share | None) -> IO[str] | None:
    """The file of a lease, locked and signed; None where another process has it."""
    while True:
        file = locks.opened(path)
        if not _take(file, share):
            file.close()
            return None
        if locks.is_current(file, path):
            locks.write_owner(file)
            return file
        file.close()  # its last holder had just deleted it


def _end(file: IO[str], path: pathlib.Path) -> None:
    """Deletes a lease and gives it back, in this order: nobody can have the deleted one."""
    path.unlink(missing_ok=True)
    file.close()


def _refusal(directory: pathlib.Path, share: Share | None, together: bool) -> InputError:
    """Why a process was not admitted."""
    who = locks.signatures(directory)
    if not together:
        return InputError(f"another process has {directory} to itself{who}. Start again when it has ended.")
    if share is not None and share.index:
        return InputError(
            f"share 0 has not begun {directory} with this config in {SECONDS_FOR_SHARE_0:g} s. Start it with the same "
            f"config and --config.share=0/{share.count}, then this one again."
        )
    return InputError(
        f"other processes draw into {directory}{who}, and this config asks for another or a larger set. "
        "Start again when they have ended, or take another directory."
    )
