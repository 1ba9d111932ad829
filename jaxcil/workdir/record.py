"""What every directory of a run holds: its config, which may not change, and the time that each stage took."""

import hashlib
import json
import math
import pathlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxcil.errors import InputError
from jaxcil.workdir import files, locks


def pin_config(config: ConfigDict, directory: str | pathlib.Path) -> None:
    """Writes the config into a directory, or refuses if another stands there.

    Raises:
      InputError: names every field that differs, with both values.
    """
    _remember(pathlib.Path(directory), "config.json", json.loads(config.to_json()), "a run of another config")


def pin_data(directory: str | pathlib.Path, **parts: Any) -> None:
    """Writes the checksums of data sets into a directory, or refuses if others stand there.

    A config names a data set by its path; what lies there may have changed since.

    Args:
      directory: of the run.
      **parts: a pytree of arrays for every data set, by name.
    """
    for name, part in parts.items():
        total = hashlib.sha256()
        for leaf in part:
            array = np.asarray(leaf)
            total.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
        checksum = {"sha256": total.hexdigest()}
        _remember(pathlib.Path(directory), f"{name}.json", checksum, f"a run on other data ({name})")


def _remember(directory: pathlib.Path, name: str, wanted: Any, otherwise: str) -> None:
    path = directory / name
    there, here = _flat(files.read_json(path)) if path.exists() else {}, _flat(wanted)
    for field, value in here.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{field} must be finite, got {value}")
    names = [field for field in sorted({*there, *here}) if there.get(field) != here.get(field)]
    if path.exists() and names and _begun(directory):
        lines = "\n".join(f"  {field}: there {there.get(field)}, now {here.get(field)}" for field in names)
        raise InputError(
            f"{directory} holds {otherwise}:\n{lines}\nTake another workdir, or what stands there."
        )
    if names:
        files.write_json(path, wanted)


def _begun(directory: pathlib.Path) -> bool:
    """Whether a directory holds any work: a config that was refused at once may be corrected in its place."""
    return any(path.is_file() and path.parent != directory for path in directory.rglob("*"))


@contextmanager
def locked(directory: str | pathlib.Path, doing: str = "") -> Iterator[None]:
    """Keeps a directory to one process; the lock goes with the process, however it ends.

    Args:
      directory: made if absent.
      doing: what the process does there, for the messages of others.

    Raises:
      InputError: another process has it, or several share it (`synthesis.sharing`).
    """
    path = files.writable_directory(directory) / locks.LOCK
    with locks.opened(path) as file:
        try:
            free = locks.acquire(file)
        except locks.NoLocksError as error:  # refusing would leave no way to work there
            print(
                f"jaxcil: {error}: see to it that no other process works there", file=sys.stderr, flush=True
            )
            free = True
        if not free:
            raise InputError(
                f"another process works in {directory}{locks.signatures(path.parent)}; wait for it, or take another"
            )
        locks.write_owner(file, doing)
        try:
            yield
        finally:
            file.truncate(0)


class Timing:
    """Wall times of the stages of a run, in a file of their own, since results do not depend on them."""

    def __init__(self, path: str | pathlib.Path):
        """Goes on from the file, if there is one."""
        self._path = pathlib.Path(path)
        self.seconds = files.read_json(self._path) if self._path.exists() else {}

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Adds the time of a stage to what earlier calls spent on it, those that were interrupted included.

        What a call had spent that was killed outright (kill -9) is not known.
        """
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.perf_counter() - start, 3)
            files.write_json(self._path, self.seconds)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, with dotted names."""
    if not isinstance(value, dict):
        return {prefix[:-1]: value}
    flat: dict[str, Any] = {}
    for name, item in value.items():
        flat |= _flat(item, f"{prefix}{name}.")
    return flat
