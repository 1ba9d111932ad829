"""What the workdir of a command holds next to its results: config, checksums of data and files, times, a lock.

Every file that a later call reads has its checksum next to it, in FILE.sha256, as `sha256sum` writes it; so
`sha256sum -c FILE.sha256` checks it too. A file whose checksum differs is named and never used: it is made again
where it can be, and otherwise refused.
"""

import contextlib
import hashlib
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np

from jaxcil.errors import InputError
from jaxcil.workdir import files, locks

CONFIG, CHECKSUM = "config.json", ".sha256"
TENSORBOARD = "tensorboard"  # a folder of curves; they carry times, and nothing reads them


def write_checked(path: str | os.PathLike, data: bytes | str) -> None:
    """Writes a whole file and its checksum; one without the other is never taken for a result.

    The new checksum is on the disk before the file is replaced, and takes its name after it: a process killed in
    between leaves a file whose checksum waits under another name, where readers and `locked` look for it.

    Raises:
      InputError: the disk is full, read-only or broken.
    """
    path = pathlib.Path(path)
    content = data.encode() if isinstance(data, str) else data
    with files.atomic_file(_checksum_path(path)) as aside:
        aside.write_text(_line(path, content))
        files.sync(aside)
        files.write(path, content)


def write_checked_json(path: str | os.PathLike, value: Any) -> None:
    """Writes a value as indented JSON with its checksum; NaN is refused, since JSON cannot express it."""
    write_checked(path, files.json_text(value))


def read_checked(path: str | os.PathLike) -> bytes | None:
    """The content of a file that `write_checked` wrote and that can be made again.

    Returns:
      None if there is no such file, or if it is damaged or lacks its checksum, which is said on standard error.

    Raises:
      InputError: the file may not be read.
    """
    content, fault = _examined(pathlib.Path(path))
    if fault:
        print(f"jaxcil: {fault}; it will be made again", file=sys.stderr, flush=True)
    return content


def read_checked_json(path: str | os.PathLike) -> Any:
    """The value in a JSON file that `write_checked_json` wrote, or None as in `read_checked`."""
    content = read_checked(path)
    return None if content is None else _parsed(path, content)


def read_kept(path: str | os.PathLike, remedy: str) -> bytes | None:
    """The content of a file that `write_checked` wrote and that cannot be made again, or not without being asked.

    Args:
      path: of the file.
      remedy: what the user can do if it is damaged: a sentence for the message.

    Returns:
      None if there is no such file.

    Raises:
      InputError: it is damaged, lacks its checksum, or may not be read.
    """
    content, fault = _examined(pathlib.Path(path))
    if fault:
        raise InputError(f"{fault}. {remedy}")
    return content


def read_kept_json(path: str | os.PathLike, remedy: str) -> Any:
    """The value in such a file that `write_checked_json` wrote, or None as in `read_kept`."""
    content = read_kept(path, remedy)
    return None if content is None else _parsed(path, content)


def read_result(path: str | os.PathLike) -> Any:
    """The value in a JSON file that people copy: compared with its checksum if that was copied too.

    Raises:
      InputError: there is no such file, it is damaged, or it is not JSON.
    """
    if not has_checksum(pathlib.Path(path)):
        return files.read_json(path)
    return read_kept_json(
        path, "Bring back the file that was written, or run the command that writes it again."
    )


def has_checksum(path: pathlib.Path) -> bool:
    """Whether a checksum was written with a file."""
    checksum = _checksum_path(path)
    return checksum.exists() or files.aside_of(checksum).exists()


def pinned_config(directory: str | os.PathLike) -> dict[str, Any] | None:
    """The config that a directory was begun with; None where it has none yet.

    Raises:
      InputError: the config is damaged, or is absent although the directory holds work, which another config
        could have made.
    """
    path = pathlib.Path(directory) / CONFIG
    config = read_kept_json(path, "Bring back the file that was written, or give another workdir.")
    begun = work(path.parent)
    if config is None and begun is not None:
        raise InputError(
            f"{directory} holds work ({begun.relative_to(path.parent)}) but no {CONFIG}, so its settings are unknown. "
            "Bring the file back, or give another workdir."
        )
    return config


