"""Arguments of a verb: overrides of a config by the types of its settings, values in places, and flags."""

import dataclasses

import pytest

from jaxcil.cli import arguments
from jaxcil.cli.arguments import parse, read_flags
from jaxcil.errors import InputError
from jaxcil.workdir.settings import config_dict, field, group, resolve


@dataclasses.dataclass(frozen=True)
class Training:
    steps: int | None = field(None, "optimiser steps", low=1)
    rate: float = field(0.1, "learning rate", low=0)
    nesterov: bool = field(False, "momentum of Nesterov")
    milestones: tuple[int, ...] = field((80, 120), "epochs")
    batch_fraction: float | None = field(None, "of a batch")
    checkpoint_every: int = field(100, "steps")


@dataclasses.dataclass(frozen=True)
class Settings:
    dataset: str = field("digits", "real images")
    data_dir: str | None = field(None, "folder of TFDS")
    seeds: tuple[int, ...] = field((0, 1, 2), "a run each")
    heads: tuple[str, ...] = field(("ncm", "fecam"), "classifiers")
    classes: tuple[str, ...] = field((), "names")
    scales: tuple[float, ...] | None = field(None, "in turn")
    options: dict[str, dict[str, object]] = field({"fecam": {"beta": 0.5, "correlation": True}}, "of heads")
    training: Training = group(Training, "the training")


def base():
    return config_dict(Settings)


@pytest.fixture
def parsed(tmp_path):
    """Settings of a config with overrides."""
    path = tmp_path / "config.json"
    path.write_text("{}")

    def run(*overrides):
        config, _ = parse([f"--config={path}", *(f"--config.{override}" for override in overrides)], base())
        assert config.is_locked
        return resolve(Settings, config)

    return run


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("dataset=cifar10", "cifar10"),
        ("dataset=1", "1"),
        ("dataset=a=b", "a=b"),
        ("dataset=", ""),
        ("data_dir=none", None),
        ("data_dir=/data", "/data"),
        ("seeds=0,1", (0, 1)),
        ("seeds=0,1,", (0, 1)),
        ("seeds=0", (0,)),
        ("seeds=(3, 4)", (3, 4)),
        ("seeds=[3]", (3,)),
        ("seeds=", ()),
        ("seeds=()", ()),
        ("heads=ncm", ("ncm",)),
        ("heads=ncm, fecam,", ("ncm", "fecam")),
        ("heads=('ncm', 'fecam')", ("ncm", "fecam")),
        ("heads='ncm','fecam'", ("ncm", "fecam")),
        ("heads='a, b'", ("a, b",)),
        ("classes=cat, dog", ("cat", "dog")),
        ("classes=0,1", ("0", "1")),
        ("scales=1,2.5", (1.0, 2.5)),
        ("scales=none", None),
        ("options.fecam.beta=1", 1.0),
        ("options.fecam.correlation=false", False),
        ("training.steps=7", 7),
        ("training.steps=none", None),
        ("training.steps=None", None),
        ("training.rate=1", 1.0),
        ("training.rate=1e-3", 1e-3),
        ("training.nesterov=true", True),
        ("training.nesterov=False", False),
        ("training.nesterov", True),
        ("training.milestones=30", (30,)),
        ("training.batch_fraction=0.3", 0.3),
    ],
)
def test_a_text_means_what_the_type_of_its_field_says(parsed, override, value):
    settings = parsed(override)
    for part in override.partition("=")[0].split("."):
        settings = settings[part] if isinstance(settings, dict) else getattr(settings, part)
    assert settings == value
    assert type(settings) is type(value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dataset=none", "--config.dataset cannot be none; it is text"),
        ("seeds=none", "--config.seeds cannot be none; it is a list of whole numbers"),
        ("seeds=0,x", r"--config.seeds\[1\] must be a whole number, got 'x'"),
        ("seeds=0,,1", r"--config.seeds\[1\] must be a whole number, got ''"),
        ("seeds=(0,", r"--config.seeds cannot be read as a Python list: '\(0,'"),
        ("seeds=('a', 0)", r"seeds\[0\] must be a whole number, got 'a'"),
        ("heads=('a', 2)", r"heads\[1\] must be text, got 2"),
        ("scales=nan", r"scales\[0\] must be finite, got nan"),
        ("training.steps=many", "--config.training.steps must be a whole number or none, got 'many'"),
        ("training.steps=1.5", "--config.training.steps must be a whole number or none, got '1.5'"),
        (f"training.steps={'9' * 5000}", "--config.training.steps must be a whole number or none, got '999"),
        ("training.steps=0", "training.steps must be at least 1, got 0"),
        ("training.steps", "--config.training.steps has no value"),
        ("training.rate=fast", "--config.training.rate must be a number, got 'fast'"),
        ("training.rate=nan", "training.rate must be finite, got nan"),
        ("training.rate=none", "--config.training.rate cannot be none; it is a number"),
        ("training.nesterov=2", "--config.training.nesterov must be true or false, got '2'"),
        ("training.milestones=abc", r"--config.training.milestones\[0\] must be a whole number, got 'abc'"),
        ("training.milestones=nan", r"--config.training.milestones\[0\] must be a whole number, got 'nan'"),
        ("options.fecam.beta=much", "--config.options.fecam.beta must be a number or none, got 'much'"),
        ("training.stepps=3", "no config field 'training.stepps'.*Did you mean 'training.steps'?"),
        ("options.fecam.betta=3", "no config field 'options.fecam.betta'.*'options.fecam.beta'?"),
        ("training=3", "training is a group of fields: training.batch_fraction, "),
        ("extractor.steps=3", "no config field 'extractor.steps': it is called training.steps"),
        ("extractor.chunk=3", "no config field 'extractor.chunk': it is called training.checkpoint_every"),
    ],
    ids=lambda value: value[:40],
)
def test_a_text_that_its_field_cannot_take_is_refused_by_name(parsed, override, message):
    with pytest.raises(InputError, match=message):
        parsed(override)


