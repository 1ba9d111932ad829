"""What every directory of a run holds: its config, which may not change, and the time that each stage took."""

import json
import pathlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ml_collections import ConfigDict

from jaxcil import files
from jaxcil.errors import InputError


def remember_config(config: ConfigDict, directory: str | pathlib.Path) -> None:
    """Writes the config into a directory, or refuses if another stands there.

    Raises:
      InputError: names every field that differs, with both values.
    """
    path = pathlib.Path(directory) / "config.json"
    wanted = json.loads(config.to_json())
    if not path.exists():
        files.write_json(path, wanted)
        return
    there, here = _flat(files.read_json(path)), _flat(wanted)
    names = [name for name in sorted({*there, *here}) if there.get(name) != here.get(name)]
    if names:
        lines = "\n".join(f"  {name}: there {there.get(name)}, now {here.get(name)}" for name in names)
        raise InputError(
            f"{directory} holds a run of another config:\n{lines}\n"
            "Take another workdir, or the config that stands there."
        )


class Timing:
    """Wall times of the stages of a run, in a file of their own, since results do not depend on them."""

    def __init__(self, path: str | pathlib.Path):
        """Goes on from the file, if there is one."""
        self._path = pathlib.Path(path)
        self.seconds = files.read_json(self._path) if self._path.exists() else {}

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Adds the time of a stage to what earlier calls spent on it."""
        start = time.perf_counter()
        yield
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
