"""The benchmark of learners' training steps: its figures where torch is absent, its bad input, and the peer process."""

import pytest

from jaxcil.benchmarks import learners, timing, torch_resnet
from jaxcil.benchmarks.torch_learners import torch_learner
from jaxcil.cli import benchmark
from jaxcil.errors import InputError


@pytest.mark.slow
@pytest.mark.parametrize("name", learners.LEARNERS)
def test_without_torch_the_step_is_timed_and_no_ratio_is_reported(name, monkeypatch):
    monkeypatch.setattr(torch_resnet, "missing", lambda: True)
    monkeypatch.setattr(timing, "BUDGET", 0.0)
    maker, network = learners.LEARNERS[name]
    small = "resnet8" if network == "resnet32" else "resnet8_lucir"
    monkeypatch.setitem(learners.LEARNERS, name, (maker, small))
    figures = learners.run(only=(name,), batch=2)
    assert figures[name]["step_seconds"] > 0
    assert figures[name]["torch_step_seconds"] is None
    assert figures[name]["step_over_torch"] is None


@pytest.mark.parametrize(
    ("argument", "message"),
    [("--only=lusir,", "Did you mean 'lucir'"), ("--batch=0", "at least 1, got 0")],
)
def test_bad_input_is_refused_before_anything_is_compiled(argument, message):
    with pytest.raises(InputError, match=message):
        benchmark.main(["learners", argument])


@pytest.mark.skipif(torch_resnet.missing(), reason="torch not installed")
@pytest.mark.parametrize("name", learners.LEARNERS)
def test_the_peer_makes_steps_and_ends_with_its_context(name):
    with torch_learner(name, batch=8, steps=1, old=4, new=2) as (_, call):
        assert [call(), call()] == ["done", "done"]
