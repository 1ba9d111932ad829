"""The launch scripts give commands to `jaxcil run` that it accepts: every one is parsed and checked, none is run."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from jaxcil.cli.arguments import parse
from jaxcil.data.datasets import ImageSet
from jaxcil.data.scenario import make_scenario
from jaxcil.experiment import auxiliary
from jaxcil.experiment.settings import defaults, lanes, resolve

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


def settings_of(command):
    config, _ = parse(command[1:], defaults(), workdir=None)
    return resolve(config)


def class_names(settings):
    return CIFAR10 if settings.classes is None else tuple(settings.classes.split(","))


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
        settings = settings_of(command)
        scenario = make_scenario(
            class_names(settings), settings.scenario.first_classes, settings.scenario.classes_per_task
        )
        assert len(auxiliary.load_auxiliary(settings, scenario, (1, 1), tmp_path).images) > 0
        name = pathlib.Path(command[2].partition("=")[2]).name
        networks[name] = len(settings.seeds) * len(lanes(settings))
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
        settings = settings_of([*command, *arguments])
        assert settings.scenario.first_classes in (10, 50)
        assert settings.training.dtype == "bfloat16"
        assert len(settings.seeds) == (1 if arguments else 3)
