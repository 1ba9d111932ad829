"""What a workdir holds next to the results: config, checksums, times."""

import hashlib
import subprocess
import time

import numpy as np
import pytest

from jaxcil.errors import InputError
from jaxcil.workdir import files, record
from jaxcil.workdir.record import Timing

CONFIG = {"seeds": (0, 1), "training": {"steps": 40, "learning_rate": 0.1}}
DIGEST = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("old", "new")}


def flip(path, bit=0):
    """One bit of a file, as a bad disk would."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1 << bit
    path.write_bytes(content)


def work(directory, path="extractors/plain.safetensors"):
    files.write(directory / path, "work of an hour")


def test_what_was_written_comes_back_and_sha256sum_agrees(tmp_path):
    record.write_checked(tmp_path / "heads/ncm.json", "content")
    record.write_checked_json(tmp_path / "config.json", {"a": [1, None]})
    assert record.read_checked(tmp_path / "heads/ncm.json") == b"content"
    assert record.read_checked_json(tmp_path / "config.json") == {"a": [1, None]}
    for folder, name in ((tmp_path / "heads", "ncm.json"), (tmp_path, "config.json")):
        subprocess.run(["sha256sum", "--check", "--strict", f"{name}.sha256"], cwd=folder, check=True)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        *("config.json", "config.json.sha256", "ncm.json", "ncm.json.sha256")
    ]


def test_a_file_that_is_absent_is_none_without_a_word(tmp_path, capsys):
    assert record.read_checked(tmp_path / "absent") is None
    assert record.read_checked_json(tmp_path / "absent") is None
    assert record.read_kept(tmp_path / "absent", "-") is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: flip(path), "is damaged: its SHA-256 should be"),
        (lambda path: path.write_bytes(path.read_bytes()[:7]), "is damaged: its SHA-256 should be"),
        (lambda path: path.write_bytes(b""), "is damaged: its SHA-256 should be"),
        (lambda path: flip(path.with_name("file.sha256")), "is damaged: its SHA-256 should be"),
        (lambda path: path.with_name("file.sha256").write_bytes(b""), "is damaged: its SHA-256 should be"),
        (lambda path: path.with_name("file.sha256").unlink(), "has no checksum: file.sha256 is missing"),
    ],
    ids=["bit", "cut", "empty", "bit of the checksum", "empty checksum", "no checksum"],
)
def test_a_damaged_file_is_named_and_made_again_or_refused(damage, message, tmp_path, capsys):
    path = tmp_path / "file"
    record.write_checked(path, "some content of it")
    damage(path)
    assert record.read_checked(path) is None
    error = capsys.readouterr().err
    assert error.startswith(f"jaxcil: {path} {message}")
    assert error.endswith("; it will be made again\n")
    assert error.count("\n") == 1
    with pytest.raises(InputError, match=rf"{path} {message}.*\. Delete it\.$"):
        record.read_kept(path, "Delete it.")
    record.write_checked(path, "some content of it")
    assert record.read_checked(path) == b"some content of it"


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path):
    (tmp_path / "file").mkdir()
    with pytest.raises(InputError, match="file and its checksum cannot be read: Is a directory"):
        record.read_checked(tmp_path / "file")


@pytest.mark.parametrize("moment", ["before the file", "before its checksum"])
def test_a_writer_killed_at_any_moment_leaves_the_old_file_or_the_new(moment, tmp_path, monkeypatch, capsys):
    path, replace = tmp_path / "file", record.pathlib.Path.replace
    record.write_checked(path, "old")

    def killed(aside, target):
        if (target == path) == (moment == "before the file"):
            raise SystemError("killed")
        return replace(aside, target)

    with monkeypatch.context() as patch:
        patch.setattr(record.pathlib.Path, "replace", killed)
        patch.setattr(record.pathlib.Path, "unlink", lambda *arguments, **options: None)  # nobody cleans up
        with pytest.raises(SystemError):
            record.write_checked(path, "new")
    content = "old" if moment == "before the file" else "new"
    assert record.read_checked(path) == content.encode()
    with record.locked(tmp_path):
        assert path.with_name("file.sha256").read_text() == f"{DIGEST[content]}  file\n"
        assert not (tmp_path / ".file.sha256.aside").exists()
    assert record.read_checked(path) == content.encode()
    assert capsys.readouterr().err == ""


def test_a_config_is_pinned_once_there_is_work_and_its_fields_are_named(tmp_path):
    other = {"seeds": (0, 1), "training": {"steps": 50}}
    assert record.pinned_config(tmp_path) is None
    record.pin_config(CONFIG, tmp_path)
    assert record.pinned_config(tmp_path) == {**CONFIG, "seeds": [0, 1]}
    record.pin_config(other, tmp_path)  # corrected before anything was done
    record.pin_config(CONFIG, tmp_path)
    work(tmp_path)
    written = (tmp_path / "config.json").stat().st_mtime_ns
    record.pin_config(CONFIG, tmp_path)
    assert (tmp_path / "config.json").stat().st_mtime_ns == written
    with pytest.raises(InputError) as refused:
        record.pin_config(other, tmp_path)
    assert str(refused.value).splitlines() == [
        f"{tmp_path} holds a run of another config:",
        "  training.learning_rate: there 0.1, now None",
        "  training.steps: there 40, now 50",
        "Give another workdir, or what this one was begun with.",
    ]
    assert record.pinned_config(tmp_path) == {**CONFIG, "seeds": [0, 1]}


def test_differing_fields_have_dotted_names_and_absent_ones_are_none():
    there = {"a": 1, "b": {"c": [1], "d": None}}
    assert record.differing(there, {"a": 1, "b": {"c": [2]}, "e": 3}) == {"b.c": ([1], [2]), "e": (None, 3)}
    assert record.differing(there, there) == {}


def test_work_without_its_config_is_refused(tmp_path):
    record.pin_config(CONFIG, tmp_path)
    work(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(
        InputError, match=r"holds work \(extractors/plain.safetensors\) but no config.json.*Bring"
    ):
        record.pin_config(CONFIG, tmp_path)


@pytest.mark.parametrize(
    "path",
    [
        *(".lock", "synthetic/.lock", "synthetic/.train-00000.lease", "heads/.ncm.json.aside"),
        *("tensorboard/events", "timing.json"),
    ],
)
def test_locks_unfinished_files_and_curves_are_no_work(path, tmp_path):
    work(tmp_path, path)
    record.pin_config(CONFIG, tmp_path)
    record.pin_config({"seeds": (2,)}, tmp_path)
    assert record.pinned_config(tmp_path) == {"seeds": [2]}


@pytest.mark.parametrize("begun", [False, True], ids=["without work", "with work"])
def test_a_damaged_config_is_refused_with_what_to_do(begun, tmp_path):
    record.pin_config(CONFIG, tmp_path)
    if begun:
        work(tmp_path)
    content = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(content[:20])
    with pytest.raises(
        InputError, match=r"config.json is damaged: .* Bring back the file that was written, or"
    ):
        record.pin_config(CONFIG, tmp_path)
    (tmp_path / "config.json").write_text(content)
    record.pin_config(CONFIG, tmp_path)


@pytest.mark.parametrize("value", [float("nan"), (1.0, float("inf"))], ids=["nan", "inf in a list"])
def test_a_config_that_is_not_finite_is_refused(value, tmp_path):
    with pytest.raises(InputError, match=r"training.rate must be finite, got (nan|inf)"):
        record.pin_config({"training": {"rate": value}}, tmp_path)
    assert [*tmp_path.iterdir()] == []


def test_other_data_are_refused_once_there_is_work(tmp_path):
    data = np.arange(4), np.zeros((4, 2), np.uint8)
    record.pin_data(tmp_path, real=data)
    work(tmp_path)
    record.pin_data(tmp_path, real=data)
    with pytest.raises(InputError, match=r"holds a run on other data \(real\):\n  sha256: there .*, now "):
        record.pin_data(tmp_path, real=(data[0], data[1] + 1))
    with pytest.raises(InputError, match=r"but no synthetic.json, so it is unknown on which data"):
        record.pin_data(tmp_path, synthetic=data)
    record.pin_data(tmp_path, added=True, synthetic=data)
    record.pin_data(tmp_path, synthetic=data)
    flip(tmp_path / "real.json")
    with pytest.raises(InputError, match=r"real.json is damaged"):
        record.pin_data(tmp_path, real=data)


def test_the_time_of_an_interrupted_stage_counts(tmp_path):
    path = tmp_path / "timing.json"

    def interrupted():
        with Timing(path).of("training"):
            time.sleep(0.05)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    spent = record.read_checked_json(path)["training"]
    assert spent >= 0.05
    with Timing(path).of("training"):
        time.sleep(0.02)
    assert record.read_checked_json(path)["training"] >= spent + 0.02


def test_damaged_times_are_begun_anew(tmp_path, capsys):
    files.write_json(tmp_path / "timing.json", [1, 2])
    assert Timing(tmp_path / "timing.json").seconds == {}
    assert "timing.json has no checksum" in capsys.readouterr().err


def contents(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def refuse(context):
    with context:
        raise InputError("no")


@pytest.mark.parametrize("command", [record.locked, record.undone_if_refused])
def test_a_refused_command_leaves_nothing_that_it_made_and_all_that_it_found(command, tmp_path):
    found = tmp_path / "found"
    found.mkdir()
    for folder in (tmp_path / "new/deep/workdir", found):
        with pytest.raises(InputError, match="no"):
            refuse(command(folder))
        assert contents(tmp_path) == ["found"]
    (found / "file").write_text("")
    with pytest.raises(InputError, match="no"):
        refuse(command(found))
    assert contents(found) == ["file"]
    (found / ".lock").write_text("")
    with pytest.raises(InputError, match="no"):
        refuse(command(found))
    assert contents(found) == [".lock", "file"]


def test_a_failed_command_keeps_its_work(tmp_path):
    def diverged():
        with record.locked(tmp_path / "workdir"):
            work(tmp_path / "workdir")
            raise FloatingPointError

    with pytest.raises(FloatingPointError):
        diverged()
    assert contents(tmp_path / "workdir") == ["extractors", "extractors/plain.safetensors"]


def test_a_refused_command_leaves_the_lock_of_another_process(tmp_path):
    with record.undone_if_refused(tmp_path / "workdir"):  # it saw no lock yet
        context = record.undone_if_refused(tmp_path / "workdir")
        context.__enter__()
        with record.locked(tmp_path / "workdir", "run"):
            error = InputError("no")
            assert not context.__exit__(InputError, error, None)
            with pytest.raises(
                InputError, match=r"another process works in .* \(process \d+ on .*, run\); wait"
            ):
                refuse(record.locked(tmp_path / "workdir"))
    assert contents(tmp_path) == ["workdir", "workdir/.lock"]


def test_a_lock_that_was_removed_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    opened = record.locks.opened

    def removed_once(path):
        file = opened(path)
        path.unlink()
        monkeypatch.setattr(record.locks, "opened", opened)
        return file

    monkeypatch.setattr(record.locks, "opened", removed_once)
    with record.locked(tmp_path), pytest.raises(InputError, match="another process works in"):
        refuse(record.locked(tmp_path))
