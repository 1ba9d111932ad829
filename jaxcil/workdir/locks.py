"""Locks on files that the system gives back however their process ends, also by a kill or a power cut.

They are flock's: advisory, and of one open file, so two openings in one process keep each other out too.
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

# The file in a directory whose lock is that of the directory, and the ending of those for a part of its work.
LOCK, LEASE = ".lock", ".lease"
# What file systems without locks, or whose lock service is away, answer.
NONE = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class NoLocksError(InputError):
    """The file system has no locks."""


def opened(path: pathlib.Path) -> IO[str]:
    """A file to lock, made if absent; not locked yet.

    Raises:
      InputError: it cannot be written.
    """
    with files.storage_errors(path):
        return path.open("a+")


def acquire(file: IO[str], *, shared: bool = False) -> bool:
    """Takes the lock of an open file, or says that others have it; never waits.

    Args:
      file: open for reading and writing.
      shared: with others who share it too; what one had before is given back.

    Raises:
      NoLocksError: there are none on this file system.
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
    """Gives back the lock of an open file, if it has one."""
    try:
        fcntl.flock(file, fcntl.LOCK_UN)
    except OSError as error:
        if error.errno not in NONE:
            raise


def is_current(file: IO[str], path: pathlib.Path) -> bool:
    """Whether an open file still is the one at a path: who had its lock before may have deleted it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def write_owner(file: IO[str], doing: str = "") -> None:
    """Writes into a locked file who has it, for the messages of others."""
    said = f", {doing}" if doing else ""
    with files.storage_errors(file.name):
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}{said}")
        file.flush()


def signatures(directory: pathlib.Path) -> str:
    """Who signed the lock of a directory or leases in it, in brackets behind a space; nothing, where nobody did."""
    said = set()
    for path in (directory / LOCK, *directory.glob(f".*{LEASE}")):
        with contextlib.suppress(FileNotFoundError):  # given back since the last line
            said.add(path.read_text())
    listed = "; ".join(sorted(said - {""}))
    return f" ({listed})" if listed else ""
