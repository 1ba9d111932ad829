"""What a workdir keeps beside the results."""

import time

import pytest

from jaxcil.workdir import files
from jaxcil.workdir.record import Timing


def test_the_time_of_an_interrupted_stage_counts(tmp_path):
    path = tmp_path / "timing.json"

    def interrupted():
        with Timing(path).of("training"):
            time.sleep(0.05)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    spent = files.read_json(path)["training"]
    assert spent >= 0.05
    with Timing(path).of("training"):
        time.sleep(0.02)
    assert files.read_json(path)["training"] >= spent + 0.02
