"""Files that are never half-written: aside, fsync, rename."""

import contextlib
import errno
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

from jaxcil.errors import InputError

# What to do when the system refuses a write. Where a library in C++ writes, only the words of the system come back.
REMEDIES = {
    errno.ENOSPC: "Free space",
    errno.EDQUOT: "Free space",
    errno.EFBIG: "Allow larger files (ulimit -f)",
    errno.EROFS: "Make it writable",
    errno.EACCES: "Make it writable",
    errno.EPERM: "Make it writable",
    errno.EIO: "Look after the disk",
}


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """A name beside `path` to write a file to; then it takes its place, whole and on the disk, or not at all.

    Who reads `path` sees the old content or the new, also after a power cut. The folder is made if absent. What a
    killed process left beside it is written over, so no rubbish gathers; a file has one writer at a time.

    Raises:
      InputError: the disk is full, read-only or broken.
    """
    path = pathlib.Path(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.aside")
        try:
            yield aside
            with aside.open("rb") as file:
                os.fsync(file.fileno())
            aside.chmod(0o644)  # some libraries give their files to the owner alone
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        _sync(path.parent)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """A new folder beside `path` to write files to; then it takes that name, whole and on the disk, or not at all.

    What a killed process left beside it is removed first; a folder has one writer at a time.

    Raises:
      InputError: if there is something at `path` already; or the disk is full, read-only or broken.
    """
    path = pathlib.Path(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path} is there already; give a new folder, or remove it")
    writable_directory(path.parent)
    aside = path.with_name(f".{path.name}.aside")
    shutil.rmtree(aside, ignore_errors=True)
    with storage_errors(path):
        aside.mkdir()
        try:
            yield aside
            for item in aside.rglob("*"):
                _sync(item)
            _sync(aside)
            aside.replace(path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        _sync(path.parent)


@contextlib.contextmanager
def storage_errors(path: str | os.PathLike) -> Iterator[None]:
    """Turns what the system says of a full, read-only or broken disk into a message that says what to do.

    Args:
      path: what is written inside.

    Raises:
      InputError: in place of such an error, also where a library tells of it in words alone.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        for number, remedy in REMEDIES.items():
            if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
                raise InputError(
                    f"{path} cannot be written: {os.strerror(number)}. {remedy}, then start the same command again: "
                    "what is written stays, and it goes on from there."
                ) from None
        raise


def write(path: str | os.PathLike, data: bytes | str) -> None:
    """Writes a whole file aside."""
    with atomic_file(path) as aside:
        aside.write_bytes(data.encode() if isinstance(data, str) else data)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes a value as indented JSON; what is not a number (NaN) is refused, since JSON has no word for it."""
    write(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike) -> Any:
    """The value in a JSON file.

    Raises:
      InputError: if there is no such file, or it is not JSON.
    """
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None


def is_file(text: str) -> bool:
    """Whether a text that a user gave is the path of a file; one too long for a path is none."""
    try:
        return pathlib.Path(text).is_file()
    except OSError:
        return False


def is_directory(text: str) -> bool:
    """Whether a text that a user gave is the path of a directory."""
    try:
        return pathlib.Path(text).is_dir()
    except OSError:
        return False


def writable_directory(path: str | os.PathLike) -> pathlib.Path:
    """Makes a directory and its parents, and tries to write in it.

    Raises:
      InputError: if it cannot be made or written.
    """
    directory = pathlib.Path(path)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise InputError(
            f"{directory} cannot be written ({error.strerror}); give a directory that you may write"
        ) from None
    return directory


def _sync(path: pathlib.Path) -> None:
    """Makes a file, or the renames in a directory, last through a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
