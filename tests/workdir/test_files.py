"""Files are whole or not there."""

import errno
import json
import os

import pytest

from jaxcil.errors import InputError
from jaxcil.workdir import files, locks


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")

    def write():
        with files.atomic_file(target) as aside:
            aside.write_text("half of the n")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert target.read_text() == "old"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(errno.ENOSPC, "-"),
            "No space left on device. Free space, then start the same command again",
        ),
        (OSError(errno.EDQUOT, "-"), "quota exceeded. Free space"),
        (OSError(errno.EROFS, "-"), "Read-only file system. Make it writable"),
        (RuntimeError("write() failed: No space left on device; at byte 7"), "No space left on device. Free"),
    ],
    ids=["full", "quota", "read-only", "reported by a library"],
)
def test_what_the_system_refuses_is_reported_with_what_to_do(error, message, tmp_path):
    def write():
        with files.atomic_file(tmp_path / "file") as aside:
            aside.write_text("half of the n")
            raise error

    with pytest.raises(InputError, match=f"file cannot be written: .*{message}"):
        write()
    assert [*tmp_path.iterdir()] == []


def test_a_folder_in_the_place_of_a_file_and_a_name_too_long_are_refused(tmp_path):
    (tmp_path / "file").mkdir()
    (tmp_path / ".lock").mkdir()
    with pytest.raises(
        InputError, match=r"file cannot be written: Is a directory. Remove the folder that is in"
    ):
        files.write(tmp_path / "file", "new")
    with pytest.raises(InputError, match=r"\.lock cannot be written: Is a directory. Remove the folder"):
        locks.opened(tmp_path / ".lock")
    with pytest.raises(InputError, match=r"cannot be written: File name too long. Give a shorter name"):
        files.write(tmp_path / ("n" * 300), "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "file"]


def test_what_a_killed_writer_left_behind_is_written_over(tmp_path):
    (tmp_path / ".file.aside").write_text("half of a file that was never finished")
    files.write(tmp_path / "file", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "new"


def test_others_may_read_what_is_written(tmp_path):
    files.write(tmp_path / "file", b"x")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_json_comes_back_as_it_was_and_nan_is_refused(tmp_path):
    value = {"a": [1, None, 0.1], "b": "ö"}
    files.write_json(tmp_path / "file", value)
    assert files.read_json(tmp_path / "file") == json.loads(json.dumps(value))
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "file", float("nan"))
    assert files.read_json(tmp_path / "file") == value


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    for name in ("absent.json", "broken.json"):
        with pytest.raises(InputError, match=name):
            files.read_json(tmp_path / name)


def test_a_directory_that_cannot_be_written_is_refused_and_another_made(tmp_path):
    assert files.writable_directory(tmp_path / "a" / "b").is_dir()
    assert os.listdir(tmp_path / "a" / "b") == []
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        files.writable_directory(tmp_path / "file" / "below")


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    target = tmp_path / "folder"
    (tmp_path / ".folder.aside").mkdir()
    (tmp_path / ".folder.aside/left").write_text("by a killed process")

    def write(error):
        with files.atomic_folder(target) as aside:
            (aside / "one").mkdir()
            (aside / "one/file").write_text("new")
            assert not target.exists()
            if error is not None:
                raise error

    with pytest.raises(OSError, match="disk full"):
        write(OSError("disk full"))
    assert not list(tmp_path.iterdir())
    write(None)
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == [
        "folder",
        "folder/one",
        "folder/one/file",
    ]
    with pytest.raises(InputError, match="folder already exists"):
        write(None)
