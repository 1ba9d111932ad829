"""How several processes fill one data set without communicating.

Every process that draws holds a shared lock on the directory; a process that repairs, imports, begins or extends a set
holds the exclusive lock. A shard is drawn by the process that holds its lease: a lock on a file next to the shard, from
before its first image is drawn until its sidecar is written. The system releases both however a process ends, so
another process takes over what was lost.

On file systems whose locks do not reach from host to host, each process is a numbered worker: it draws every n-th
shard and no other.
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
from jaxcil.workdir import interruption, locks

# Beginning a set takes the exclusive lock for milliseconds; worker 0 may still be waiting for a machine.
SECONDS_FOR_BEGINNING = 10.0
SECONDS_FOR_WORKER_0 = 900.0
SECONDS_PER_TRY = 0.1
FINISHING = f".finishing{locks.LEASE}"


class Worker(NamedTuple):
    """The process that draws shards index, index + count, index + 2 count, ... of a data set."""

    index: int
    count: int


def this_worker(text: str | None) -> Worker | None:
    """The worker that this process is.

    Args:
      text: "i/n" with 0 <= i < n; None takes the numbers of jax.distributed, if the job has several processes.

    Returns:
      None if shards go to whichever process is first.

    Raises:
      InputError: the text is not of this form.
    """
    if text is None:
        return Worker(jax.process_index(), jax.process_count()) if jax.process_count() > 1 else None
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise InputError(f"worker must be i/n with 0 <= i < n, such as 0/4, 1/4, 2/4 and 3/4, got {text!r}.")
    return Worker(int(index), int(count))


@contextlib.contextmanager
def admitted(
    directory: str | os.PathLike,
    worker: Worker | None,
    begin: Callable[[], Manifest],
    join: Callable[[], Manifest | None],
) -> Iterator[Manifest]:
    """Registers this process as a writer; meanwhile no process may begin, extend or repair the set.

    Args:
      directory: exists.
      worker: this process; only worker 0 begins and extends.
      begin: writes the manifest that is asked for, and may raise InputError; called under the exclusive lock.
      join: reads the manifest; None if it is not, or not yet, what is asked for.

    Raises:
      InputError: another process holds the exclusive lock, or others draw by a manifest that would have to grow.
    """
    directory = pathlib.Path(directory)
    beginner = worker is None or worker.index == 0
    patience = SECONDS_FOR_BEGINNING if beginner else SECONDS_FOR_WORKER_0
    end, reported = time.monotonic() + patience, beginner
    with locks.opened(directory / locks.LOCK) as file:
        while True:
            if beginner and _acquire(file, worker):
                begin()
                file.truncate(0)  # the name of a killed process
                locks.release(file)
            manifest = join() if (shared := _acquire(file, worker, shared=True)) else None
            if manifest is not None:
                break
            locks.release(file)
            if not reported:
                reported = True
                print(f"waiting for worker 0 to begin {directory}", file=sys.stderr, flush=True)
            if time.monotonic() > end:
                raise _refusal(directory, worker, shared)
            time.sleep(SECONDS_PER_TRY)
        yield manifest


class Leases:
    """The leases that this process holds; a context manager, which releases those that are left."""

    def __init__(self, directory: str | os.PathLike, worker: Worker | None):
        """Holds nothing yet.

        Args:
          directory: of the data set.
          worker: this process; None may lease any shard.
        """
        self._directory, self._worker = pathlib.Path(directory), worker
        self._held: dict[int, IO[str]] = {}

    def __enter__(self) -> "Leases":
        """Itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Releases the leases that are left."""
        for shard in [*self._held]:
            self.release(shard)

    def acquire(self, shard: int) -> bool:
        """Leases a shard that neither this nor another process holds; it may be complete by then."""
        others = self._worker is not None and shard % self._worker.count != self._worker.index
        if others or shard in self._held:
            return False
        file = _leased(store.lease_path(self._directory, shard), self._worker)
        if file is None:
            return False
        self._held[shard] = file
        return True

    def release(self, shard: int) -> None:
        """Leaves a shard to others, if it is not complete."""
        _end(self._held.pop(shard), store.lease_path(self._directory, shard))


def finishes(directory: str | os.PathLike, worker: Worker | None) -> bool:
    """Whether this process may finish a set whose shards are complete: without locks, worker 0 alone."""
    if worker is None or worker.index == 0:
        return True
    with locks.opened(pathlib.Path(directory) / locks.LOCK) as file:
        try:
            locks.acquire(file)
        except locks.NoLocksError:
            print(
                "all shards are complete; worker 0 finishes the set, or if it has ended, run it again",
                file=sys.stderr,
            )
            return False
    return True


@contextlib.contextmanager
def finishing(directory: str | os.PathLike, worker: Worker | None) -> Iterator[None]:
    """Waits until no other process writes the files of a set whose shards are complete."""
    path = pathlib.Path(directory) / FINISHING
    while (file := _leased(path, worker)) is None:
        interruption.check()
        time.sleep(SECONDS_PER_TRY)
    try:
        yield
    finally:
        _end(file, path)


def _acquire(file: IO[str], worker: Worker | None, *, shared: bool = False) -> bool:
    """As `locks.acquire`; on a file system without locks, numbered workers need none."""
    try:
        return locks.acquire(file, shared=shared)
    except locks.NoLocksError as error:
        if worker is None:
            raise InputError(
                f"{error}. Number the processes: --config.worker=0/2 and 1/2 for two, 0/1 for one alone."
            ) from None
        return True


def _leased(path: pathlib.Path, worker: Worker | None) -> IO[str] | None:
    """The file of a lease, locked and signed; None if another process holds it."""
    while True:
        file = locks.opened(path)
        if not _acquire(file, worker):
            file.close()
            return None
        if locks.is_current(file, path):
            locks.write_owner(file)
            return file
        file.close()  # its last holder had just deleted it


def _end(file: IO[str], path: pathlib.Path) -> None:
    """Deletes a lease and then releases it: in this order, nobody can hold a deleted one."""
    path.unlink(missing_ok=True)
    file.close()


def _refusal(directory: pathlib.Path, worker: Worker | None, shared: bool) -> InputError:
    """Why a process was not admitted."""
    who = locks.signatures(directory)
    if not shared:
        return InputError(
            f"another process has exclusive use of {directory}{who}. Run again when it has ended."
        )
    if worker is not None and worker.index:
        return InputError(
            f"worker 0 has not begun {directory} with this config in {SECONDS_FOR_WORKER_0:g} s. Start it with the "
            f"same config and --config.worker=0/{worker.count}, then this one again."
        )
    return InputError(
        f"other processes draw into {directory}{who}, and this config asks for another or a larger set. "
        "Run again when they have ended, or choose another directory."
    )
