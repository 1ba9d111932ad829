"""The images of every class in a source: in folders, or in archives that are read as streams.

A source is a folder with one folder or one zip or tar file per class; or one such file with a folder per class. Links
are followed in a folder, which is the user's own, and refused in an archive.
"""

import hashlib
import itertools
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jaxcil.data.folders import SUFFIXES, is_hidden, is_image, visible
from jaxcil.errors import InputError
from jaxcil.synthesis.imports import archives


class Source(NamedTuple):
    """The place of an image."""

    path: pathlib.Path  # of the image, or of the archive that holds it
    member: archives.Member | None = None

    @property
    def name(self) -> str:
        """The file's name, or the member's path in its archive."""
        return self.member.name if self.member else self.path.name

    def __str__(self) -> str:
        """The name in messages."""
        return str(self.path) if self.member is None else f"{self.path}: member {self.member.name!r}"


def classes(source: pathlib.Path) -> dict[str, list[Source]]:
    """The images of every class: those of a folder by name, those of an archive in its order.

    Other files next to the classes, and hidden files, are ignored; any other file in a class must be an image.

    Raises:
      InputError: there is no class, one occurs twice or has no image, or an archive is refused.
    """
    if source.is_file() and archives.suffix(source.name):
        return _by_folder(source)
    if not source.is_dir():
        raise InputError(
            f"{source} is neither a folder nor an archive ({', '.join(archives.SUFFIXES)}). Give a folder that "
            "holds a folder or an archive for each class, or one archive with a folder per class."
        )
    listed: dict[str, list[Source]] = {}
    for path in visible(source):
        ending = archives.suffix(path.name)
        if not (path.is_dir() or (ending and path.is_file())):
            continue
        name = path.name if path.is_dir() else path.name[: -len(ending or "")]
        if name in listed:
            raise InputError(f"class {name!r} occurs twice in {source}: {path.name} and another. Keep one.")
        inside = [Source(child) for child in visible(path)] if path.is_dir() else _members(path)
        listed[name] = _images(path, inside)
    if not listed:
        raise InputError(f"{source} holds neither folders nor archives; expected one for each class.")
    return listed


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


def read(images: Sequence[Source]) -> Iterator[tuple[Source, bytes]]:
    """The bytes of images; an archive is opened once for consecutive images in it."""
    for path, group in itertools.groupby(images, key=lambda item: item.path):
        items = list(group)
        members = [item.member for item in items if item.member]
        yield from zip(items, archives.read(path, members) if members else _file(path), strict=True)


def _by_folder(path: pathlib.Path) -> dict[str, list[Source]]:
    """Classes of an archive with a folder per class, below the folders that all its images share."""
    inside = _members(path)
    folders = [item.name.split("/")[:-1] for item in inside if is_image(item.name)]
    shared = len(list(itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*folders))))
    # images directly in the last shared folder: it is the only class
    depth = max(0, shared - 1) if any(len(parts) == shared for parts in folders) else shared
    if not folders:
        raise InputError(f"{path} holds no folder with images; expected one for each class.")
    listed: dict[str, list[Source]] = {}
    for item in inside:
        parts = item.name.split("/")
        if len(parts) > depth + 2 and is_image(item.name):
            raise InputError(
                f"{item} is deeper than others; expected images directly in one folder per class. Did you mean one "
                "part of the archive, such as train? Make an archive of that."
            )
        if len(parts) < depth + 2 and is_image(item.name):
            raise InputError(f"{item} is not in the folder of a class. Remove it, or move it into one.")
        if len(parts) == depth + 2:
            listed.setdefault(parts[depth], []).append(item)
    return {name: _images(path, items) for name, items in listed.items()}


def _members(path: pathlib.Path) -> list[Source]:
    """The visible files of an archive."""
    return [Source(path, member) for member in archives.members(path) if not is_hidden(member.name)]


def _images(where: pathlib.Path, inside: list[Source]) -> list[Source]:
    """The files of a class, which must all be images."""
    if not inside:
        raise InputError(f"{where} holds no images; expected {', '.join(SUFFIXES)}.")
    for item in inside:
        if not is_image(item.name) or (item.member is None and not item.path.is_file()):
            raise InputError(
                f"{item} is not an image file ({', '.join(SUFFIXES)}). Remove it from its class."
            )
    return inside


def _file(path: pathlib.Path) -> Iterator[bytes]:
    try:
        yield path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None


def _sha256(path: pathlib.Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