def test_of_a_field_given_twice_the_last_value_counts(parsed):
    settings = parsed("seeds=3,4", "seeds=5", "training.steps=none", "training.steps=7")
    assert (settings.seeds, settings.training.steps) == ((5,), 7)


def test_a_flag_and_its_value_may_be_two_arguments(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    config, others = parse(
        ["--config", str(tmp_path / "config.json"), "--config.training.steps", "7", "--workdir", "there"],
        base(),
        workdir=None,
    )
    assert config.training.steps == 7
    assert others == {"workdir": "there"}


def test_a_config_may_be_the_json_that_a_run_wrote(tmp_path):
    config = base()
    config.seeds = (5,)
    config.training.update(steps=3, milestones=())
    path = tmp_path / "config.json"
    path.write_text(config.to_json())
    again, _ = parse([f"--config={path}", "--config.training.steps=9"], base())
    settings = resolve(Settings, again)
    assert dataclasses.replace(settings, training=dataclasses.replace(settings.training, steps=3)) == resolve(
        Settings, config
    )
    assert settings.training.steps == 9


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"dataset": 3}', "dataset must be text, got 3"),
        ('{"seeds": [0, "1"]}', r"seeds\[1\] must be a whole number, got '1'"),
        ('{"training": {"steps": "many"}}', "training.steps must be a whole number, got 'many'"),
        ('{"training": {"rate": NaN}}', "training.rate must be finite, got nan"),
    ],
)
def test_a_wrong_value_in_a_json_file_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "config.json"
    path.write_text(content)
    config, _ = parse([f"--config={path}"], base())
    with pytest.raises(InputError, match=message):
        resolve(Settings, config)


def test_the_defaults_of_a_verb_are_not_made_for_a_flag_that_does_not_exist():
    never = "jaxcil.no_such_module:defaults"
    with pytest.raises(InputError, match=r"no flag '--wrokdir'.*Did you mean '--workdir'\?"):
        parse(["--config=quickstart", "--wrokdir=x"], never, workdir=None)
    with pytest.raises(InputError, match="--workdir is missing"):
        parse(["--config=quickstart"], never, workdir=None)
    with pytest.raises(InputError, match="--config is missing"):
        parse(["--workdir=x"], never, workdir=None)


