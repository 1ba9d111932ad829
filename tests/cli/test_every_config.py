"""What holds for every verb that takes a config, and for every config that is shipped."""

import dataclasses
import importlib
import pkgutil

import pytest

from jaxcil.cli import configs
from jaxcil.cli import main as command
from jaxcil.cli.fields import unknown_field
from jaxcil.workdir.settings import config_dict, flat_fields, made_from, resolve

VERBS = sorted({configs.verb_of(path) for path in configs.shipped().values()} | {"plan-pod"})


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        command.main(list(arguments))
    printed = capsys.readouterr()
    return exit_.value.code, printed.out, printed.err


def base_of(verb, monkeypatch):
    """What a verb gives to `parse` as its defaults."""

    class Stop(Exception):
        pass

    def capture(arguments, base=None, *others, **flags):
        raise Stop(pkgutil.resolve_name(base)() if isinstance(base, str) else base)

    module = importlib.import_module(f"jaxcil.cli.{verb.replace('-', '_')}")
    monkeypatch.setattr(module, "parse", capture)
    with pytest.raises(Stop) as stop:
        module.main(["SET", "--config=x", "--name=y"])
    return stop.value.args[0]


@pytest.mark.parametrize("name", configs.shipped())
def test_a_shipped_config_has_the_fields_of_the_verb_in_its_docstring(name, monkeypatch):
    # one whose docstring shows the command of another verb would be listed by that verb, and refused by it
    base = base_of(configs.verb_of(configs.shipped()[name]), monkeypatch)
    settings = made_from(base)
    assert settings is not None
    resolve(settings, configs.load(name, base))


@pytest.mark.parametrize("verb", VERBS)
def test_the_defaults_of_a_verb_are_valid_and_every_field_has_a_comment(verb, monkeypatch):
    settings = made_from(base_of(verb, monkeypatch))
    assert settings is not None
    assert resolve(settings, config_dict(settings)) == settings()
    fields = [item for item in flat_fields(settings) if not dataclasses.is_dataclass(item.kind)]
    assert [item.name for item in fields if not item.metadata["comment"]] == []


@pytest.mark.parametrize("verb", VERBS)
def test_help_config_lists_every_field_and_fits_100_columns(verb, capsys, monkeypatch):
    status, out, _ = call(capsys, verb, "--help-config")
    assert status == 0
    lines = out.splitlines()
    assert max(map(len, lines)) <= 100
    names = [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "]
    for item in flat_fields(made_from(base_of(verb, monkeypatch))):
        assert dataclasses.is_dataclass(item.kind) or isinstance(item.default, dict) or item.name in names


@pytest.mark.parametrize("verb", VERBS)
def test_a_config_of_another_verb_is_refused_with_whose_it_is_and_those_of_this_one(verb, capsys, tmp_path):
    other, owner = ("generate_digits", "generate") if verb == "run" else ("quickstart", "run")
    before = ["SET"] if verb == "filter" else []
    flags = {"filter": ["--name=x"], "plan-pod": ["--topology=v5e:2x2"]}.get(
        verb, [f"--workdir={tmp_path}/w"]
    )
    status, out, err = call(capsys, verb, *before, f"--config={other}", *flags)
    assert (status, out) == (2, "")
    assert f"{other}.py is a config of `jaxcil {owner}`" in err
    assert f"Configs of `jaxcil {verb}`: {', '.join(configs.configs_of(verb))}" in err
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("verb", "old", "new"),
    [
        ("run", "extractors", "variants"),
        ("run", "extractor.steps", "training.steps"),
        ("run", "extractor.chunk", "training.checkpoint_every"),
        ("run", "extractor.augmentation.crop", "training.augmentation.crop"),
        ("run", "future_proof.source", "auxiliary.future.source"),
        ("run", "future_proof.images_a_class", "auxiliary.future.images_per_class"),
        ("run", "future_proof.known_share", "auxiliary.future.known_fraction"),
        ("run", "future_proof.share", "auxiliary.future.batch_fraction"),
        ("run", "synthetic.calls", "synthetic.nfe"),
        ("run", "synthetic.images_a_class", "synthetic.images_per_class"),
        ("run", "scenario.classes_a_task", "scenario.classes_per_task"),
        ("generate", "calls", "nfe"),
        ("generate", "share", "worker"),
        ("generate", "images_a_class", "images_per_class"),
        ("filter", "share", "fraction"),
        ("filter", "judge.blocks", "judge.network"),
        ("evaluate-synthetic", "near", "duplicate_threshold"),
        ("evaluate-synthetic", "seen", "generator_split"),
        ("evaluate-synthetic", "judge.shift", "judge.crop"),
    ],
)
def test_a_renamed_field_is_refused_with_its_new_name(verb, old, new, monkeypatch):
    known = [item.name for item in flat_fields(made_from(base_of(verb, monkeypatch)))]
    assert str(unknown_field(old, known)) == f"no config field {old!r}: it is called {new}"
