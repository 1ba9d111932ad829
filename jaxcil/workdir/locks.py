"""File locks that the operating system releases however the process ends, also by a kill or a power cut.

They are those of flock: advisory, and held by an open file, so that two openings in one process exclude each other too.
"""

import contextlib
import errno
import fcntl
import os
import pathlib
import socket
from typing import IO

from jaxcil.errors import InputError
from jaxcil.workdir import files

# The file whose lock is its directory's, and the ending of files whose lock is that of a part of the work.
LOCK, LEASE = ".lock", ".lease"
# Errors of file systems that have no locks, or whose lock service cannot be reached.
NONE = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class NoLocksError(InputError):
    """The file system has no locks."""


def opened(path: pathlib.Path) -> IO[str]:
    """Opens a file to lock, made if absent; it is not locked yet.

    Raises:
      InputError: it cannot be written.
    """
    with files.storage_errors(path):
        return path.open("a+")


def acquire(file: IO[str], *, shared: bool = False) -> bool:
    """Acquires the lock of an open file without waiting.

    Args:
      file: open for reading and writing.
      shared: take a shared lock; a lock already held is released first.

    Returns:
      False if others hold it.

    Raises:
      NoLocksError: this file system has none.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in NONE:
            raise NoLocksError(f"{file.name} cannot be locked: its file system has no locks") from None
        raise
    return True


def release(file: IO[str]) -> None:
    """Releases the lock of an open file, if it holds one."""
    try:
        fcntl.flock(file, fcntl.LOCK_UN)
    except OSError as error:
        if error.errno not in NONE:
            raise


def is_current(file: IO[str], path: pathlib.Path) -> bool:
    """Whether an open file is still the one at a path: the previous holder of its lock may have deleted it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def write_owner(file: IO[str], doing: str = "") -> None:
    """Writes into a locked file which process holds it, for the messages of others."""
    activity = f", {doing}" if doing else ""
    with files.storage_errors(file.name):
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}{activity}")
        file.flush()


def signatures(directory: pathlib.Path) -> str:
    """The holders of a directory's lock and leases as the end of a message, " (process ...)"; empty without any."""
    owners = set()
    for path in (directory / LOCK, *directory.glob(f".*{LEASE}")):
        with contextlib.suppress(FileNotFoundError):  # released since the last line
            owners.add(path.read_text())
    listed = "; ".join(sorted(owners - {""}))
    return f" ({listed})" if listed else ""