def differing(there: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The fields in which two nested configs of JSON values differ, by dotted name: (value there, value here).

    A field that one of them lacks counts as None.
    """
    old, new = _flat(there), _flat(here)
    return {
        field: (old.get(field), new.get(field))
        for field in sorted({*old, *new})
        if old.get(field) != new.get(field)
    }


def pin_config(config: Mapping[str, Any], directory: str | os.PathLike) -> None:
    """Writes the config into a directory with its checksum, or refuses if the directory holds work of another one.

    As long as there is no work, a config may be corrected in place.

    Args:
      config: nested dicts of values that JSON can express.
      directory: exists.

    Raises:
      InputError: names every field that differs, with both values; a number that is not finite; or as in
        `pinned_config`.
    """
    _check_finite(config)
    _pin(pathlib.Path(directory) / CONFIG, pinned_config(directory), config, "a run of another config")


def pin_data(directory: str | os.PathLike, *, added: bool = False, **parts: Any) -> None:
    """Writes the checksums of data sets into a directory, or refuses if it holds those of other data.

    A config names a data set by its path, and what is at that path may change.

    Args:
      directory: the run's.
      added: whether these data may be new to a directory that holds work: drawn there, or needed since the run grew.
      **parts: a pytree of arrays for every data set, by name.

    Raises:
      InputError: the data differ, or the checksums are damaged or absent although the directory holds work.
    """
    directory = pathlib.Path(directory)
    remedy = "Bring back the file that was written, or give another workdir."
    for name, part in parts.items():
        path = directory / f"{name}.json"
        pinned = read_kept_json(path, remedy)
        if pinned is None and not added and (begun := work(directory)) is not None:
            raise InputError(
                f"{directory} holds work ({begun.relative_to(directory)}) but no {path.name}, so it is unknown on "
                f"which data. {remedy}"
            )
        total = hashlib.sha256()
        for leaf in part:
            array = np.asarray(leaf)
            total.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
        _pin(path, pinned, {"sha256": total.hexdigest()}, f"a run on other data ({name})")


@contextlib.contextmanager
def undone_if_refused(directory: str | os.PathLike) -> Iterator[None]:
    """Removes a lock and empty folders again that a command made and left behind an exception.

    Args:
      directory: of the command, which may be absent.
    """
    directory = pathlib.Path(directory)
    lock = directory / locks.LOCK
    absent = [path for path in (directory, *directory.parents) if not path.exists()]
    unlocked = not lock.exists()
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError, InputError):  # the exception below matters more
            if not unlocked or _removed(lock):
                for folder in absent:
                    folder.rmdir()  # up to one that is not empty
        raise


def _removed(lock: pathlib.Path) -> bool:
    """Whether there is no lock any more: it is removed unless another process has it."""
    if lock.exists():
        with locks.opened(lock) as file:
            if not locks.acquire(file) or not locks.is_current(file, lock):
                return False
            lock.unlink()
    return True


@contextlib.contextmanager
def locked(directory: str | os.PathLike, doing: str = "") -> Iterator[None]:
    """Keeps a directory to one process; the lock goes with the process, however it ends.

    Args:
      directory: made if absent; removed again if an exception leaves it empty.
      doing: what the process does there, for the messages of others.

    Raises:
      InputError: another process has it, or several share it (`synthesis.sharing`).
    """
    directory = pathlib.Path(directory)
    with undone_if_refused(directory), _exclusive(files.writable_directory(directory), doing) as file:
        _settle(directory)
        try:
            yield
        finally:
            file.truncate(0)


@contextlib.contextmanager
def _exclusive(directory: pathlib.Path, doing: str) -> Iterator[IO[str]]:
    """The lock of a directory, signed."""
    path = directory / locks.LOCK
    while True:
        with locks.opened(path) as file:
            try:
                free = locks.acquire(file)
            except locks.NoLocksError as error:  # refusing would leave no way to work there
                print(
                    f"jaxcil: {error}: make sure that no other process works there",
                    file=sys.stderr,
                    flush=True,
                )
                free = True
            if not free:
                raise InputError(
                    f"another process works in {directory}{locks.signatures(directory)}; wait for it, or give another "
                    "directory"
                )
            if not locks.is_current(file, path):  # a process that was refused has just removed it
                continue
            locks.write_owner(file, doing)
            yield file
            return


class Timing:
    """Wall times of a run's stages, in a file of their own, since results do not depend on them."""

    def __init__(self, path: str | os.PathLike):
        """Continues from the file, if there is one."""
        self._path = pathlib.Path(path)
        self.seconds: dict[str, float] = read_checked_json(self._path) or {}

    @contextlib.contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Adds the time of a stage to what earlier calls spent on it, interrupted ones included.

        Time spent in a call that was killed by SIGKILL is not counted.
        """
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - start)

    def add(self, stage: str, seconds: float) -> None:
        """Adds to what a stage has taken so far."""
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + seconds, 3)
        write_checked_json(self._path, self.seconds)


def _checksum_path(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(f"{path.name}{CHECKSUM}")


def _line(path: pathlib.Path, content: bytes) -> str:
    """What `sha256sum` prints of a file in its own folder."""
    return f"{hashlib.sha256(content).hexdigest()}  {path.name}\n"


def _examined(path: pathlib.Path) -> tuple[bytes | None, str]:
    """The content of a file, and nothing; or None, and what is wrong with it, which is nothing if it is absent."""
    checksum = _checksum_path(path)
    try:
        if not path.exists():
            return None, ""
        content = path.read_bytes()
        line = _line(path, content)
        lines = [
            place.read_bytes().decode(errors="replace")
            for place in (checksum, files.aside_of(checksum))
            if place.exists()
        ]
    except OSError as error:
        raise InputError(
            f"{path} and its checksum cannot be read: {error.strerror}. Make them readable."
        ) from None
    if line in lines:
        return content, ""
    if not lines:
        return (
            None,
            f"{path} has no checksum: {checksum.name} is missing, as next to files of earlier versions",
        )
    expected, computed = lines[0].partition(" ")[0].strip()[:64], line.partition(" ")[0]
    return None, f"{path} is damaged: its SHA-256 should be {expected!r}, but is {computed!r}"


def _settle(directory: pathlib.Path) -> None:
    """Gives checksums that a killed process left aside their names, where they are those of the files."""
    for aside in directory.rglob(files.aside_of(pathlib.Path(f"*{CHECKSUM}")).name):
        checksum = aside.with_name(aside.name.removeprefix(".").removesuffix(".aside"))
        path = checksum.with_name(checksum.name.removesuffix(CHECKSUM))
        if path.is_file() and aside.read_bytes() == _line(path, path.read_bytes()).encode():
            aside.replace(checksum)
        else:
            aside.unlink()


def _parsed(path: str | os.PathLike, content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from None


def _pin(path: pathlib.Path, there: Any, here: Mapping[str, Any], otherwise: str) -> None:
    """Writes a value that may not change once the directory holds work."""
    value = json.loads(json.dumps(here))  # with lists for tuples, as it would be read
    fields = differing(there or {}, value)
    if there is not None and fields and work(path.parent) is not None:
        lines = "\n".join(f"  {field}: there {old}, now {new}" for field, (old, new) in fields.items())
        raise InputError(
            f"{path.parent} holds {otherwise}:\n{lines}\nGive another workdir, or what this one was begun with."
        )
    if there is None or fields:
        write_checked_json(path, value)


def work(directory: pathlib.Path) -> pathlib.Path | None:
    """A file that a stage has left in a directory; locks, leases, files not yet whole and curves are none."""
    for path in sorted(directory.rglob("*")):
        parts = path.relative_to(directory).parts
        hidden = any(part.startswith(".") for part in parts)
        if len(parts) > 1 and not hidden and parts[0] != TENSORBOARD and path.is_file():
            return path
    return None


def _check_finite(config: Mapping[str, Any]) -> None:
    for field, value in _flat(config).items():
        for number in value if isinstance(value, list | tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise InputError(f"{field} must be finite, got {number}")


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted names."""
    if not isinstance(value, Mapping):
        return {prefix[:-1]: value}
    flat: dict[str, Any] = {}
    for name, item in value.items():
        flat |= _flat(item, f"{prefix}{name}.")
    return flat
