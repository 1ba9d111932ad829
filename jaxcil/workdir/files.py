"""Files that are never half-written: written under another name, synced to the disk, renamed."""

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

# What to do when the system refuses a write. Where a library in C++ writes, its error has only the system's text.
REMEDIES = {
    errno.ENOSPC: "Free space",
    errno.EDQUOT: "Free space",
    errno.EFBIG: "Allow larger files (ulimit -f)",
    errno.EROFS: "Make it writable",
    errno.EACCES: "Make it writable",
    errno.EPERM: "Make it writable",
    errno.EIO: "Check the disk",
    errno.EISDIR: "Remove the folder that is in its place",
    errno.ENAMETOOLONG: "Give a shorter name",
}


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a name next to `path` to write a file to, which then replaces `path`, completely or not at all.

    Readers of `path` see the old content or the new, also after a power cut. The folder is made if absent. What a
    killed process left under that name is overwritten, so nothing accumulates; a file has one writer at a time.

    Raises:
      InputError: the disk is full, read-only or broken.
    """
    path = pathlib.Path(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = aside_of(path)
        try:
            yield aside
            sync(aside)
            aside.chmod(0o644)  # some libraries give their files to the owner alone
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        sync(path.parent)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a new folder to write files to, which then becomes `path`, completely or not at all.

    What a killed process left of it is removed first; a folder has one writer at a time.

    Raises:
      InputError: something exists at `path`; or the disk is full, read-only or broken.
    """
    path = pathlib.Path(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path} already exists; give a new folder, or remove it")
    writable_directory(path.parent)
    aside = aside_of(path)
    shutil.rmtree(aside, ignore_errors=True)
    with storage_errors(path):
        aside.mkdir()
        try:
            yield aside
            for item in aside.rglob("*"):
                sync(item)
            sync(aside)
            aside.replace(path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        sync(path.parent)


@contextlib.contextmanager
def storage_errors(path: str | os.PathLike) -> Iterator[None]:
    """Turns the error of a full, read-only or broken disk into a message that says what to do.

    Args:
      path: the file or folder being written.

    Raises:
      InputError: in place of such an error, also where a library reports it in its text alone.
    """
    try:
        yield
    except InputError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        for number, remedy in REMEDIES.items():
            if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
                raise InputError(
                    f"{path} cannot be written: {os.strerror(number)}. {remedy}, then start the same command again: "
                    "what is written is kept, and it resumes from there."
                ) from None
        raise


def aside_of(path: pathlib.Path) -> pathlib.Path:
    """Where a file or folder is written before it is renamed to `path`."""
    return path.with_name(f".{path.name}.aside")


def write(path: str | os.PathLike, data: bytes | str) -> None:
    """Writes a file as `atomic_file` does."""
    with atomic_file(path) as aside:
        aside.write_bytes(data.encode() if isinstance(data, str) else data)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes a value as indented JSON; NaN is refused, since JSON cannot express it."""
    write(path, json_text(value))


def json_text(value: Any) -> str:
    """A value as indented JSON.

    Raises:
      ValueError: a number in it is not finite, which JSON cannot express.
    """
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def read_json(path: str | os.PathLike) -> Any:
    """The value in a JSON file.

    Raises:
      InputError: there is no such file, or it is not JSON.
    """
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None


def is_file(text: str) -> bool:
    """Whether a user's text is the path of a file; a text too long for a path is not."""
    try:
        return pathlib.Path(text).is_file()
    except OSError:
        return False


def is_directory(text: str) -> bool:
    """Whether a user's text is the path of a directory."""
    try:
        return pathlib.Path(text).is_dir()
    except OSError:
        return False


def writable_directory(path: str | os.PathLike) -> pathlib.Path:
    """Makes a directory and its parents, and tries to write in it.

    Raises:
      InputError: it cannot be made or written.
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


def sync(path: pathlib.Path) -> None:
    """Makes a file, or the renames in a directory, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
