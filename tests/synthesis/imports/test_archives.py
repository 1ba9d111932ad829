"""Archives that mean harm or are damaged: refused with the member's name, and never unpacked."""

import gzip
import io
import re
import stat
import tarfile
import warnings
import zipfile

import numpy as np
import pytest

from jaxcil.errors import InputError
from jaxcil.synthesis.imports import archives

FILES = {"cat/b.png": b"second" * 200, "cat/a.png": b"first", "cat/empty.png": b""}


def write_zip(path, contents, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in contents.items():
            file.writestr(name, data)
    return path


def write_tar(path, contents):
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as file:
        for name, data in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def write(path, contents):
    return (write_zip if path.suffix == ".zip" else write_tar)(path, contents)


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.TGZ"])
def test_members_are_read_in_any_order_without_a_file_written(name, tmp_path):
    contents = {"cat/": b""} if name == "x.zip" else {}
    path = write(tmp_path / name.lower(), contents | FILES).rename(tmp_path / name)
    found = archives.members(path)
    assert [(member.name, member.size) for member in found] == [(n, len(d)) for n, d in FILES.items()]
    for order in (found, found[::-1], found[1:2]):
        assert list(archives.read(path, order)) == [FILES[member.name] for member in order]
    assert list(tmp_path.iterdir()) == [path]


def zip_entry(**fields):
    """A zip whose one member has unusual fields."""

    def make(path):
        info = zipfile.ZipInfo("cat/a.png")
        for name, value in fields.items():
            setattr(info, name, value)
        with zipfile.ZipFile(path.with_suffix(".zip"), "w") as file:
            file.writestr(info, b"/etc/passwd")
        return path.with_suffix(".zip")

    return make


def tar_entry(**fields):
    def make(path):
        info = tarfile.TarInfo("cat/a.png")
        for name, value in fields.items():
            setattr(info, name, value)
        with tarfile.open(path.with_suffix(".tar"), "w") as file:
            file.addfile(info)
        return path.with_suffix(".tar")

    return make


def twice_in_zip(path):
    with warnings.catch_warnings(), zipfile.ZipFile(path.with_suffix(".zip"), "w") as file:
        warnings.simplefilter("ignore")  # zipfile knows that it is unusual
        file.writestr("cat/a.png", b"1")
        file.writestr("cat/./a.png", b"2")
    return path.with_suffix(".zip")


def encrypted_zip(path):
    data = bytearray(write_zip(path.with_suffix(".zip"), {"cat/a.png": b"1"}).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory
    path.with_suffix(".zip").write_bytes(data)
    return path.with_suffix(".zip")


def bomb(suffix):
    return lambda path: write(path.with_suffix(suffix), {"cat/a.png": bytes(65 * 2**20)})


def many_small_bombs(path):
    return write_zip(path.with_suffix(".zip"), {f"cat/{n}.png": bytes(2**20) for n in range(65)})


def one_large_member(path):
    """A tar that only says how large its member is."""
    info = tarfile.TarInfo("cat/a.png")
    info.size = 2**40
    path.with_suffix(".tar").write_bytes(info.tobuf() + bytes(1024))
    return path.with_suffix(".tar")


def long_name_bomb(path):
    """A tar.gz whose header says that a name of a gigabyte follows."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**30
    path.with_suffix(".tgz").write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)))
    return path.with_suffix(".tgz")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (zip_entry(external_attr=(stat.S_IFLNK | 0o777) << 16), "'cat/a.png' is a link or a device"),
        (zip_entry(external_attr=(stat.S_IFIFO | 0o777) << 16), "is a link or a device"),
        (tar_entry(type=tarfile.SYMTYPE, linkname="/etc/passwd"), "'cat/a.png' is a link, a device"),
        (tar_entry(type=tarfile.LNKTYPE, linkname="b.png"), "is a link, a device"),
        (tar_entry(type=tarfile.CHRTYPE, devmajor=1, devminor=5), "is a link, a device"),
        (tar_entry(type=tarfile.FIFOTYPE), "is a link, a device"),
        (twice_in_zip, "member 'cat/a.png' occurs twice"),
        (encrypted_zip, "member 'cat/a.png' is encrypted"),
        (bomb(".zip"), "member 'cat/a.png' brings the archive to 68157440 bytes"),
        (bomb(".tgz"), "member 'cat/a.png' brings the archive to 68157440 bytes"),
        (many_small_bombs, "member 'cat/64.png' brings the archive to 68157440 bytes"),
        (one_large_member, "member 'cat/a.png' unpacks to 1099511627776 bytes"),
        (long_name_bomb, "a header of 1073741824 bytes"),
    ],
    ids=[
        *("zip-symlink", "zip-pipe", "tar-symlink", "tar-hardlink", "tar-device", "tar-pipe", "twice"),
        *("encrypted", "zip-bomb", "tar-bomb", "many-members-bomb", "declared-bomb", "long-name-bomb"),
    ],
)
def test_an_archive_that_means_harm_is_refused_with_its_member(make, message, tmp_path):
    path = make(tmp_path / "x")
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        archives.members(path)
    assert str(path) in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["../../cat/a.png", "/cat/a.png", "cat/../cat/./a.png"])
@pytest.mark.parametrize("ending", [".zip", ".tar"])
def test_a_path_that_leads_out_of_an_archive_leads_nowhere(name, ending, tmp_path):
    path = write(tmp_path / f"x{ending}", {name: b"1"})
    (member,) = archives.members(path)
    assert member.name in ("cat/a.png", "cat/cat/a.png")
    assert [*archives.read(path, [member])] == [b"1"]
    assert [*tmp_path.iterdir()] == [path]


def test_an_archive_of_too_many_members_is_refused(tmp_path, monkeypatch):
    path = write_zip(tmp_path / "x.zip", FILES)
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    assert len(archives.members(path)) == 3
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    with pytest.raises(InputError, match="more than 2 members"):
        archives.members(path)


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tgz"])
def test_an_archive_cut_off_anywhere_is_refused(name, tmp_path):
    random = np.random.default_rng(0)  # bytes that no compression makes fewer
    contents = {f"cat/{n}.png": random.bytes(700) for n in range(4)}
    path = write(tmp_path / name, contents)
    whole = path.read_bytes()
    # The two blocks of zeros at the end of a tar are filled up to 20; one of them is the mark of the end.
    end = len(whole.rstrip(b"\0")) if name == "x.tar" else len(whole) - 1
    for stop in (0, 1, 400, 511, 512, 513, 1500, end):
        path.write_bytes(whole[:stop])
        with pytest.raises(InputError, match=re.escape(f"{path} cannot be read: ")):
            archives.members(path)


@pytest.mark.parametrize("name", ["x.zip", "x.tgz"])
def test_a_flipped_byte_in_a_compressed_member_is_found(name, tmp_path):
    path = write(tmp_path / name, {"cat/a.png": np.random.default_rng(0).bytes(5000)})
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(InputError, match=re.escape(str(path)) + ".* cannot be read: "):
        list(archives.read(path, archives.members(path)))


def test_a_damaged_header_of_a_tar_is_not_its_end(tmp_path):
    path = write_tar(tmp_path / "x.tar", {"cat/a.png": b"1", "cat/b.png": b"2"})
    data = bytearray(path.read_bytes())
    data[1024 + 3] ^= 1  # in the second member's name
    path.write_bytes(data)
    with pytest.raises(InputError, match="after byte 1024 there is neither a member nor the end mark"):
        archives.members(path)


def test_members_behind_the_end_of_a_tar_are_not_passed_over(tmp_path):
    path = write_tar(tmp_path / "x.tar", {"cat/a.png": b"1"})
    path.write_bytes(2 * path.read_bytes())
    with pytest.raises(InputError, match="more data after the end mark"):
        archives.members(path)


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    for name in ("x.zip", "x.tar", "x.tgz"):
        (tmp_path / name).write_bytes(b"this is text" * 100)
        with pytest.raises(InputError, match=f"{name} cannot be read"):
            archives.members(tmp_path / name)
