"""The peer process: it serves calls and ends with its context. Its speed is no matter for a test."""

import subprocess

import pytest

from jaxcil.benchmarks import stable_diffusion
from jaxcil.benchmarks.torch_unet import missing, torch_unet
from jaxcil.diffusion.config import config_of

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"{' and '.join(missing())} not installed")

NARROW = stable_diffusion.unet().clone(
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


def test_a_peer_answers_every_call_and_ends_with_its_context(started):
    with torch_unet(config_of(NARROW), (2, 8, 8, 4), (2, 3, 8), calls=2) as peer:
        assert peer.way.split(",")[0] in ("contiguous", "channels_last")
        assert [peer.call(), peer.call()] == ["done", "done"]
        (process,) = started
        assert process.poll() is None
    assert process.wait() is not None


def test_a_peer_that_cannot_start_is_told(started):
    with (
        pytest.raises(RuntimeError, match="ended early"),
        torch_unet(
            {**config_of(NARROW), "down_block_types": ["no such block"] * 4}, (1, 8, 8, 4), (1, 3, 8), 1
        ),
    ):
        pass
    assert started[0].wait() != 0
