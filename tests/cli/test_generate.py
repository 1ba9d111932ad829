import types

import pytest

from jaxcil.cli import main as command
from jaxcil.synthesis.dataset import store
from jaxcil.synthesis.drawing import models


@pytest.fixture
def asked(monkeypatch):
    """Calls of the generator: class names, and settings."""
    calls = []

    def generate(directory, class_names, **settings):
        calls.append((class_names, settings))
        return types.SimpleNamespace(requests=types.SimpleNamespace(total=0, shards=()), class_names=())

    monkeypatch.setattr(models, "generate_by_name", generate)
    return calls


def call(workdir, *arguments):
    with pytest.raises(SystemExit) as exit:
        command.main(["generate", "--config=generate_digits", f"--workdir={workdir}", *arguments])
    return exit.value.code


def test_a_class_list_takes_the_place_of_the_names_and_scales_are_numbers(asked, tmp_path):
    assert call(tmp_path, "--config.class_list=cifar100", "--config.guidance_scale=1.5,3") == 0
    assert call(tmp_path, "--config.class_names=cat,dog", "--config.guidance_scale=3") == 0
    (listed, first), (named, second) = asked
    assert (listed, first["class_list"], first["guidance_scale"]) == (None, "cifar100", (1.5, 3))
    assert (named, second["class_list"], second["guidance_scale"]) == (("cat", "dog"), None, (3,))


def test_shards_that_others_draw_are_told_and_are_no_error(asked, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(store, "missing_shards", lambda directory, manifest: [2, 5])
    assert call(tmp_path) == 0
    assert "2 of 0 shards are being drawn by other processes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.class_list=cifar-10", "no class list 'cifar-10'"),
        ("--config.synonyms=all", "needs a class list"),
        ("--config.guidance_scale=nan", "guidance_scale[0] must be finite"),
        ("--config.guidance_scale=()", "guidance_scale must be finite"),
        ("--config.templates=a {photo} of a {}", "neither {} nor a choice"),
        ("--config.negative_prompt={a|b}", "negative_prompt must be one line"),
        ("--config.format=gif", "no format 'gif'"),
        ("--config.worker=4/4", "worker must be i/n"),
    ],
)
def test_bad_names_prompts_and_scales_end_in_a_message(argument, message, tmp_path, capsys):
    assert call(tmp_path, argument) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "manifest.json").exists()
