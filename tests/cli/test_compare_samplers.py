"""`jaxcil compare-samplers` from end to end, on small settings."""

import json

import pytest
from PIL import Image

from jaxcil.cli import compare_samplers
from jaxcil.errors import InputError
from jaxcil.evaluation.samplers import comparison, orders

SMALL = (
    "--config=compare_samplers",
    "--config.samplers=ddim,er_sde_3,er_sde_3_corrected",
    "--config.data=gaussian,ring",
    "--config.nfe=4",
    "--config.repetitions=2",
    "--config.points=64",
    "--config.directions=4",
    "--config.order_nfe=()",
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


@pytest.mark.parametrize(
    "damage",
    [lambda path: path.unlink(), lambda path: path.write_text(path.read_text().replace("0", "1", 1))],
    ids=["missing", "edited"],
)
def test_a_second_run_measures_what_is_missing_or_damaged_and_nothing_else(damage, workdir, monkeypatch):
    before = (workdir / "samplers.json").read_bytes()
    damage(workdir / "parts" / "gaussian-4.json")
    asked = []
    original = comparison.gaussian_quality
    monkeypatch.setattr(
        comparison,
        "gaussian_quality",
        lambda names, nfe: asked.append(nfe) or original(names, nfe),
    )
    monkeypatch.delattr(comparison, "mixture_quality")
    compare_samplers.main([*SMALL, f"--workdir={workdir}"])
    assert asked == [4]
    assert (workdir / "samplers.json").read_bytes() == before


def test_another_config_in_the_same_directory_is_refused(workdir):
    with pytest.raises(InputError, match="points: there 64, now 128"):
        compare_samplers.main([*SMALL, "--config.points=128", f"--workdir={workdir}"])


def test_an_unknown_sampler_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="'euler'"):
        compare_samplers.main([*SMALL, "--config.samplers=euler", f"--workdir={tmp_path}"])
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize(
    ("samplers", "written"),
    [
        ("er_sde_1,dpmpp_2m,heun", ["orders.png", "quality.png"]),
        ("ddim,ancestral,sde_dpmpp_2m", ["quality.png"]),
    ],
)
def test_of_some_samplers_those_alone_are_in_every_result(samplers, written, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(orders, "FINE", 40)
    chosen = ["--config.data=gaussian", f"--config.samplers={samplers}", "--config.order_nfe=4,8"]
    compare_samplers.main([*SMALL, *chosen, f"--workdir={tmp_path}"])
    results = json.loads((tmp_path / "samplers.json").read_text())
    assert {entry["sampler"] for entry in results["quality"]} == {"exact", *samplers.split(",")}
    assert {entry["sampler"] for entry in results["orders"]} <= set(samplers.split(","))
    assert sorted(path.name for path in tmp_path.glob("*.png")) == written
    *text, _ = capsys.readouterr().out.split("\n\n")
    assert len(text) == 1 + bool(results["orders"])  # tables, and none without a row
    assert all(len(block.split("\n")) > 3 for block in text)
