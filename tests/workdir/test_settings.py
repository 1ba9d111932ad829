"""Settings of a verb: what a config may say, and the message for what it may not."""

import dataclasses
import json

import pytest
from ml_collections import ConfigDict

from jaxcil.errors import InputError
from jaxcil.workdir import settings
from jaxcil.workdir.settings import as_dict, config_dict, field, flat_fields, group, made_from, resolve


@dataclasses.dataclass(frozen=True)
class Crop:
    pixels: int | None = field(None, "padding; None: no crop", low=1, high=64)
    border: str = field("black", "what is outside", choices=("black", "edge"))


@dataclasses.dataclass(frozen=True)
class Training:
    steps: int = field(300, "optimiser steps", low=1, high=10**9)
    rate: float = field(0.1, "learning rate", low=0.0, high=10.0)
    decay: float | None = field(None, "of the average", low=0.0, below=1.0)
    nesterov: bool = field(False, "momentum of Nesterov")
    milestones: tuple[int, ...] = field((), "epochs", low=1)
    crop: Crop = group(Crop, "random crops")


@dataclasses.dataclass(frozen=True)
class Settings:
    dataset: str = field("digits", "real images")
    data_dir: str | None = field(None, "folder of TFDS")
    seeds: tuple[int, ...] = field((0, 1), "a run each", low=0, high=2**32 - 1)
    heads: tuple[str, ...] = field(("ncm",), "classifiers", choices=("ncm", "fecam"))
    scales: tuple[float, ...] | None = field(None, "in turn", low=0.0)
    options: dict[str, dict[str, object]] = field({"fecam": {"beta": 0.5, "bins": (1, 2)}}, "of heads")
    training: Training = group(Training, "the training")


def changed(name, value):
    """The config with one field changed, as config.json would hold it."""
    config = as_dict(Settings())
    *groups, last = name.split(".")
    place = config
    for part in groups:
        place = place[part]
    place[last] = value
    return config


def test_defaults_go_through_a_config_and_through_json():
    config = config_dict(Settings)
    assert resolve(Settings, config) == Settings()
    assert resolve(Settings, json.loads(config.to_json())) == Settings()
    assert resolve(Settings, json.loads(json.dumps(as_dict(Settings())))) == Settings()
    assert json.loads(config.to_json()) == as_dict(Settings())


