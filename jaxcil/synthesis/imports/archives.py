"""Members of a zip or tar archive from an untrusted source: checked one by one, read as streams, never unpacked.

An archive is refused as a whole, naming its first bad member, if a member is a link or a device, occurs twice or is
encrypted, if there are too many members, if the archive is cut off, or if it would unpack to far more bytes than images
do. Wrong sizes in an archive do no harm: no more is read than was stated. Paths of members never become paths on disk,
so they need no check.
"""

import contextlib
import gzip
import io
import os
import pathlib
import stat
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from jaxcil.errors import InputError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
MAX_MEMBERS = 2_000_000
MAX_MEMBER_BYTES = 256 * 2**20
# Image files are compressed: beyond FREE_BYTES, an archive that unpacks to this many times its size is a bomb.
MAX_EXPANSION, FREE_BYTES = 100, 64 * 2**20
CHUNK = 2**20


class Member(NamedTuple):
    """A file in an archive."""

    name: str  # its path in the archive, parts divided by /, without empty ones, . and ..
    size: int  # bytes, unpacked
    place: Any  # zipfile.ZipInfo; in a tar the offset of its bytes


def suffix(name: str) -> str | None:
    """The ending that makes a file an archive, if it has one."""
    return next((ending for ending in SUFFIXES if name.lower().endswith(ending)), None)


def members(path: str | os.PathLike) -> list[Member]:
    """The regular files of an archive, in its order; folders are omitted.

    Args:
      path: ends in one of SUFFIXES.

    Raises:
      InputError: it cannot be read to its end, or is refused for one of the reasons above.
    """
    path = pathlib.Path(path)
    regular: list[Member] = []
    names: set[str] = set()
    unpacked, allowed = 0, max(FREE_BYTES, MAX_EXPANSION * path.stat().st_size)
    with _named(path):
        for count, member in enumerate(_zip_members(path) if _is_zip(path) else _tar_members(path)):
            if count >= MAX_MEMBERS:
                raise InputError(f"{path} holds more than {MAX_MEMBERS} members. Make one archive per class.")
            unpacked += member.size
            if member.size > MAX_MEMBER_BYTES:
                raise _refused(path, member.name, f"unpacks to {member.size} bytes; no image is that large")
            if unpacked > allowed:
                raise _refused(
                    path, member.name, f"brings the archive to {unpacked} bytes, more than an archive of images of "
                    f"this size can hold (at most {allowed}); it looks like a decompression bomb"
                )  # fmt: skip
            if member.name.endswith("/"):
                continue
            name = "/".join(part for part in member.name.split("/") if part not in ("", ".", ".."))
            if name in names:
                raise _refused(path, name, "occurs twice")
            names.add(name)
            regular.append(member._replace(name=name))
    return regular


def read(path: str | os.PathLike, chosen: Iterable[Member]) -> Iterator[bytes]:
    """The bytes of members, in the given order.

    For a member before the last one read, a compressed tar is read from its start again.

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
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refused(path, info.filename, "is a link or a device")
            if info.flag_bits & 1:
                raise _refused(path, info.filename, "is encrypted")
            yield Member(info.filename, info.file_size, info)


def _tar_members(path: pathlib.Path) -> Iterator[Member]:
    with _tar_stream(path) as stream, tarfile.open(fileobj=stream, mode="r:") as file:
        while (info := file.next()) is not None:
            # tarfile would keep all members, at a kilobyte each
            file.members = []  # pyright: ignore[reportAttributeAccessIssue]
            if info.isdir():
                yield Member(f"{info.name}/", 0, info.offset_data)
            elif info.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and info.sparse is None:
                yield Member(info.name, info.size, info.offset_data)
            else:
                raise _refused(path, info.name, "is a link, a device or a sparse file")
        _check_end(stream, file.offset)


def _check_end(stream: "_Bounded", offset: int) -> None:
    """Reads a tar to its end: tarfile mistakes a damaged header for it, and gzip compares its checksum there."""
    stream.seek(offset)
    if stream.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError(f"after byte {offset} there is neither a member nor the end mark")
    for _ in range(FREE_BYTES // CHUNK):
        chunk = stream.read(CHUNK)
        if not chunk:
            return
        if chunk.strip(tarfile.NUL):
            break
    raise tarfile.ReadError("there is more data after the end mark")


class _Bounded(io.BufferedIOBase):
    """A stream that returns at most one member's size at a time: tarfile reads a long name at once, however long."""

    def __init__(self, stream: io.BufferedIOBase):
        self._stream = stream

    def read(self, size: int | None = -1, /) -> bytes:
        """At most MAX_MEMBER_BYTES."""
        if size is None or not 0 <= size <= MAX_MEMBER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Moves to a byte of the unpacked stream."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """The position of the next byte."""
        return self._stream.tell()


@contextlib.contextmanager
def _tar_stream(path: pathlib.Path) -> Iterator[_Bounded]:
    with gzip.open(path) if suffix(path.name) in (".tar.gz", ".tgz") else path.open("rb") as stream:
        yield _Bounded(stream)


@contextlib.contextmanager
def _named(path: pathlib.Path, member: str | None = None) -> Iterator[None]:
    """Turns any error of a reader on damaged bytes into a message that names the file and member."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        what = f"{path} cannot be read" if member is None else f"{path}: member {member!r} cannot be read"
        raise InputError(
            f"{what}: {error or type(error).__name__}. Make or fetch the archive again."
        ) from None


def _refused(path: pathlib.Path, member: str, why: str) -> InputError:
    return InputError(
        f"{path} is refused: member {member!r} {why}. Make the archive again from plain image files."
    )


def _is_zip(path: pathlib.Path) -> bool:
    return suffix(path.name) == ".zip"
