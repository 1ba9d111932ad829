"""Where the images of every class lie: in folders, or in archives that are read as streams.

A source is a folder with a folder a class, a zip or tar file a class, or both; or one such file with a folder a
class. In a folder links are followed, since it is the user's own; in an archive they are refused.
"""

import hashlib
import itertools
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jaxcil.data.folders import SUFFIXES
from jaxcil.errors import InputError
from jaxcil.synthesis.imports import archives


class Source(NamedTuple):
    """Where an image lies."""

    path: pathlib.Path  # of the image, or of the archive that holds it
    member: archives.Member | None = None

    def __str__(self) -> str:
        """The name in messages."""
        return str(self.path) if self.member is None else f"{self.path}: member {self.member.name!r}"


def classes(source: pathlib.Path) -> dict[str, list[Source]]:
    """The images of every class: those of a folder by name, those of an archive as they stand there.

    What lies beside the classes, and hidden files, are left alone; any other file in a class must be an image.

    Raises:
      InputError: there is no class, one comes twice or has no image, or an archive is refused.
    """
    if source.is_file() and archives.suffix(source.name):
        return _by_folder(source)
    if not source.is_dir():
        raise InputError(
            f"{source} is neither a folder nor an archive ({', '.join(archives.SUFFIXES)}). Give a folder that "
            "holds a folder or an archive for each class, or one archive with a folder a class."
        )
    found: dict[str, list[Source]] = {}
    for path in sorted(source.iterdir()):
        ending = archives.suffix(path.name)
        if _hidden(path.name) or not (path.is_dir() or (ending and path.is_file())):
            continue
        name = path.name if path.is_dir() else path.name[: -len(ending or "")]
        if name in found:
            raise InputError(f"class {name!r} comes twice in {source}: {path.name} and another. Keep one.")
        if path.is_dir():
            inside = [Source(child) for child in sorted(path.iterdir())]
        else:
            inside = [Source(path, member) for member in archives.members(path)]
        found[name] = _images(path, [item for item in inside if not _hidden(_name_of(item))])
    if not found:
        raise InputError(f"{source} holds neither folders nor archives; expected one for each class.")
    return found


def checksums(images: Sequence[Source]) -> dict[str, str]:
    """SHA-256 of every archive, and of every folder's list of `SHA-256  name` lines, by name."""
    sums: dict[str, str] = {}
    for path, group in itertools.groupby(
        images, key=lambda item: item.path if item.member else item.path.parent
    ):
        if path.is_dir():
            lines = (f"{_sha256(item.path)}  {item.path.name}\n" for item in group)
            sums[f"{path.name}/"] = hashlib.sha256("".join(lines).encode()).hexdigest()
        elif path.name not in sums:
            sums[path.name] = _sha256(path)
    return dict(sorted(sums.items()))


def read(wanted: Sequence[Source]) -> Iterator[tuple[Source, bytes]]:
    """The bytes of images; an archive is opened once for all that follow each other in it."""
    for path, group in itertools.groupby(wanted, key=lambda item: item.path):
        items = list(group)
        members = [item.member for item in items if item.member]
        yield from zip(items, archives.read(path, members) if members else _file(path), strict=True)


def _by_folder(path: pathlib.Path) -> dict[str, list[Source]]:
    """Classes of an archive with a folder a class, below the folders that all its images share."""
    inside = [Source(path, member) for member in archives.members(path)]
    inside = [item for item in inside if not _hidden(_name_of(item))]
    folders = [_name_of(item).split("/")[:-1] for item in inside if _is_image(item)]
    shared = len(list(itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*folders))))
    # images directly below what all share: that is the one class
    depth = max(0, shared - 1) if any(len(parts) == shared for parts in folders) else shared
    if not folders:
        raise InputError(f"{path} holds no folder with images; expected one for each class.")
    found: dict[str, list[Source]] = {}
    for item in inside:
        parts = _name_of(item).split("/")
        if len(parts) > depth + 2 and _is_image(item):
            raise InputError(
                f"{item} lies deeper than others; expected images directly in a folder a class. Did you mean one "
                "part of the archive, such as train? Make an archive of that."
            )
        if len(parts) < depth + 2 and _is_image(item):
            raise InputError(f"{item} lies in no folder of a class. Take it out, or move it into one.")
        if len(parts) == depth + 2:
            found.setdefault(parts[depth], []).append(item)
    return {name: _images(path, items) for name, items in found.items()}


def _images(where: pathlib.Path, inside: list[Source]) -> list[Source]:
    """What a class holds, if all of it is images."""
    if not inside:
        raise InputError(f"{where} holds no images; expected {', '.join(SUFFIXES)}.")
    for item in inside:
        if not _is_image(item) or (item.member is None and not item.path.is_file()):
            raise InputError(f"{item} is no image file ({', '.join(SUFFIXES)}). Take it out of its class.")
    return inside


def _file(path: pathlib.Path) -> Iterator[bytes]:
    try:
        yield path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None


def _name_of(item: Source) -> str:
    return item.member.name if item.member else item.path.name


def _is_image(item: Source) -> bool:
    return _name_of(item).lower().endswith(SUFFIXES)


def _hidden(name: str) -> bool:
    """Whether a file is one that systems leave beside others."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _sha256(path: pathlib.Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
