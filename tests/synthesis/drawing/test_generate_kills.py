"""`kill -9` at random moments of `jaxcil generate`, in processes of their own, alone and beside another."""

import contextlib
import functools
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxcil.synthesis.dataset import store
from jaxcil.synthesis.dataset.manifest import read_manifest
from jaxcil.synthesis.dataset.verify import verify

FIELDS = ("class_names=zero,one,two", "nfe=2", "batch_size=5", "shard_size=5")


@pytest.fixture(scope="module")
def start():
    """Starts the command on a directory."""
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "NPROC")}

    def started(workdir, images_per_class):
        fields = [f"--config.{field}" for field in (*FIELDS, f"images_per_class={images_per_class}")]
        command = [sys.executable, "-m", "jaxcil", "generate", "--config=generate_digits", *fields]
        return subprocess.Popen(
            [*command, f"--workdir={workdir}"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return started


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """Sets that nobody interrupted, by their images a class; tests only read them."""

    @functools.cache
    def made(images_per_class):
        directory = tmp_path_factory.mktemp("whole")
        finished(start(directory, images_per_class))
        return directory

    return made


def standing(directory):
    """The very file of each shard that stands."""
    if not (directory / "manifest.json").exists():
        return {}
    manifest = read_manifest(directory)
    paths = [store.shard_path(directory, n) for n in range(len(manifest.requests.shards))]
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
        for n, path in enumerate(paths)
        if store.is_complete(directory, manifest, n)
    }


def leases(directory):
    """Shards that were being drawn: the lease goes when the shard stands, or its process ends in good order."""
    return {path.name[1:].removesuffix(".lease") for path in directory.glob(".synthetic-train.*.lease")}


def finished(process):
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


def wait_for(happened, process):
    while not happened():
        assert process.poll() is None, f"it ended too early: {process.stdout.read()}"
        time.sleep(0.002)


def kill_at_random(process, directory, generator):
    """Kills while a program starts, draws or writes; says which shards stood then, and which were in its hands."""
    stood = len([*directory.glob("synthetic-train.*.json")])
    if generator.random() < 0.2:
        time.sleep(generator.uniform(0, 3))
    else:
        more = generator.integers(0, 3)
        wait_for(lambda: len([*directory.glob("synthetic-train.*.json")]) >= stood + more, process)
        wait_for(lambda: in_hand_of(process, directory), process)
        time.sleep(generator.uniform(0, 0.1))
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it had ended: make the set larger"
    after = standing(directory)
    return after, leases(directory) - {*after}


@pytest.mark.parametrize(
    ("kills", "images_per_class"),
    [pytest.param(3, 50, marks=pytest.mark.slow), pytest.param(30, 250, marks=pytest.mark.slow)],
    ids=["3", "30"],
)
def test_kills_at_random_moments_cost_a_shard_each_and_leave_no_trace(
    kills, images_per_class, start, whole, tmp_path, contents
):
    expected = contents(whole(images_per_class))
    killed, generator = tmp_path / "killed", np.random.default_rng(12)
    killed.mkdir()
    kept = {}
    for _ in range(kills):
        after, lost = kill_at_random(start(killed, images_per_class), killed, generator)
        assert {name: after[name] for name in kept} == kept  # what stood is not drawn again
        assert len(lost) <= 1  # and nothing is drawn without a lease
        kept = after
    assert not (killed / "dataset_info.json").exists()
    finished(start(killed, images_per_class))
    after = standing(killed)
    assert {name: after[name] for name in kept} == kept
    assert verify(killed) == []
    assert contents(killed) == expected


@pytest.mark.parametrize(
    ("kills", "images_per_class"), [(1, 100), pytest.param(9, 500, marks=pytest.mark.slow)], ids=["1", "9"]
)
def test_two_processes_are_killed_and_one_makes_all_that_is_missing(
    kills, images_per_class, start, whole, tmp_path, contents
):
    expected, generator = contents(whole(images_per_class)), np.random.default_rng(12)
    shared = tmp_path / "shared"
    shared.mkdir()
    kept = {}
    for killed in range(1, kills + 1, 2):
        both = start(shared, images_per_class), start(shared, images_per_class)
        for process in both:
            wait_for(lambda process=process: in_hand_of(process, shared), process)
        time.sleep(generator.uniform(0, 0.1))
        for process in both[: 1 if killed == kills else 2]:
            process.kill()
            process.communicate()
        after = standing(shared)
        assert {name: after[name] for name in kept} == kept
        assert len(leases(shared) - {*after}) <= 2
        kept = after
    finished(both[1])
    assert verify(shared) == []
    assert contents(shared) == expected


def in_hand_of(process, directory):
    """Shards that a process has leased, as it signed."""
    found = []
    for path in directory.glob(".synthetic-train.*.lease"):
        with contextlib.suppress(FileNotFoundError):
            found += [path] * path.read_text().startswith(f"process {process.pid} on")
    return found