def test_a_config_with_values_in_places(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    arguments = ["set", f"--config={tmp_path / 'config.json'}", "--list", "--name=x"]
    _, others = parse(arguments, base(), {"directory": "one data set"}, name=None, list=False)
    assert others == {"directory": "set", "name": "x", "list": True}


FLAGS = {"workdir": None, "image_size": int, "shard_size": 1000, "scale": 0.5, "lora": str, "repair": False}


@pytest.mark.parametrize(
    ("given", "values"),
    [
        (
            ["source", "--workdir=w"],
            {
                "workdir": "w",
                "image_size": None,
                "shard_size": 1000,
                "scale": 0.5,
                "lora": None,
                "repair": False,
            },
        ),
        (
            [
                "--repair",
                "source",
                "--workdir",
                "w",
                "--image_size=8",
                "--scale=2",
                "--lora=f",
                "--shard_size=1",
            ],
            {"workdir": "w", "image_size": 8, "shard_size": 1, "scale": 2.0, "lora": "f", "repair": True},
        ),
        (
            ["--workdir=v", "--workdir=w", "--repair=false", "source", "--lora=x=y", "--shard_size", "-1"],
            {
                "workdir": "w",
                "image_size": None,
                "shard_size": -1,
                "scale": 0.5,
                "lora": "x=y",
                "repair": False,
            },
        ),
    ],
    ids=["defaults", "all", "order"],
)
def test_flags_have_the_type_of_their_default_and_come_in_any_order(given, values):
    read = read_flags(given, {"source": "one source"}, **FLAGS)
    assert read == {"source": "source", **values}
    assert {name: type(value) for name, value in read.items()} == {
        name: type(value) for name, value in {"source": "source", **values}.items()
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["source"], "--workdir is missing"),
        (["source", "--workdir="], "--workdir is missing"),
        (["source", "--workdir"], "--workdir has no value; write --workdir=VALUE"),
        (["--workdir=w"], "expected one source and one target, got none"),
        (["a", "b", "c", "--workdir=w"], "expected one source and one target, got a b c"),
        (["source", "--shard_size=many", "--workdir=w"], "--shard_size must be a whole number, got 'many'"),
        (["source", "--repair=perhaps", "--workdir=w"], "--repair must be true or false, got 'perhaps'"),
        (
            ["source", "--wrokdir=w"],
            "no flag '--wrokdir'; there are: --workdir, .* Did you mean '--workdir'?",
        ),
        (["source", "--config=x", "--workdir=w"], "no flag '--config'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_in_flags_or_places_is_refused(given, message):
    places = {"source": "one source"} | ({"target": "one target"} if "expected" in message else {})
    with pytest.raises(InputError, match=message):
        read_flags(given, places, **FLAGS)


def test_the_last_place_may_take_several_values():
    places = {"runs": "the workdirs of runs"}
    assert read_flags(["a", "b", "--out=c"], places, repeated=True, out="r") == {
        "runs": ["a", "b"],
        "out": "c",
    }
    assert read_flags(["a"], places, repeated=True, out="r") == {"runs": ["a"], "out": "r"}
    with pytest.raises(InputError, match="expected the workdirs of runs, got none"):
        read_flags([], places, repeated=True, out="r")


def test_values_without_a_place_are_refused():
    with pytest.raises(InputError, match="unexpected 'more'; every argument starts with --"):
        read_flags(["more"], out="r")


def test_help_config_prints_the_fields_and_stops_before_anything_is_missing(capsys):
    with pytest.raises(SystemExit) as exit_:
        arguments.parse(["--help-config"], base(), {"directory": "a set"}, workdir=None)
    assert exit_.value.code == 0
    assert "training.steps" in capsys.readouterr().out


@pytest.mark.parametrize(("text", "expected"), [(",", ()), ("", ()), ("3,", (3,)), ("3,4", (3, 4))])
def test_a_comma_at_the_end_of_a_list_is_ignored_and_alone_it_is_the_empty_list(text, expected):
    config, _ = parse(["--config=quickstart", f"--config.scenario.task_sizes={text}"])
    assert config.scenario.task_sizes == expected
