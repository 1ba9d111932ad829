"""Members of a zip or tar archive that somebody else made: checked one by one, read as streams, never unpacked.

An archive is refused as a whole, with its first bad member named, if a member's path leads out of it, is a link
or a device, comes twice or is encrypted, if it holds too many members, or if it would unpack to far more bytes than
images do. Sizes that an archive states wrongly do no harm: no more is read than was stated.
"""

import contextlib
import gzip
import io
import os
import pathlib
import re
import stat
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from jaxcil.errors import InputError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
MAX_MEMBERS = 2_000_000
MAX_MEMBER_BYTES = 256 * 2**20
# Image files are compressed already: beyond FREE_BYTES, an archive that unpacks to so many times its size is a bomb.
MAX_EXPANSION, FREE_BYTES = 100, 64 * 2**20
CHUNK = 2**20


class Member(NamedTuple):
    """A file in an archive."""

    name: str  # its path in the archive, parts divided by /, without . and empty ones
    size: int  # bytes, unpacked
    place: Any  # zipfile.ZipInfo; in a tar the offset of its bytes


def suffix(name: str) -> str | None:
    """The ending by which a file is an archive, if it is one."""
    return next((ending for ending in SUFFIXES if name.lower().endswith(ending)), None)


def members(path: str | os.PathLike) -> list[Member]:
    """The regular files of an archive, in the order in which they stand there; folders are left out.

    Args:
      path: ends in one of SUFFIXES.

    Raises:
      InputError: it cannot be read to its end, or is refused for a reason above.
    """
    path = pathlib.Path(path)
    found: list[Member] = []
    names: set[str] = set()
    unpacked, allowed = 0, max(FREE_BYTES, MAX_EXPANSION * path.stat().st_size)
    with _named(path):
        for count, member in enumerate(_zip_members(path) if _is_zip(path) else _tar_members(path)):
            if count >= MAX_MEMBERS:
                raise InputError(f"{path} holds more than {MAX_MEMBERS} members. Make an archive a class.")
            unpacked += member.size
            if member.size > MAX_MEMBER_BYTES:
                raise _refused(path, member.name, f"unpacks to {member.size} bytes; no image is that large")
            if unpacked > allowed:
                raise _refused(
                    path, member.name, f"brings the archive to {unpacked} bytes, which so small a file of images "
                    f"never holds (at most {allowed}); it looks like a decompression bomb"
                )  # fmt: skip
            if member.name.endswith("/"):
                continue
            name = "/".join(part for part in member.name.split("/") if part not in ("", "."))
            if name in names:
                raise _refused(path, name, "stands there twice")
            names.add(name)
            found.append(member._replace(name=name))
    return found


def read(path: str | os.PathLike, chosen: Iterable[Member]) -> Iterator[bytes]:
    """The bytes of members, in the order asked for.

    A compressed tar is read on from where it stands for a member further behind, and from its start for one further
    in front.

    Raises:
      InputError: names the member that is cut off or damaged.
    """
    path = pathlib.Path(path)
    with contextlib.ExitStack() as stack:
        with _named(path):
            file = stack.enter_context(zipfile.ZipFile(path) if _is_zip(path) else _tar_stream(path))
        for member in chosen:
            with _named(path, member.name):
                if isinstance(file, zipfile.ZipFile):
                    data = file.read(member.place)
                else:
                    file.seek(member.place)
                    data = file.read(member.size)
                if len(data) != member.size:
                    raise EOFError(f"{len(data)} bytes of {member.size}")
            yield data


def _zip_members(path: pathlib.Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as file:
        for info in file.infolist():
            # orig_filename: zipfile cuts a name at a NUL byte
            _check_path(path, info.orig_filename)
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refused(path, info.filename, "is a link or a device")
            if info.flag_bits & 1:
                raise _refused(path, info.filename, "is encrypted")
            yield Member(info.filename, info.file_size, info)


def _tar_members(path: pathlib.Path) -> Iterator[Member]:
    with _tar_stream(path) as stream, tarfile.open(fileobj=stream, mode="r:") as file:
        while (info := file.next()) is not None:
            # tarfile would keep all, at a kilobyte each
            file.members = []  # pyright: ignore[reportAttributeAccessIssue]
            _check_path(path, info.name)
            if info.isdir():
                yield Member(f"{info.name}/", 0, info.offset_data)
            elif info.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and info.sparse is None:
                yield Member(info.name, info.size, info.offset_data)
            else:
                raise _refused(path, info.name, "is a link, a device or a sparse file")
        _check_end(stream, file.offset)


def _check_end(stream: "_Bounded", offset: int) -> None:
    """Reads a tar to its end: tarfile takes a damaged header for it, and gzip compares its checksum there."""
    stream.seek(offset)
    if stream.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError(f"after byte {offset} comes neither a member nor the mark of the end")
    for _ in range(FREE_BYTES // CHUNK):
        chunk = stream.read(CHUNK)
        if not chunk:
            return
        if chunk.strip(tarfile.NUL):
            break
    raise tarfile.ReadError("there is more behind the mark of the end")


class _Bounded(io.BufferedIOBase):
    """A stream that gives no more than one member at a time: tarfile reads a long name whole, however long."""

    def __init__(self, stream: io.BufferedIOBase):
        self._stream = stream

    def read(self, size: int | None = -1, /) -> bytes:
        """At most MAX_MEMBER_BYTES."""
        if size is None or not 0 <= size <= MAX_MEMBER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Goes to a byte of the unpacked stream."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """The byte that comes next."""
        return self._stream.tell()


@contextlib.contextmanager
def _tar_stream(path: pathlib.Path) -> Iterator[_Bounded]:
    with gzip.open(path) if suffix(path.name) in (".tar.gz", ".tgz") else path.open("rb") as stream:
        yield _Bounded(stream)


@contextlib.contextmanager
def _named(path: pathlib.Path, member: str | None = None) -> Iterator[None]:
    """Turns whatever a reader raises on damaged bytes into a message that names them."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        what = f"{path} cannot be read" if member is None else f"{path}: member {member!r} cannot be read"
        raise InputError(
            f"{what}: {error or type(error).__name__}. Make or fetch the archive again."
        ) from None


def _check_path(path: pathlib.Path, name: str) -> None:
    """Refuses a member whose path leads out of the archive, on this system or another."""
    parts = re.split(r"[/\\]", name)
    if parts[0] == "" or re.match(r"[A-Za-z]:", name) or ".." in parts or "\\" in name or "\0" in name:
        raise _refused(path, name, "has a path that leads out of the archive, here or elsewhere")


def _refused(path: pathlib.Path, member: str, why: str) -> InputError:
    return InputError(
        f"{path} is refused: member {member!r} {why}. Make the archive anew, of plain image files."
    )


def _is_zip(path: pathlib.Path) -> bool:
    return suffix(path.name) == ".zip"
