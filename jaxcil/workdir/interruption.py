"""SIGTERM and SIGINT as a flag that loops check, and a hard exit where they do not come to it.

An exception raised by a signal handler can surface anywhere: in a garbage collector's callback that swallows it, or in
a library that is left half-changed. So a signal raises nothing. Work checks for it where it can stop, between two
images or training steps; and what is not there in time is ended without clean-up, as by SIGKILL, which costs nothing
more, since every file is written whole or not at all.
"""

import contextlib
import math
import os
import select
import signal
import sys
import threading
import time
from typing import NoReturn

from jaxcil.errors import InputError

STATUS = 75  # of a command that was interrupted and may be started again
SIGNALS = (signal.SIGTERM, signal.SIGINT)
# From a signal to the hard exit; JAXCIL_GRACE_SECONDS overrides it.
GRACE_SECONDS = 20.0


class Interrupted(KeyboardInterrupt):
    """The process was asked to end."""


class _State:
    """Of this process."""

    requested = False  # by a signal
    checked = False  # until work has checked once there is nothing to clean up
    grace = GRACE_SECONDS
    wakeup: int | None = None  # where Python writes the numbers of signals


def install() -> None:
    """Handles SIGTERM and SIGINT from now on; called in the main thread, by a command that begins.

    A thread waits for them, since Python's own handlers run in the main thread alone, which may be in a compiled
    program for minutes.

    Raises:
      InputError: JAXCIL_GRACE_SECONDS is not a duration.
    """
    _State.grace = _grace()
    _State.requested = _State.checked = False
    if _State.wakeup is None:
        reading, _State.wakeup = os.pipe()
        os.set_blocking(_State.wakeup, False)
        threading.Thread(target=_watch, args=(reading,), name="signals", daemon=True).start()
        # a signal to a child, even to one that has hardly begun, would end this process too
        os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=_uninstall)
    signal.set_wakeup_fd(_State.wakeup, warn_on_full_buffer=False)
    for number in SIGNALS:
        signal.signal(number, _ignored)


def check() -> None:
    """Ends the work here, if the process was asked to end; for loops, at points where they can be resumed.

    Raises:
      Interrupted: a signal has come.
    """
    _State.checked = True
    if _State.requested:
        raise Interrupted


def ignore() -> None:
    """Lets a command that is done end with its own status: Python takes its handlers away before it has ended."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def leave() -> NoReturn:
    """Ends an interrupted command with its status, without waiting for threads that libraries have left."""
    if not _State.requested:  # a KeyboardInterrupt of other origin
        sys.exit(STATUS)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(STATUS)


def _grace() -> float:
    text = os.environ.get("JAXCIL_GRACE_SECONDS", str(GRACE_SECONDS))
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise InputError(f"JAXCIL_GRACE_SECONDS must be a number of seconds, got {text!r}")
    return seconds


def _ignored(number: int, frame: object) -> None:
    """Python writes the number for `_watch` before it calls this."""


def _block() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _uninstall() -> None:
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    _unblock()


def _watch(reading: int) -> None:
    """Sets the flag at the first signal; ends the process at the second, or when the time is up."""
    end: float | None = None
    while True:
        left = None if end is None else max(0.0, end - time.monotonic())
        ready, _, _ = select.select([reading], [], [], left)
        if ready and not {*os.read(reading, 64)} & {*SIGNALS}:
            continue  # a signal that others handle
        if not ready or _State.requested or not _State.checked:
            _write("jaxcil: interrupted; ended at once")
            os._exit(STATUS)
        _State.requested = True
        end = time.monotonic() + _State.grace
        _write(f"jaxcil: interrupted; ends within {_State.grace:g} s, or at once if interrupted again")


def _write(line: str) -> None:
    """To standard error, past buffers that the main thread may be holding."""
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode())
