"""`jaxcil compare-samplers` from end to end, on small settings."""

import json

import pytest
from PIL import Image

from jaxcil.cli import compare_samplers
from jaxcil.errors import InputError
from jaxcil.evaluation.samplers import comparison

SMALL = (
    "--config=compare_samplers",
    "--config.samplers=ddim,er_sde_3,er_sde_3_corrected",
    "--config.data=gaussian,ring",
    "--config.calls=4",
    "--config.repetitions=2",
    "--config.points=64",
    "--config.directions=4",
    "--config.order_calls=()",
)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("samplers")
    compare_samplers.main([*SMALL, f"--workdir={directory}"])
    return directory


def test_results_and_a_picture_are_written_and_the_verdict_comes_last(workdir, capsys):
    results = json.loads((workdir / "samplers.json").read_text())
    assert {entry["data"] for entry in results["quality"]} == {"gaussian", "ring"}
    assert "second" not in (workdir / "samplers.json").read_text()  # no wall times
    with Image.open(workdir / "quality.png") as picture:
        assert picture.format == "PNG"
    compare_samplers.main([*SMALL, f"--workdir={workdir}"])
    *_, verdict, paths = capsys.readouterr().out.split("\n\n")
    assert "ring, 4 calls" in verdict
    assert "ER-SDE 3 published -> ER-SDE 3 corrected" in verdict
    assert str(workdir / "samplers.json") in paths


def test_a_second_run_measures_what_is_missing_and_nothing_else(workdir, monkeypatch):
    before = (workdir / "samplers.json").read_bytes()
    (workdir / "parts" / "gaussian-4.json").unlink()
    asked = []
    original = comparison.gaussian_quality
    monkeypatch.setattr(
        comparison,
        "gaussian_quality",
        lambda names, calls: asked.append(calls) or original(names, calls),
    )
    monkeypatch.delattr(comparison, "mixture_quality")
    compare_samplers.main([*SMALL, f"--workdir={workdir}"])
    assert asked == [4]
    assert (workdir / "samplers.json").read_bytes() == before


def test_another_config_in_the_same_directory_is_refused(workdir):
    with pytest.raises(InputError, match="points: there 64, now 128"):
        compare_samplers.main([*SMALL, "--config.points=128", f"--workdir={workdir}"])


def test_an_unknown_sampler_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="no sampler 'euler'"):
        compare_samplers.main([*SMALL, "--config.samplers=euler", f"--workdir={tmp_path}"])
    assert not list(tmp_path.glob("*.json"))
