"""What a user gave cannot be used: the one exception that the command shows as a message, without a traceback."""

import difflib
from collections.abc import Iterable
from typing import Any


class InputError(ValueError):
    """Bad input from outside. The message says what was expected, what came, and what to do."""


def unknown_name(kind: str, name: object, known: Iterable[object]) -> InputError:
    """An error for a name that does not exist: it lists those that do, and the nearest.

    Args:
      kind: what is named, in the singular ("class name", "head").
      name: what came.
      known: every valid name, in the order in which they are to be listed.
    """
    names = [str(item) for item in known]
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return InputError(f"no {kind} {str(name)!r}; there are: {', '.join(names)}.{hint}")


def check_counts(settings: Any, group: str, *fields: str) -> None:
    """Refuses numbers below 1.

    Args:
      settings: the part of a config that has the fields.
      group: its name, for the message.
      *fields: that must be at least 1.
    """
    for field in fields:
        if settings[field] < 1:
            raise InputError(f"{group}.{field} must be at least 1, got {settings[field]}")
