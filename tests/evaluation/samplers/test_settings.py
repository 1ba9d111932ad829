"""What a comparison's config may not say."""

import pytest

from jaxcil.cli.arguments import parse
from jaxcil.errors import InputError
from jaxcil.evaluation.samplers.settings import (
    CalibrationSettings,
    ComparisonSettings,
    calibration_settings,
    comparison_defaults,
    comparison_settings,
)


def config_with(**fields):
    flags = [f"--config.{name.replace('__', '.')}={value}" for name, value in fields.items()]
    return parse(["--config=compare_samplers", *flags], comparison_defaults())[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"samplers": "ddim,dpmp_2m"}, "'dpmp_2m'.*Did you mean 'dpmpp_2m'"),
        ({"samplers": "ddim,ddim"}, "samplers must be one name or more, none twice; got ddim, ddim"),
        ({"samplers": ""}, "samplers must be one name or more, none twice; got none"),
        ({"data": "rings"}, r"no data\[0\] 'rings'; .*Did you mean 'ring'"),
        ({"nfe": "1,5"}, r"nfe\[0\] must be from 2 to 1,000, got 1"),
        ({"nfe": "10,5"}, "nfe must be rising"),
        ({"digits__nfe": "5,2000"}, r"digits\.nfe\[1\] must be from 2 to 1,000, got 2000"),
        ({"digits__nfe": "5,5"}, r"digits\.nfe must be rising"),
        ({"order_nfe": "10,15"}, "order_nfe must be even"),
        ({"order_nfe": "20,10"}, "order_nfe must be rising"),
        ({"repetitions": 0}, "repetitions must be at least 1, got 0"),
        ({"points": 4}, "points must be at least 8"),
        ({"digits__judge__steps": 0}, r"digits\.judge\.steps must be at least 1"),
        ({"digits__images": 150}, r"digits\.images must be a multiple of digits\.batch_size, got 150"),
        ({"digits__seeds": "0,1000"}, r"digits\.seeds and digits\.limit\.seed must differ"),
        ({"digits__limit__sampler": "dim"}, "'dim'.*'ddim'"),
        ({"digits__templates": "a digit"}, "a template holds {} once"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_compared_is_refused(fields, message):
    with pytest.raises(InputError, match=message):
        comparison_settings(config_with(**fields))


def test_the_defaults_pass_their_own_checks():
    from jaxcil.evaluation.samplers.settings import calibration_defaults

    assert comparison_settings(comparison_defaults()) == ComparisonSettings()
    assert calibration_settings(calibration_defaults()) == CalibrationSettings()
