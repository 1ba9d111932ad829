"""Fields of a config as text: read from the command line, and listed by `--help-config`."""

import ast
import dataclasses
import difflib
import textwrap
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jaxcil.errors import InputError
from jaxcil.workdir.settings import (
    flat_fields,
    flat_values,
    kind_name,
    kind_options,
    limits,
    made_from,
    shown,
)

BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
WIDTH, DEFAULT = 100, 12  # columns of `--help-config`, and of the defaults in it
# Parts of names that were renamed, all verbs together: old, new. The first that gives a name that exists is meant.
RENAMED = (
    ("", ""),
    ("extractors", "variants"),
    ("extractor.chunk", "training.checkpoint_every"),
    ("extractor.", "training."),
    ("future_proof.known_share", "auxiliary.future.known_fraction"),
    ("future_proof.share", "auxiliary.future.batch_fraction"),
    ("future_proof.", "auxiliary.future."),
    ("calls", "nfe"),
    ("share", "worker"),
    ("share", "fraction"),
    ("near", "duplicate_threshold"),
    ("seen", "generator_split"),
    ("blocks", "network"),
    ("shift", "crop"),
    ("chunk", "checkpoint_every"),
)


def kinds_of(config: Any, base: Any = None) -> dict[str, Any]:
    """The type of every field of a config by its dotted name.

    Args:
      config: a ConfigDict.
      base: one that was made from the verb's settings, whose types count; where none are declared, those of the values
        do.
    """
    kinds = {name: _kind(value) for name, value in flat_values(config).items()}
    settings = made_from(base)
    if settings is not None:
        kinds |= {item.name: item.kind for item in flat_fields(settings) if item.name in kinds}
    return kinds


def from_text(name: str, text: str, kind: Any) -> Any:
    """The value that a text on the command line means for a field of some type; ranges are checked later.

    Args:
      name: of the field, for messages.
      text: "none" is None where the type allows it. A list is items with commas between them and possibly one at the
        end, or a Python list.
      kind: type hint. Any: a Python value if the text can be read as one, otherwise the text.
    """
    kinds = kind_options(kind)
    if text.lower() == "none":
        if type(None) not in kinds:
            raise InputError(f"{name} cannot be none; it is {kind_name(kind)}")
        return None
    if typing.get_origin(kinds[0]) is tuple:
        return _list_from_text(name, text, typing.get_args(kinds[0])[0])
    try:
        if kinds[0] is Any:
            return _literal(text)
        return BOOLEANS[text.lower()] if kinds[0] is bool else kinds[0](text)
    except (ValueError, KeyError):
        raise InputError(f"{name} must be {kind_name(kind)}, got {shown(text)}") from None


def unknown_field(name: str, known: Iterable[str]) -> InputError:
    """An error for a field that does not exist: its new name, its fields if it is a group, or the nearest."""
    known = list(known)
    for old, new in RENAMED:
        candidate = f"{name}.".replace("_a_", "_per_").replace(old, new).removesuffix(".")
        if candidate in known or (
            candidate != name and any(item.startswith(f"{candidate}.") for item in known)
        ):
            return InputError(f"no config field {name!r}: it is called {candidate}")
    if inner := [field for field in known if field.startswith(f"{name}.")]:
        return InputError(f"{name} is a group of fields: {', '.join(inner)}")
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return InputError(f"no config field {name!r}; --help-config lists those that exist.{hint}")


def help_config(settings: type) -> str:
    """A table of all fields, group by group: name, default, and the comment with type and range."""
    lines = []
    for header, rows in _sections(settings):
        lines += ["", *_wrapped(header, "", "")] if header else []
        width = max((len(name) for name, _, _ in rows), default=0)
        column = " " * (width + 4 + DEFAULT)
        for name, default, text in rows:
            left = f"  {name:{width}}  {default}"
            if len(left) >= len(column):  # a long default has lines of its own
                lines += _wrapped(left, "", " " * (width + 4))
                left = ""
            lines += _wrapped(text, left.ljust(len(column)), column)
    return "\n".join(lines)


def _wrapped(text: str, first: str, others: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)


def _sections(settings: type) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """A header for every group, with name, default and text of its fields; first the fields in no group."""
    rows: dict[str, list[tuple[str, str, str]]] = {"": []}
    headers = {"": ""}
    for name, kind, default, metadata in flat_fields(settings):
        if dataclasses.is_dataclass(kind):
            headers[name], rows[name] = metadata["comment"] or (kind.__doc__ or "").partition("\n")[0], []
        elif isinstance(default, dict):
            headers[name] = metadata["comment"]
            rows[name] = [
                (f"{name}.{inner}", _as_text(value), _free_text(value, metadata["comments"].get(inner, "")))
                for inner, value in flat_values(default).items()
            ]
        else:
            text = f"{metadata['comment']} [{_type(kind, metadata).removeprefix('a ')}]"
            rows[name.rpartition(".")[0]].append((name, _as_text(default), text))
    for name, comment in headers.items():
        yield f"{name}: {comment}" if name else "", rows[name]


def _free_text(value: Any, comment: str) -> str:
    """Comment and type of a field that is known by its value alone."""
    return f"{comment} [{kind_name(kind_options(_kind(value))[0]).removeprefix('a ')}]".lstrip()


def _type(kind: Any, metadata: Mapping[str, Any]) -> str:
    if metadata["choices"] is None:
        return kind_name(kind, limits(metadata))
    first, *others = kind_options(kind)
    several = typing.get_origin(first) is tuple
    names = ", ".join(metadata["choices"])
    return f"{'a list out of' if several else 'one of'} {names}{', or none' if others else ''}"


def _as_text(value: Any) -> str:
    """A value as one would write it on the command line."""
    if isinstance(value, tuple):
        quoted = any("," in str(item) for item in value)
        return ",".join(map(repr if quoted else str, value)) if value else "()"
    return str(value).lower() if value is None or isinstance(value, bool) else str(value) or "''"


def _kind(value: Any) -> Any:
    """The type hint of a field that has a value and no declared type."""
    if isinstance(value, tuple | list):
        return tuple[type(value[0]) if value else Any, ...]
    return Any | None if value is None else type(value) | None if type(value) in (int, float) else type(value)


def _list_from_text(name: str, text: str, inner: Any) -> tuple[Any, ...]:
    if text.startswith(("(", "[", "'", '"')):
        value = _literal(text)
        if value == text:
            raise InputError(f"{name} cannot be read as a Python list: {shown(text)}")
        return tuple(value) if isinstance(value, list | tuple) else (value,)
    text = text.removesuffix(",")
    items = text.split(",") if text else []
    return tuple(from_text(f"{name}[{n}]", item.strip(), inner) for n, item in enumerate(items))


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
