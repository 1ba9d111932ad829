"""Names in the files of data sets that earlier versions wrote, translated to those of today when they are read.

Files are written with today's names. Nothing that decides the pixels of an image was ever renamed, so the hashes of
configs and shards are those of the earlier versions.
"""

from collections.abc import Mapping
from typing import Any

MANIFEST = {"images_a_class": "images_per_class"}
NOTES = {"calls": "nfe"}  # of the manifest
RULE = {"share": "fraction"}  # of a filter


def translated(value: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A JSON object under today's names.

    Args:
      value: as it was read.
      names: today's name of each earlier one.
    """
    return {names.get(name, name): item for name, item in value.items()}
