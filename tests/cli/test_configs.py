"""Config files: which are shipped, whose they are, and the message for what cannot be used."""

import dataclasses
import os

import pytest
from ml_collections import ConfigDict, FrozenConfigDict

from jaxcil.cli import configs
from jaxcil.cli.configs import ConfigError, load
from jaxcil.cli.main import VERBS
from jaxcil.errors import InputError
from jaxcil.workdir.settings import config_dict, field, group


@dataclasses.dataclass(frozen=True)
class Training:
    steps: int = field(3, "optimiser steps")


@dataclasses.dataclass(frozen=True)
class Settings:
    dataset: str = field("digits", "real images")
    options: dict[str, float] = field({"beta": 0.5}, "free")
    training: Training = group(Training)


BASE = config_dict(Settings)
CONFIG = (
    "from ml_collections import ConfigDict, FrozenConfigDict\ndef get_config():\n    return ConfigDict({})\n"
)
DEFAULTS = (
    CONFIG.format("{{'dataset': 'a', 'training': {{'steps': 3}}}}").replace("return ", "config = ")
    + "    config.{}\n    return config\n"
)


def test_every_shipped_config_says_whose_it_is_and_what_it_does():
    assert len(configs.shipped()) >= 15
    for name, path in configs.shipped().items():
        assert configs.verb_of(path) in VERBS, name
        assert configs.docstring(path).partition("\n")[0].endswith("."), name


def test_a_config_is_of_the_verb_that_takes_it_and_not_of_others_in_its_docstring(tmp_path):
    path = tmp_path / "digits.py"
    path.write_text(
        '"""Digits.\n\njaxcil generate --config=generate_digits --workdir=x\n'
        'jaxcil filter x --config=configs/digits.py --name=y\njaxcil run --config=my_digits"""\n'
    )
    assert configs.verb_of(path) == "filter"
    path.write_text('"""Digits.\n\njaxcil generate --config=digits"""\n')
    assert configs.verb_of(path) == "generate"
    path.write_text('"""Digits."""\n')
    assert configs.verb_of(path) is None


def test_a_config_is_read_from_its_path_or_by_its_name(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CONFIG.format({"a": 1, "b": {"c": 0.5}}))
    assert load(str(path)).to_dict() == {"a": 1, "b": {"c": 0.5}}
    for name in ("quickstart", "quickstart.py", "configs/quickstart.py"):
        assert load(name).dataset == "digits"
    path.write_text(CONFIG.replace("return ", "return Frozen").format({"a": 1}))
    assert isinstance(load(str(path)), ConfigDict)
    assert not isinstance(load(str(path)), FrozenConfigDict)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(:\n", r"mine.py cannot be used as a config: SyntaxError: "),
        ("x = 1\n", r"mine.py cannot be used as a config: it has no get_config\(\)"),
        ("import nowhere\n", r"ModuleNotFoundError: No module named 'nowhere'"),
        ("raise SystemExit(3)\n", "cannot be used as a config: SystemExit: 3"),
        ("import sys\ndef get_config():\n    sys.exit(3)\n", "cannot be used as a config: SystemExit: 3"),
        ("def get_config():\n    return 1 / 0\n", "ZeroDivisionError: division by zero"),
        ("def get_config():\n    return get_config()\n", "RecursionError"),
        ("def get_config(size):\n    pass\n", "TypeError: .*'size'"),
        ("def get_config():\n    pass\n", "must return a ConfigDict, got None"),
        (
            "def get_config():\n    return {'seeds': (0,)}\n",
            r"must return a ConfigDict, got {'seeds': \(0,\)}",
        ),
        (DEFAULTS.format("extractor.update(steps=3)"), "no config field 'extractor': it is called training"),
        (
            DEFAULTS.format("training.stepps.x = 3"),
            "no config field 'stepps'; --help-config lists .* 'training.steps'",
        ),
        (DEFAULTS.format("lock().training.stepps = 3"), "no config field 'stepps'"),
        (DEFAULTS.format("lock().training.update(stepps=3)"), "no config field 'stepps'"),
        (DEFAULTS.format("training.steps = 'many'"), "TypeError: .*'steps'"),
        (
            "def get_config():\n    return None.steps\n",
            "AttributeError: 'NoneType' object has no attribute 'steps'",
        ),
        (CONFIG.format("{'training': 3}"), "training is a group of fields: training.steps"),
        (
            CONFIG.format("{'dataset': 'a', 'training': {'steps': 3}, 'stepps': 3}"),
            "no config field 'stepps'",
        ),
        (CONFIG.format("{'training': {'steps': 3}}"), "it has no field dataset, so it is not a whole config"),
    ],
)
def test_a_python_file_that_is_no_config_is_refused_by_name(tmp_path, text, message):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        load(str(path), BASE)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 500


def test_a_python_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "mine.py"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"mine.py cannot be used as a config: "):
        load(str(path), BASE)
    assert configs.docstring(path) == ""


def test_fields_of_a_free_group_are_free(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CONFIG.format({"dataset": "a", "options": {"gamma": 1.0}, "training": {"steps": 3}}))
    assert load(str(path), BASE).options.gamma == 1.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a config that a run has written"),
        ('{"dataset": "digits"', "not a config that a run has written"),
        ("[" * 200_000, "not a config that a run has written"),
        ("[1, 2]", "not a config that a run has written"),
        ("null", "not a config that a run has written"),
        ('{"training": null}', "training is a group of fields: training.steps"),
        ('{"training": [3]}', "training is a group of fields: training.steps"),
        ('{"dataset": {"a": 3}}', "no config field 'dataset.a'"),
        ('{"datset": "digits"}', "no config field 'datset'.*Did you mean 'dataset'"),
        ('{"a.b": 3}', "not a config that a run has written"),
        (f'{{"training": {{"steps": {"9" * 5000}}}}}', "not a config that a run has written"),
    ],
    ids=lambda value: value[:20],
)
def test_a_json_file_that_no_run_wrote_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as error:
        load(str(path), BASE)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("quickstrat", r"there is no config 'quickstrat'. Did you mean 'quickstart'\?"),
        ("", "there is no config ''"),
        ("/nowhere/mine.py", "there is no config '/nowhere/mine.py'"),
        ("x" * 300, "'xxx.*cannot be read as a config: File name too long"),
        ("a\0b", "there is no config"),
        ("/etc", "there is no config '/etc'"),
        ("\udcff", "there is no config"),
    ],
    ids=["near", "empty", "path", "long", "null", "folder", "not UTF-8"],
)
def test_a_name_without_a_file_is_refused(name, message):
    with pytest.raises(InputError, match=message) as error:
        load(name)
    str(error.value).encode()  # can be printed


def test_a_file_that_is_not_python_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(InputError, match=r"mine.txt is not a Python file"):
        load(str(tmp_path / "mine.txt"), BASE)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["mine.py", "config.json"])
def test_a_file_that_may_not_be_read_is_refused(tmp_path, name):
    (tmp_path / name).write_text(CONFIG.format("{}"))
    (tmp_path / name).chmod(0)
    with pytest.raises(InputError, match=f"{name}.*Permission denied"):
        load(str(tmp_path / name), BASE)


def test_an_error_in_a_config_names_the_file_for_the_command(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CONFIG.format("{'a': 1}"))
    with pytest.raises(ConfigError) as error:
        load(str(path), BASE)
    assert error.value.path == path