@pytest.mark.parametrize(
    ("name", "value", "result"),
    [
        ("dataset", "cifar10", "cifar10"),
        ("data_dir", "/data", "/data"),
        ("data_dir", None, None),
        ("seeds", [2**32 - 1], (2**32 - 1,)),
        ("seeds", (), ()),
        ("scales", [1, 2.5], (1.0, 2.5)),
        ("training.rate", 1, 1.0),
        ("training.rate", 10.0, 10.0),
        ("training.decay", 0, 0.0),
        ("training.nesterov", True, True),
        ("training.crop.pixels", 64, 64),
        ("training.crop.pixels", None, None),
        ("options", {"fecam": {"beta": 1.0, "bins": [3]}}, {"fecam": {"beta": 1.0, "bins": (3,)}}),
    ],
)
def test_a_valid_value_arrives_with_the_type_of_its_field(name, value, result):
    value = resolve(Settings, changed(name, value))
    for part in name.split("."):
        value = getattr(value, part)
    assert value == result
    assert type(value) is type(result)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("dataset", 3, "dataset must be text, got 3"),
        ("dataset", None, "dataset must be text, got None"),
        ("seeds", 0, "seeds must be a list of whole numbers, got 0"),
        ("seeds", "01", "seeds must be a list of whole numbers, got '01'"),
        ("seeds", [0, True], r"seeds\[1\] must be a whole number, got True"),
        ("seeds", [0, 1.0], r"seeds\[1\] must be a whole number, got 1.0"),
        ("seeds", [0, 2**32], r"seeds\[1\] must be from 0 to 4,294,967,295, got 4294967296"),
        ("seeds", None, "seeds must be a list of whole numbers, got None"),
        ("heads", ["ncm", 2], r"heads\[1\] must be text, got 2"),
        ("heads", ["fecm"], r"no heads\[0\] 'fecm'; there are: ncm, fecam. Did you mean 'fecam'?"),
        ("scales", [float("nan")], r"scales\[0\] must be finite, got nan"),
        ("options", "fecam", "options must be a group of fields, got 'fecam'"),
        ("options", {"fecam": {"beta": float("nan")}}, "options.fecam.beta must be finite, got nan"),
        ("training", 3, "training must be a group of fields, got 3"),
        ("training", None, "training must be a group of fields, got None"),
        ("training.steps", 0, "training.steps must be from 1 to 1,000,000,000, got 0"),
        ("training.steps", 10**20, "training.steps must be from 1 to 1,000,000,000, got 1000"),
        ("training.steps", 10**5000, "training.steps must be from 1 to 1,000,000,000, got a number of thou"),
        ("training.steps", True, "training.steps must be a whole number, got True"),
        ("training.steps", 3.0, "training.steps must be a whole number, got 3.0"),
        ("training.steps", float("nan"), "training.steps must be a whole number, got nan"),
        ("training.steps", [3], r"training.steps must be a whole number, got \[3\]"),
        ("training.steps", {"a": 1}, "training.steps must be a whole number, got {'a': 1}"),
        ("training.rate", "0.1", "training.rate must be a number, got '0.1'"),
        ("training.rate", True, "training.rate must be a number, got True"),
        ("training.rate", float("nan"), "training.rate must be finite, got nan"),
        ("training.rate", float("inf"), "training.rate must be finite, got inf"),
        ("training.rate", 10**400, "training.rate must be finite, got inf"),
        ("training.rate", -1e-9, "training.rate must be from 0.0 to 10.0, got -1e-09"),
        ("training.decay", 1.0, "training.decay must be at least 0.0 and less than 1.0, got 1.0"),
        ("training.nesterov", 1, "training.nesterov must be true or false, got 1"),
        ("training.milestones", ["abc"], r"training.milestones\[0\] must be a whole number, got 'abc'"),
        ("training.milestones", [0], r"training.milestones\[0\] must be at least 1, got 0"),
        ("training.crop.pixels", 65, "training.crop.pixels must be from 1 to 64, got 65"),
        ("training.crop.border", "edges", "no training.crop.border 'edges'.*Did you mean 'edge'"),
        ("training.stepps", 3, "no config field 'training.stepps'.*Did you mean 'training.steps'"),
        ("training.crop.pixel", 3, "no config field 'training.crop.pixel'.*mean 'training.crop.pixels'"),
        ("datset", "digits", "no config field 'datset'.*Did you mean 'dataset'"),
    ],
    ids=lambda value: str(value)[:20] if not isinstance(value, int) or value < 10**9 else "huge",
)
def test_a_wrong_value_is_refused_under_the_name_that_the_user_writes(name, value, message):
    with pytest.raises(InputError, match=message):
        resolve(Settings, changed(name, value))


@pytest.mark.parametrize("name", [item.name for item in flat_fields(Settings)])
def test_every_field_must_be_there(name):
    config = changed(name, None)
    *groups, last = name.split(".")
    place = config
    for part in groups:
        place = place[part]
    del place[last]
    with pytest.raises(InputError, match=rf"the config has no field {name} \(\w"):
        resolve(Settings, config)


@pytest.mark.parametrize("config", [None, [], 3, "digits"])
def test_what_is_no_config_is_refused(config):
    with pytest.raises(InputError, match="a config must be a group of fields, got "):
        resolve(Settings, config)


def test_a_long_value_is_shortened_in_a_message():
    with pytest.raises(InputError) as error:
        resolve(Settings, changed("seeds", "9" * 10**5))
    assert len(str(error.value)) < 300


def test_a_changed_config_gives_changed_settings_and_leaves_the_defaults():
    config = config_dict(Settings)
    config.training.crop.pixels = 4
    config.options.fecam.beta = 1.0
    config.scales = (2.0,)
    resolved = resolve(Settings, config.lock())
    assert resolved.training.crop.pixels == 4
    assert resolved.options["fecam"]["beta"] == 1.0
    assert resolved.scales == (2.0,)
    assert resolve(Settings, config_dict(Settings)) == Settings()
    assert Settings().options["fecam"]["beta"] == 0.5


def test_a_field_that_is_none_still_refuses_another_type_at_once():
    with pytest.raises(TypeError):
        config_dict(Settings).training.decay = "much"


def test_a_config_knows_the_settings_that_it_was_made_from():
    assert made_from(config_dict(Settings).lock()) is Settings
    assert made_from(ConfigDict({"made_from": 3})) is None
    assert made_from(None) is None


def test_settings_of_a_group_may_differ_from_those_of_its_class():
    @dataclasses.dataclass(frozen=True)
    class Longer:
        training: Training = group(lambda: Training(steps=7), "longer")

    assert resolve(Longer, config_dict(Longer)).training.steps == 7
    defaults = {item.name: item.default for item in settings.flat_fields(Longer)}
    assert defaults["training.steps"] == 7
