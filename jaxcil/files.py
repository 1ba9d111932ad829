"""Files that are never half-written: aside, fsync, rename."""

import json
import os
import pathlib
import tempfile
from typing import Any

from jaxcil.errors import InputError


def write(path: str | os.PathLike, data: bytes | str) -> None:
    """Writes a whole file; who reads it sees the old content or the new, also after a power cut."""
    path = pathlib.Path(path)
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(aside, 0o644)  # mkstemp gives the file to its owner alone
        os.replace(aside, path)
    except BaseException:
        pathlib.Path(aside).unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes a value as indented JSON; what is not a number (NaN) is refused, since JSON has no word for it."""
    write(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike) -> Any:
    """The value in a JSON file.

    Raises:
      InputError: if there is no such file, or it is not JSON.
    """
    try:
        return json.loads(pathlib.Path(path).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None


def sync_directory(directory: str | os.PathLike) -> None:
    """Makes the renames in a directory last through a power cut."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
