"""The peer process: it serves calls and ends with its context. Its speed is no matter for a test."""

import subprocess
import sys

import pytest

from jaxcil.benchmarks.torch_unet import missing, torch_unet
from jaxcil.diffusion.config import config_of
from jaxcil.diffusion.released import RELEASED
from jaxcil.diffusion.unet import UNet2DCondition

needs_torch = pytest.mark.skipif(bool(missing()), reason=f"{' and '.join(missing())} not installed")

NARROW = UNet2DCondition.from_config(RELEASED["sd15"]["unet"]).clone(
    block_out_channels=(8,) * 4, norm_num_groups=4, cross_attention_dim=8, attention_head_dim=2
)


@pytest.fixture
def started(monkeypatch):
    """Processes that were started."""
    processes = []

    def start(*arguments, **options):
        processes.append(real(*arguments, **options))
        return processes[-1]

    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")  # it takes a minute
    return processes


@needs_torch
def test_a_peer_answers_every_call_and_ends_with_its_context(started):
    with torch_unet(config_of(NARROW), (2, 8, 8, 4), (2, 3, 8), nfe=2) as peer:
        assert peer.way.split(",")[0] in ("contiguous", "channels_last")
        assert [peer.call(), peer.call()] == ["done", "done"]
        (process,) = started
        assert process.poll() is None
    assert process.wait() is not None


@needs_torch
def test_a_peer_that_cannot_start_is_told(started):
    with (
        pytest.raises(RuntimeError, match="ended early"),
        torch_unet(
            {**config_of(NARROW), "down_block_types": ["no such block"] * 4}, (1, 8, 8, 4), (1, 3, 8), 1
        ),
    ):
        pass
    assert started[0].wait() != 0


@pytest.fixture
def stub(monkeypatch, tmp_path):
    """Puts a shell script in the place of the process with torch."""

    def put(script):
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    return put


def test_a_call_ends_when_the_process_answers_and_none_outlives_the_context(started, stub):
    stub("read asked; echo contiguous; while read call; do echo $call again; done")
    with torch_unet({}, (1, 8, 8, 4), (1, 3, 8), nfe=1) as peer:
        assert (peer.way, peer.call(), peer.call()) == ("contiguous", "call again", "call again")
    assert started[0].returncode is not None


@pytest.mark.parametrize(
    "script",
    ["exit 1", "read asked; kill -9 $$", "read asked; echo contiguous; read call; kill -9 $$"],
    ids=["at once", "while it warms up", "in a call"],
)
def test_a_process_that_ends_early_is_told(started, stub, script):
    stub(script)
    with (
        pytest.raises(RuntimeError, match="ended early"),
        torch_unet({"filler": "x" * 2**17}, (1, 8, 8, 4), (1, 3, 8), nfe=1) as peer,
    ):
        peer.call()
    assert started[0].returncode is not None


def test_a_process_that_ended_between_two_calls_is_told(started, stub):
    stub("read asked; echo contiguous")
    with torch_unet({}, (1, 8, 8, 4), (1, 3, 8), nfe=1) as peer:
        started[0].wait()  # so that nobody reads what it is told: a broken pipe
        with pytest.raises(RuntimeError, match="ended early"):
            peer.call()
