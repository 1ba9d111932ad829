import struct

import pytest
from tensorboardX.proto.event_pb2 import Event

from jaxcil.workdir.scalars import Scalars


def events(file):
    """The records of an events file: length, checksum, bytes, checksum."""
    data, found = file.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        found.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return found


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
    assert line.startswith(f"jaxcil: no scalars any more in {folder}: ")


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
