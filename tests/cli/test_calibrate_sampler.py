"""The command that fits a sampler: its two files, and what it refuses."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxcil.cli import main as command
from jaxcil.diffusion import check_plan
from jaxcil.evaluation.samplers import calibration
from jaxcil.evaluation.samplers.settings import CalibrationSettings
from jaxcil.synthesis.drawing import models
from jaxcil.synthesis.drawing.models import load_model
from jaxcil.synthesis.drawing.plans import er_sde_plan, model_grid, read_plan
from jaxcil.workdir import files

SMALL = {
    "class_names": "three,eight",
    "templates": "{}",
    "nfe": 2,
    "reference_nfe": 3,
    "reference_batches": 2,
    "steps": 2,
    "held_out_seeds": "7,8",
    "held_out_batches": 1,
}


def calibrate(folder, **changes):
    fields = [f"--config.{name}={value}" for name, value in (SMALL | changes).items()]
    with pytest.raises(SystemExit) as end:
        command.main(["calibrate-sampler", "--config=calibrate_sampler", *fields, f"--workdir={folder}"])
    return end.value.code


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A fit of the embedded generator; tests only read it."""
    folder = tmp_path_factory.mktemp("fitted")
    assert calibrate(folder) == 0
    return folder


def test_the_plan_is_that_of_the_fitted_parameters(fitted):
    record = files.read_json(fitted / "calibration.json")
    plan, made_by = read_plan(fitted / "plan.json")
    assert record["parameters"] == made_by["parameters"]
    assert set(record["parameters"]) == {"s", "eta"}
    assert all(value > 0 for value in record["parameters"].values())
    model = load_model("digits")
    check_plan(model, plan)  # `jaxcil generate` takes it
    expected = calibration.fitted_plan(CalibrationSettings(), model_grid(model, 2), record["parameters"])
    jax.tree.map(np.testing.assert_array_equal, plan, expected)
    # two steps have moved it away from where it began
    assert record["parameters"]["s"] != pytest.approx(record["config"]["parameters"]["s"], rel=1e-3)


def test_the_record_has_figures_before_and_after_on_other_seeds(fitted):
    record = files.read_json(fitted / "calibration.json")
    assert len(record["losses"]) == 2
    assert set(record["fit_seed"]) == {"before", "after"}
    held_out = record["held_out"]
    assert held_out["seeds"] == [7, 8]
    assert held_out["fraction_improved"] in (0, 0.5, 1)
    before, after = (np.asarray(held_out[name]["values"]) for name in ("before", "after"))
    np.testing.assert_allclose(held_out["after_minus_before"]["values"], after - before)
    np.testing.assert_allclose(held_out["before"]["mean"], before.mean())
    # of two values, the standard error of the mean is half their distance
    np.testing.assert_allclose(held_out["after"]["standard_error"], abs(after[1] - after[0]) / 2)
    assert {"config", "versions", "schema"} <= set(record)


def test_same_config_gives_the_same_files(fitted, tmp_path):
    assert calibrate(tmp_path) == 0
    for name in ("plan.json", "calibration.json"):
        assert (tmp_path / name).read_bytes() == (fitted / name).read_bytes()


def test_default_start_is_nearly_the_default_plan():
    settings, model = CalibrationSettings(), load_model("digits")
    parameters = dataclasses.asdict(settings.parameters)
    plan = calibration.fitted_plan(settings, model_grid(model, settings.nfe), parameters)
    default = er_sde_plan(model, settings.order, settings.nfe)
    np.testing.assert_allclose(plan.keep, default.keep, atol=0.05)
    np.testing.assert_allclose(plan.history, default.history, atol=0.05)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("nfe", "0", "nfe must be at least 1, got 0"),
        ("nfe", "3", "reference needs more calls than the 3 that are fitted, got 3"),
        ("steps", "0", "steps must be at least 1"),
        ("held_out_batches", "0", "held_out_batches must be at least 1"),
        ("images_per_prompt", "1", "images_per_prompt must be at least 2"),
        ("learning_rate", "0", "learning_rate must be at least 1e-06, got 0"),
        ("parameters.eta", "0", "parameters.eta must be at least 1e-06, got 0"),
        ("family", "products", "Did you mean 'product'?"),
        ("held_out_seeds", "0,1", r"none that of the fit (0), got (0, 1)"),
        ("held_out_seeds", "4,", "two or more"),
        ("guidance_scale", "nan", "guidance_scale must be finite"),
        ("seed", "-1", "seed must be at least 0 and less than 4,294,967,296, got -1"),
        ("order", "4", "order must be from 1 to 3, got 4"),
        ("derivative", "exact", "no derivative 'exact'; there are: published, corrected"),
        ("start", "middle", "no start 'middle'; there are: euler, corrector"),
        ("templates", "a digit", "a template holds {} once"),
        ("class_names", "three,three", "must differ"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_before_the_model_is_read(
    field, value, message, capsys, monkeypatch, tmp_path
):
    monkeypatch.setattr(models, "load_model", None)
    assert calibrate(tmp_path, **{field: value}) == 2
    assert message in capsys.readouterr().err
