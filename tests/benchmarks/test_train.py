"""The benchmark of training steps: its figures where torch is absent, its bad input, and the peer process."""

import pytest

from jaxcil.benchmarks import timing, torch_resnet, train
from jaxcil.cli import benchmark
from jaxcil.errors import InputError
from jaxcil.extractors.resnet_cifar import ResNetCIFAR


def test_without_torch_the_step_is_timed_and_no_ratio_is_reported(monkeypatch):
    monkeypatch.setattr(torch_resnet, "missing", lambda: True)
    monkeypatch.setattr(timing, "BUDGET", 0.0)
    monkeypatch.setitem(train.NETWORKS, "resnet32", lambda: ResNetCIFAR(blocks=1, width=2))
    figures = train.run(network="resnet32", batch=2)
    parts = figures["resnet32"]
    assert parts["step_seconds"] > 0
    assert parts["torch_step_seconds"] is None
    assert parts["step_over_torch"] is None
    assert parts["forward_fraction"] + parts["backward_fraction"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("argument", "message"),
    [("--network=resnet23", "Did you mean 'resnet32'"), ("--batch=0", "at least 1, got 0")],
)
def test_bad_input_is_refused_before_anything_is_compiled(argument, message):
    with pytest.raises(InputError, match=message):
        benchmark.main(["train", argument])


@pytest.mark.skipif(torch_resnet.missing(), reason="torch not installed")
@pytest.mark.parametrize("network", list(train.NETWORKS))
def test_the_peer_makes_steps_and_ends_with_its_context(network):
    with torch_resnet.torch_resnet(network, batch=2, steps=1) as (_, call):
        assert [call(), call()] == ["done", "done"]


def test_a_peer_that_cannot_start_is_reported():
    with pytest.raises(RuntimeError, match="ended early"), torch_resnet.torch_resnet("no such network", 2, 1):
        pass
