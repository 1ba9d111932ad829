"""A bar on a terminal, a line a minute elsewhere; the clock is the test's own."""

import io
import struct

import pytest
from tensorboardX.proto.event_pb2 import Event

from jaxcil.workdir import progress
from jaxcil.workdir.progress import Progress, Scalars


@pytest.fixture
def clock(monkeypatch):
    """A time that only moves when told to."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.fixture
def points(monkeypatch):
    """What would be written for TensorBoard."""
    written = []
    monkeypatch.setattr(progress.Scalars, "write", lambda self, done, values: written.append((done, values)))
    return written


def test_a_log_gets_a_line_a_minute_with_speed_and_time_left(clock, capsys):
    with Progress("images", 10_000, "image", 1000) as shown:
        for done in (1300, 1600, 2200):
            clock.now += 30.5
            shown.reach(done)
    # 600 images in 61 seconds; what was done before is no part of the speed
    assert capsys.readouterr().err == "images: 1600 of 10000, 9.84 a second, 14:14 left\n"


def test_the_speed_of_a_line_is_that_since_the_line_before(clock, capsys):
    with Progress("training", 1000, "step") as shown:
        clock.now += 100
        shown.reach(100, "loss 2.5")
        clock.now += 100
        shown.reach(600, "loss 1.5")
        clock.now += 100
        shown.reach(600)
    assert capsys.readouterr().err.splitlines() == [
        "training: 100 of 1000, 1 a second, 15:00 left, loss 2.5",
        "training: 600 of 1000, 5 a second, 01:20 left, loss 1.5",
        "training: 600 of 1000, 0 a second, unknown time left",
    ]


def test_a_terminal_gets_a_bar_with_speed_and_time_left_and_no_lines(clock, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stderr", Terminal())
    import sys

    with Progress("images", 100, "image") as shown:
        clock.now += 1000
        shown.reach(50, "going well")
        shown._bar.refresh()
        text = sys.stderr.getvalue()
    assert "50/100" in text
    assert "image/s" in text.replace("s/ image", " image/s")  # tqdm turns it round below one a second
    assert "going well" in text
    assert "left" not in text


def test_curves_have_the_count_the_speed_and_the_values_told(clock, points):
    with Progress("images", 100, "image", 20, scalars="unused") as shown:
        clock.now += 10
        shown.reach(40, values={"waiting": 0.25})
        clock.now += 1  # too soon
        shown.reach(41)
        clock.now += 9
        shown.reach(60)
    assert points == [
        (40, {"images/done": 40, "images/a second": 2.0, "images/waiting": 0.25}),
        (60, {"images/done": 60, "images/a second": 2.0}),
    ]


def test_short_work_leaves_no_file(tmp_path):
    with Progress("images", 10, "image", scalars=tmp_path / "tensorboard") as shown:
        shown.reach(10)
    assert list(tmp_path.iterdir()) == []


def events(file):
    """The records of an events file: length, checksum, bytes, checksum."""
    data, records = file.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        records.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return records


def test_points_can_be_read_as_soon_as_they_are_written(tmp_path):
    curves = Scalars(tmp_path / "tensorboard")
    curves.write(3, {"images/done": 3, "loss": 0.5})
    curves.write(7, {"loss": 0.25})
    (file,) = (tmp_path / "tensorboard").iterdir()
    first, *points = events(file)
    assert first.file_version == "brain.Event:2"
    assert [
        (event.step, value.tag, value.simple_value) for event in points for value in event.summary.value
    ] == [
        (3, "images/done", 3),
        (3, "loss", 0.5),
        (7, "loss", 0.25),
    ]
    curves.close()


def test_two_processes_that_begin_in_one_second_write_two_files(tmp_path, monkeypatch):
    for process in (11, 12):
        monkeypatch.setattr("os.getpid", lambda process=process: process)
        curves = Scalars(tmp_path)
        curves.write(0, {"loss": process})
        curves.close()
    values = {events(file)[1].summary.value[0].simple_value for file in tmp_path.iterdir()}
    assert values == {11, 12}


@pytest.mark.parametrize("folder", ["/dev/null/x", "/proc/x"])
def test_a_folder_that_cannot_be_made_ends_the_curves_and_not_the_run(folder, capsys):
    curves = Scalars(folder)
    for step in range(3):
        curves.write(step, {"loss": 1.0})
    curves.close()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"jaxcil: no more scalars in {folder}: ")


def test_a_full_disk_ends_the_curves_and_not_the_run(tmp_path, capsys):
    curves = Scalars(tmp_path)
    curves.write(0, {"loss": 1.0})
    writer = curves._file._py_recordio_writer
    writer._writer.close()
    with open("/dev/full", "wb", buffering=0) as full:
        writer._writer = full
        for step in range(3):
            curves.write(step, {"loss": 1.0})
        curves.close()
    assert "No space left on device" in capsys.readouterr().err
