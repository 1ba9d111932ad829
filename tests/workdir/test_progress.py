"""A bar on a terminal, a line a minute elsewhere; the clock is the test's own."""

import io

import pytest

from jaxcil.workdir import progress, scalars
from jaxcil.workdir.progress import Progress


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
    monkeypatch.setattr(scalars.Scalars, "write", lambda self, done, values: written.append((done, values)))
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
