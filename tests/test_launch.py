"""The launch scripts hand commands to `jaxcil run` that it takes: every one is parsed and checked, none is run."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from jaxcil.cli.main import parse
from jaxcil.data.datasets import ImageSet
from jaxcil.data.scenario import make_scenario
from jaxcil.experiment import auxiliary
from jaxcil.experiment.settings import check

LAUNCH = pathlib.Path(__file__).parent.parent / "launch"
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
STAND_IN = """#!{python}
import json, sys
with open({log!r}, "a") as log:
    print(json.dumps(sys.argv[3:]), file=log)
"""


def commands(script, tmp_path, **environment):
    """The arguments of every `jaxcil VERB` that a script starts."""
    log, stand_in = tmp_path / "log", tmp_path / "python"
    stand_in.write_text(STAND_IN.format(python=sys.executable, log=str(log)))
    stand_in.chmod(0o755)
    given = {**os.environ, "PYTHON": str(stand_in), "OUT": str(tmp_path / "out"), **environment}
    subprocess.run(["bash", LAUNCH / script], check=True, env=given)
    return [json.loads(line) for line in log.read_text().splitlines()]


def config_of(command):
    config, _ = parse(command[1:], workdir=None)
    check(config)
    return config


def class_names(config):
    return CIFAR10 if config.classes is None else tuple(config.classes.split(","))


def stand_in_set(names):
    labels = np.repeat(np.arange(len(names), dtype=np.int32), 500)
    return ImageSet(np.zeros((len(labels), 1, 1, 3), np.uint8), labels, names)


def test_every_table_of_photographs_is_made_of_runs_that_can_be_run(tmp_path, monkeypatch):
    others = ("bicycle", "dolphin")
    for name in others:
        (tmp_path / "others" / "train" / name).mkdir(parents=True)
    made = commands("fpcil_cifar10.sh", tmp_path, SET="set", OTHERS=str(tmp_path / "others"))
    monkeypatch.setattr(auxiliary.filters, "read", lambda place, kept: stand_in_set(CIFAR10))
    monkeypatch.setattr(auxiliary.datasets, "load", lambda *arguments: stand_in_set(others))
    networks = {}
    for command in made:
        if command[0] != "run":
            continue
        config = config_of(command)
        scenario = make_scenario(
            class_names(config), config.scenario.first_classes, config.scenario.classes_per_task
        )
        extra = auxiliary.auxiliary(config, scenario, (1, 1), tmp_path)
        assert len(extra.images) > 0
        name = pathlib.Path(command[2].partition("=")[2]).name
        networks[name] = len(config.seeds) * len(config.extractors)
    assert sum(networks.values()) == 74
    assert networks["other500"] == 2
    reports = [command for command in made if command[0] == "report"]
    assert [len(command) - 2 for command in reports] == [6, len(networks) - 5]


def test_the_script_of_photographs_asks_for_its_set(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "SET"}
    done = subprocess.run(
        ["bash", LAUNCH / "fpcil_cifar10.sh"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "give the folder of the synthetic images" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["--config.seeds=0"]])
def test_every_published_setting_of_cifar_100_can_be_run(tmp_path, arguments):
    made = [command for command in commands("gpu_cifar100.sh", tmp_path) if command[0] == "run"]
    assert len(made) == 12
    for command in made:
        config = config_of([*command, *arguments])
        assert config.scenario.first_classes in (10, 50)
        assert len(config.seeds) == (1 if arguments else 3)
