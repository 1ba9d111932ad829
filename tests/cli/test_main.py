"""The command: what it refuses, in one message without a traceback."""

import subprocess
import sys

import pytest

from jaxcil.cli import main as command
from jaxcil.errors import InputError
from jaxcil.experiment.settings import defaults


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        command.main(list(arguments))
    printed = capsys.readouterr()
    return exit_.value.code, printed.out, printed.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["rum"], "no verb 'rum'; there are: run, generate"),
        (["run", "--workdir=x"], "--config is missing; give a file, or one of: "),
        (["run", "--config=quickstart"], "--workdir is missing"),
        (["run", "--config=quickstrat", "--workdir=x"], "Did you mean 'quickstart'?"),
        (["run", "--config=quickstart", "--workdir=x", "--config.extractor.stepps=3"], "'extractor.steps'?"),
        (["run", "--config=quickstart", "--workdir=x", "--config.extractor.steps=many"], "extractor.steps"),
        (["run", "--config=quickstart", "--workdir=x", "--wrokdir=y"], "wrokdir"),
        (["run", "--config=quickstart", "--workdir=x", "more"], "unexpected 'more'"),
        (["benchmark", "convolutions"], "Did you mean 'convolution'?"),
        (["generate", "--config=generate_digits", "--workdir=/dev/null/x"], "/dev/null/x cannot be written"),
        (["run", "--config=quickstart", "--workdir=/dev/null/x"], "/dev/null/x cannot be written"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_bad_input_ends_in_a_message_and_status_2(capsys, arguments, expected):
    status, out, err = call(capsys, *arguments)
    assert status == 2
    assert out == ""
    assert err.startswith("jaxcil: ")
    assert expected in err
    assert "Traceback" not in err


def test_words_need_no_quotes_and_numbers_keep_their_type():
    config, others = command.parse(
        ["--config=quickstart", "--config.heads=ncm, fecam", "--config.seeds=3,4", "--workdir=there"],
        workdir=None,
    )
    assert config.heads == ("ncm", "fecam")
    assert config.seeds == (3, 4)
    assert others == {"workdir": "there"}


def test_a_flag_and_its_value_may_stand_apart():
    config, _ = command.parse(["--config", "quickstart", "--config.extractor.steps", "7"])
    assert config.extractor.steps == 7


def test_lists_in_python_notation_keep_their_meaning():
    config, _ = command.parse(["--config=quickstart", "--config.heads=('ncm', 'fecam')"])
    assert config.heads == ("ncm", "fecam")


def test_a_config_of_ones_own_is_read_from_its_path(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from ml_collections import ConfigDict\ndef get_config():\n    return ConfigDict(dict(a=1, b=dict(c=0.5)))\n"
    )
    config, _ = command.parse([f"--config={file}", "--config.b.c=2"])
    assert config.to_dict() == {"a": 1, "b": {"c": 2.0}}
    file.write_text("def get_config(:\n")
    with pytest.raises(InputError, match="cannot be read as Python"):
        command.parse([f"--config={file}"])
    file.write_text("x = 1\n")
    with pytest.raises(InputError, match="no get_config"):
        command.parse([f"--config={file}"])


def test_an_interrupt_ends_with_status_75(capsys, monkeypatch):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_dispatch", interrupted)
    status, _, err = call(capsys, "run")
    assert status == 75
    assert "interrupted" in err


def test_help_lists_every_verb_and_each_has_its_own(capsys):
    status, out, _ = call(capsys, "--help")
    assert status == 0
    for verb in command.VERBS:
        assert verb in out
        status, own, _ = call(capsys, verb, "--help")
        assert status == 0
        assert own.startswith(f"jaxcil {verb}")


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "jaxcil", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "0.1.0"


def test_a_list_that_is_empty_by_default_takes_words_or_numbers():
    config, _ = command.parse(
        [
            "--config=quickstart",
            "--config.future_proof.classes=cat, dog",
            "--config.scenario.task_sizes=5,3,2",
        ]
    )
    assert config.future_proof.classes == ("cat", "dog")
    assert config.scenario.task_sizes == (5, 3, 2)


def test_a_number_can_be_taken_back_on_the_command_line():
    config, _ = command.parse(
        ["--config=quickstart", "--config.extractor.steps=none", "--config.extractor.epochs", "3"]
    )
    assert (config.extractor.steps, config.extractor.epochs) == (None, 3)
    config, _ = command.parse(
        ["--config=fecam_cifar100", "--config.extractor.augmentation.policy=none"], defaults()
    )
    assert config.extractor.augmentation.policy is None
    with pytest.raises(InputError, match="dataset cannot be none; it is 'digits'"):
        command.parse(["--config=quickstart", "--config.dataset=none"])
    with pytest.raises(InputError, match=r"no config field 'extractor\.stepps'"):
        command.parse(["--config=quickstart", "--config.extractor.stepps=none"])


def test_of_a_field_given_twice_the_last_value_counts():
    config, _ = command.parse(
        [
            *("--config=quickstart", "--config.seeds=3,4", "--config.seeds=5"),
            *("--config.extractor.steps=none", "--config.extractor.steps=7"),
        ]
    )
    assert (config.seeds, config.extractor.steps) == ((5,), 7)


def test_a_list_can_be_emptied_on_the_command_line():
    config, _ = command.parse(["--config=lucir_cifar100", "--config.extractor.milestones="])
    assert config.extractor.milestones == ()


def test_the_config_of_another_verb_is_refused_with_what_it_lacks():
    with pytest.raises(InputError, match="has no field classes, so it is the config of another verb"):
        command.parse(["--config=generate_digits"], defaults())


def test_a_config_may_be_the_json_that_a_run_wrote(tmp_path):
    first, _ = command.parse(["--config=lucir_cifar100", "--config.seeds=5", "--config.image_size=8"])
    (tmp_path / "config.json").write_text(first.to_json())
    again, _ = command.parse(
        [f"--config={tmp_path / 'config.json'}", "--config.extractor.steps=9"], defaults()
    )
    assert again.extractor.steps == 9
    with again.unlocked():
        again.extractor.steps = first.extractor.steps
    assert again.to_dict() == first.to_dict()
    (tmp_path / "config.json").write_text('{"seeds": "many"}')
    with pytest.raises(InputError, match="is not a config that a run has written"):
        command.parse([f"--config={tmp_path / 'config.json'}"], defaults())
