"""A command that is asked to end does so in time with status 75, and what it has written is whole.

The processes are real: a signal cannot be tried in this one. Those of the first tests run a few lines of Python in the
place of a verb; the others are the commands that users run.
"""

import hashlib
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

STATUS, GRACE = 75, 2.0
MARGIN = 10.0  # seconds that a loaded machine may take beyond the grace period

SCRIPT = """
import atexit, contextlib, gc, multiprocessing, os, signal, sys, threading, time
from jaxcil.cli import main
from jaxcil.workdir import interruption

def ready():
    print("ready", flush=True)

def work(arguments):
    {work}

main._dispatch = work
sys.argv = ["jaxcil"]
main.main()
"""


@pytest.fixture
def start():
    """Starts a command that runs some lines, and waits until it says that it is ready."""
    processes = []

    def started(work, grace=GRACE):
        indented = work.strip().replace("\n", "\n    ")
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT.format(work=indented)],
            env={**os.environ, "JAXCIL_GRACE_SECONDS": str(grace)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield started
    for process in processes:
        process.kill()
        process.communicate()


def ended(process, *signals):
    """Sends signals half a second apart; gives seconds from the first one, and what was printed."""
    began = time.monotonic()
    for number in signals:
        process.send_signal(number)
        time.sleep(0.5 if number is not signals[-1] else 0)
    out, err = process.communicate(timeout=60)
    assert process.returncode == STATUS, err
    return time.monotonic() - began, out, err


CHECKED = """
interruption.check()
ready()
with contextlib.ExitStack() as stack:
    stack.callback(print, "cleaned up", flush=True)
    {}
print("not reached")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_loop_that_checks_ends_at_its_next_check_and_cleans_up(number, start):
    process = start(CHECKED.format("while True: interruption.check(); time.sleep(0.05)"), grace=60)
    seconds, out, err = ended(process, number)
    assert seconds < MARGIN
    assert out == "cleaned up\n"
    assert err.splitlines()[0] == "jaxcil: interrupted; ends within 60 s, or at once if interrupted again"
    assert "resume from here" in err.splitlines()[1]


def test_the_grace_period_is_the_time_of_work_that_does_not_check(start):
    seconds, out, err = ended(start(CHECKED.format("while True: time.sleep(100)")), signal.SIGTERM)
    assert GRACE <= seconds < GRACE + MARGIN
    assert out == ""
    assert err.splitlines()[1:] == ["jaxcil: interrupted; ended at once"]


def test_the_grace_period_is_the_time_of_cleaning_up(start):
    process = start(CHECKED.format("stack.callback(time.sleep, 100)\n    while True: interruption.check()"))
    seconds, _, _ = ended(process, signal.SIGTERM)
    assert GRACE <= seconds < GRACE + MARGIN


def test_a_second_signal_ends_at_once(start):
    process = start(CHECKED.format("while True: time.sleep(100)"), grace=60)
    seconds, _, err = ended(process, signal.SIGTERM, signal.SIGINT)
    assert seconds < MARGIN
    assert err.splitlines()[1:] == ["jaxcil: interrupted; ended at once"]


def test_before_the_first_check_a_signal_ends_at_once(start):
    seconds, _, err = ended(start("ready(); time.sleep(100)", grace=60), signal.SIGTERM)
    assert seconds < MARGIN
    assert err == "jaxcil: interrupted; ended at once\n"


def test_a_main_thread_outside_python_is_ended_too(start):
    # in one call of minutes, as a compiled program is
    work = "import hashlib; hashlib.pbkdf2_hmac('sha256', b'password', b'salt', 10**9)"
    seconds, _, _ = ended(start(CHECKED.format(work)), signal.SIGTERM)
    assert GRACE <= seconds < GRACE + MARGIN


def test_threads_and_exit_handlers_that_do_not_end_cannot_hold_an_interrupted_command(start):
    work = "threading.Thread(target=time.sleep, args=(100,)).start(); atexit.register(time.sleep, 100)"
    process = start(CHECKED.format(f"{work}\n    while True: interruption.check()"), grace=60)
    seconds, out, _ = ended(process, signal.SIGTERM)
    assert seconds < MARGIN
    assert out == "cleaned up\n"


def test_nothing_is_raised_in_a_callback_of_the_garbage_collector(start):
    # where Python would print the exception and swallow it
    work = (
        "gc.callbacks.append(lambda *_: time.sleep(0.01))\n    while True: gc.collect(); interruption.check()"
    )
    _, out, err = ended(start(CHECKED.format(work), grace=60), signal.SIGTERM)
    assert out == "cleaned up\n"
    assert "Exception ignored" not in err


def test_a_signal_to_a_child_ends_the_child_alone(start):
    work = """
interruption.check()
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(100,))
child.start()
child.terminate()
child.join()
interruption.check()
print("child ended with", child.exitcode, file=sys.stderr, flush=True)
ready()
while True: interruption.check(); time.sleep(0.05)
"""
    _, _, err = ended(start(work), signal.SIGTERM)
    assert "child ended with -15\n" in err


def test_a_command_that_is_done_ends_with_its_own_status_while_python_is_leaving(start):
    work = """
