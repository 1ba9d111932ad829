"""The command `jaxcil benchmark`: its options."""

import sys
import types

import pytest

from jaxcil.cli.main import main


@pytest.fixture
def called(monkeypatch):
    """Options that reach the benchmark of generation, which is not run."""
    calls = []
    run = types.SimpleNamespace(run=lambda **options: calls.append(options) or {"images_per_second": 1.0})
    monkeypatch.setitem(sys.modules, "jaxcil.benchmarks.generate", run)
    return calls


def status(*arguments):
    with pytest.raises(SystemExit) as exit:
        main(["benchmark", *arguments])
    return exit.value.code


def test_options_arrive_as_what_they_mean(called, tmp_path, capsys):
    path = tmp_path / "figures.json"
    code = status(
        "generate", "--model=sd15", "--size=64", "--batch=1,16", "--attention=xla,cudnn", f"--json={path}"
    )
    assert code == 0
    assert called == [
        {"model": "sd15", "size": 64, "batch": (1, 16), "attention": ("xla", "cudnn")},
    ]
    assert path.read_text() == capsys.readouterr().out == '{\n  "images_per_second": 1.0\n}\n'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected one name"),
        (
            ("generate", "sample"),
            "expected one name of convolution, generate, heads, learners, sample, train, got",
        ),
        (("generate", "--size"), "write --size=VALUE"),
        (("genrate",), "Did you mean 'generate'"),
        (("generate", "--bacth=1"), "Did you mean '--batch'"),
        (("sample", "--batch=1"), "no flag '--batch'"),
        (("generate", "--batch=1,many"), "--batch[1] must be a whole number, got 'many'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_mistakes_are_refused_before_anything_runs(called, capsys, arguments, message):
    assert status(*arguments) == 2
    assert message in capsys.readouterr().err
    assert called == []
