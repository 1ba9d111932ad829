"""What of a config is refused, and what results hold."""

import numpy as np
import pytest

from jaxcil.cli.main import parse
from jaxcil.errors import InputError
from jaxcil.evaluation.samplers import comparison
from jaxcil.evaluation.samplers.compared import SAMPLERS


def config_with(**fields):
    flags = [f"--config.{name.replace('__', '.')}={value}" for name, value in fields.items()]
    return parse(["--config=compare_samplers", *flags])[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"samplers": "ddim,dpmp_2m"}, "no sampler 'dpmp_2m'.*Did you mean 'dpmpp_2m'"),
        ({"samplers": "ddim,ddim"}, "one sampler or more, none twice; got ddim, ddim"),
        ({"data": "rings"}, "no data set to compare samplers on 'rings'.*'ring'"),
        ({"calls": "1,5"}, r"calls must be rising numbers from 2 to 1000, got \(1, 5\)"),
        ({"calls": "10,5"}, "calls must be rising"),
        ({"digits__calls": "5,2000"}, "digits.calls must be rising numbers from 2 to 1000"),
        ({"order_calls": "10,15"}, "order_calls must be rising even numbers from 4 on"),
        ({"repetitions": 0}, "repetitions must be at least 1, got 0"),
        ({"points": 4}, "points must be at least 8"),
        ({"digits__judge__steps": 0}, "digits.judge.steps must be at least 1"),
        ({"digits__images": 150}, "digits.images must be a multiple of digits.batch_size, got 150"),
        ({"digits__seeds": "0,1000"}, "digits.seeds and digits.limit.seed must differ"),
        ({"digits__limit__sampler": "dim"}, "no sampler 'dim'.*'ddim'"),
        ({"digits__templates": "a digit"}, "a template holds {} once"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_compared_is_refused(fields, message):
    with pytest.raises(InputError, match=message):
        comparison.check(config_with(**fields))


def test_the_shipped_config_is_accepted_and_compares_every_sampler():
    config = config_with()
    comparison.check(config)
    assert set(config.samplers) == set(SAMPLERS)
    names = [part.name for part in comparison.parts(config)]
    assert len(set(names)) == len(names) == 3 * len(config.calls) + 1 + len(config.digits.calls) + 3


def test_results_hold_means_and_standard_errors_of_the_repetitions():
    config = config_with(order_calls="10,20")
    measured = {
        "ring-10": {"energy_distance": {"ddim": [1.0, 3.0]}},
        "digits-limit": {"moments": [], "quality": {"precision": {"real": [0.9]}}},
        "gaussian_ode": {"ddim": [0.4, 0.2]},
    }
    found = comparison.results(config, measured)
    ring, real = found["quality"]
    assert (ring["data"], ring["calls"], ring["mean"], ring["standard_error"]) == ("ring", 10, 2.0, 1.0)
    assert (real["data"], real["calls"], real["standard_error"]) == ("digits", None, None)
    assert found["orders"][0]["errors"] == [0.4, 0.2]
    assert found["config"]["seed"] == 0


def test_every_repetition_has_other_draws_and_a_part_tells_of_each(monkeypatch):
    told = []
    config = config_with(samplers="ddim", data="ring", calls="4", repetitions=2, points=64, order_calls="()")
    (part,) = comparison.parts(config)
    quality = part.measure({}, lambda: told.append(1))
    assert len(told) == part.runs == 2
    values = quality["energy_distance"]["ddim"]
    assert len(set(values)) == 2
    assert np.isfinite(values).all()