interruption.check()
class Slow:
    def __del__(self, write=os.write, sleep=time.sleep):
        write(1, b"ready\\n")
        sleep(1)
sys.modules["__main__"].slow = Slow()
"""
    process = start(work)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize("text", ["soon", "-1", "nan"])
def test_a_grace_period_that_is_no_duration_is_refused(text):
    process = subprocess.run(
        [sys.executable, "-m", "jaxcil", "--version"],
        env={**os.environ, "JAXCIL_GRACE_SECONDS": text},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2
    assert process.stderr == f"jaxcil: JAXCIL_GRACE_SECONDS must be a number of seconds, got {text!r}\n"


# The commands, at random moments.

MANY = int(os.environ.get("JAXCIL_MOMENTS", "100"))

GENERATE = (
    *("generate", "--config=generate_digits", "class_names=zero,one,two", "nfe=2", "batch_size=5"),
    *("shard_size=5", "images_per_class=40"),
)
RUN = (
    *(
        "run",
        "--config=quickstart",
        "learners=frozen,",
        "seeds=0,1",
        "variants=plain,future_proof",
        "heads=ncm,fecam",
    ),
    *(
        "training.steps=20",
        "training.checkpoint_every=5",
        "training.batch_size=16",
        "synthetic.images_per_class=10",
    ),
    *("synthetic.nfe=2", "synthetic.batch_size=10", "synthetic.shard_size=10"),
)
# What differs from call to call: times, which the page shows too; training states carry their own checksums.
VOLATILE = {"timing.json", "timing.json.sha256", "tensorboard", "report.html"}


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Programs are compiled once for all processes."""
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "NPROC")}
    environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path_factory.mktemp("programs"))
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    environment["JAXCIL_GRACE_SECONDS"] = str(GRACE)
    environment["HOME"] = str(tmp_path_factory.mktemp("home"))  # of prepared data
    return environment


def begun(words, workdir, environment):
    """The command, and the moment from which it handles signals."""
    verb, config, *fields = words
    command = [sys.executable, "-m", "jaxcil", verb, config, *(f"--config.{field}" for field in fields)]
    process = subprocess.Popen(
        [*command, f"--workdir={workdir}"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while process.poll() is None and not _handles_sigterm(process.pid):
        time.sleep(0.002)
    return process, time.monotonic()


def _handles_sigterm(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    (caught,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")]
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def results(workdir):
    """Contents of the files that a later call would take for results."""
    return {
        str(path.relative_to(workdir)): path.read_bytes()
        for path in workdir.rglob("*")
        if path.is_file()
        and not {part for part in path.relative_to(workdir).parts if part in VOLATILE or part[0] == "."}
        and not any(part.isdigit() or "orbax" in part for part in path.relative_to(workdir).parts)
    }


def assert_whole(workdir, whole):
    """Every file is that of a command which nobody interrupted, and has the checksum next to it."""
    for name, content in results(workdir).items():
        assert content == whole[name], name
    for sidecar in workdir.rglob("[!.]*.sha256"):
        path = sidecar.with_name(sidecar.name.removesuffix(".sha256"))
        assert sidecar.read_text() == f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"


@pytest.mark.parametrize(
    ("words", "moments"),
    [
        pytest.param(GENERATE, 2, id="generate-2"),
        pytest.param(GENERATE, MANY, id="generate-many", marks=pytest.mark.slow),
        pytest.param(RUN, MANY, id="run-many", marks=pytest.mark.slow),
    ],
)
def test_sigterms_at_random_moments_end_in_time_and_leave_whole_files(words, moments, environment, tmp_path):
    begun(words, tmp_path / "whole", environment)[0].communicate()  # compiles
    shutil.rmtree(tmp_path / "whole")
    process, began = begun(words, tmp_path / "whole", environment)
    out, _ = process.communicate()
    assert process.returncode == 0, out
    duration, whole = time.monotonic() - began, results(tmp_path / "whole")
    generator, workdir = random.Random(words[0]), tmp_path / "interrupted"
    statuses, longest = [], 0.0
    while len(statuses) < moments:
        process, began = begun(words, workdir, environment)
        time.sleep(generator.uniform(0, duration))
        process.send_signal(signal.SIGTERM)
        sent = time.monotonic()
        out, _ = process.communicate(timeout=GRACE + MARGIN)
        assert process.returncode in (0, STATUS), (len(statuses), out)
        assert "Traceback" not in out
        statuses.append(process.returncode)
        longest = max(longest, time.monotonic() - sent)
        if workdir.exists():
            assert_whole(workdir, whole)
        if process.returncode == 0:  # it was done; begin anew
            assert results(workdir) == whole
            shutil.rmtree(workdir)
    print(f"{words[0]}: {statuses.count(STATUS)} of {moments} interrupted, the slowest in {longest:.1f} s")
    process, _ = begun(words, workdir, environment)
    out, _ = process.communicate()
    assert process.returncode == 0, out
    assert results(workdir) == whole
