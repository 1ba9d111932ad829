"""The command: what it refuses, in one message without a traceback."""

import subprocess
import sys

import pytest

from jaxcil.cli import configs
from jaxcil.cli import main as command


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        command.main(list(arguments))
    printed = capsys.readouterr()
    return exit_.value.code, printed.out, printed.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["rum"], "no verb 'rum'; there are: run, generate"),
        (["run", "--workdir=x"], "--config is missing; give a file"),
        (["run", "--config=quickstart"], "--workdir is missing"),
        (["run", "--config=quickstrat", "--workdir=x"], "Did you mean 'quickstart'?"),
        (["run", "--config=quickstart", "--workdir=/dev/null/x", "--config.datset=y"], "'dataset'?"),
        (["run", "--config=quickstart", "--workdir=/dev/null/x", "--config.seeds=y"], "seeds[0] must be"),
        (["verify", "DIR", "--help-config"], "no flag '--help-config'"),
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


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("run --config=quickstart --config.scenario.class_order=none-such", "none-such"),
        ("generate --config=generate_digits --config.model=none-such", "none-such"),
        ("generate --config=generate_digits --config.batch_size=0", "batch_size must be from 1 to 1,000,000"),
        ("import-images /none/such", "/none/such"),
        ("train-generator --config=digits_generator --config.dtype=int8", "int8"),
        ("compare-samplers --config=compare_samplers --config.samplers=none-such", "none-such"),
        (
            "evaluate-synthetic --config=evaluate_digits --config.synthetic=/none --config.dataset=/none/such",
            "/none/such",
        ),
        ("plan-pod --config=generate_digits --topology=none --config.model=none-such", "none-such"),
        ("prepare-data tfds:none_such", "none_such"),
    ],
    ids=lambda value: value.split("--")[0].strip() if " " in value else "",
)
def test_a_refused_command_leaves_no_folder_and_no_lock(arguments, expected, capsys, tmp_path):
    verb, *rest = arguments.split()
    place = "--data_dir" if verb == "prepare-data" else "--workdir"
    (tmp_path / "kept").mkdir()
    for folder in ("new/folder", "kept"):
        status, _, err = call(capsys, verb, *rest, f"{place}={tmp_path / folder}")
        assert status == 2, err
        assert expected in err
        assert [path.name for path in tmp_path.rglob("*")] == ["kept"]


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
        assert ("--help-config" in own) == bool(configs.configs_of(verb))
        assert max(map(len, own.splitlines())) <= 120


def test_help_of_a_verb_has_a_line_for_each_of_its_configs_and_none_of_others(capsys):
    _, out, _ = call(capsys, "plan-pod", "--help")
    listed = out.partition("\nConfigs:\n")[2]
    assert [line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line[2] != " "] == [
        "generate_digits",
        "generate_stable_diffusion",
    ]
    assert "A labelled set of synthetic handwritten digits" in listed


def test_without_a_config_only_those_of_the_verb_are_offered(capsys):
    status, _, err = call(capsys, "run", "--workdir=x")
    assert status == 2
    offered = err.partition("Configs of `jaxcil run`: ")[2].strip().split(", ")
    assert set(offered) == set(configs.configs_of("run"))
    assert "quickstart" in offered
    assert "generate_digits" not in offered


@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], ["run", "--help"], ["run", "--confg=x"]], ids=" ".join
)
def test_what_needs_no_jax_does_not_import_it(arguments):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "jaxcil", *arguments], capture_output=True, text=True
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "jaxcil.cli.main" in imported
    assert not imported & {"jax", "flax", "tensorflow_datasets", "orbax"}


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "jaxcil", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "0.1.0"
