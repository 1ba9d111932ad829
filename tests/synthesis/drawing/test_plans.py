"""Plans on disk come back as they were, and what is not a plan is told apart."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxcil.errors import InputError
from jaxcil.solvers import er_sde, karras_grid, power
from jaxcil.synthesis.drawing.plans import read_plan, write_plan

MADE_BY = {"solver": "er_sde", "eta": 0.25}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "plan.json"


def test_a_plan_comes_back_to_the_bit(path):
    plan = er_sde(karras_grid(7), power(0.3))
    write_plan(path, plan, MADE_BY)
    read, made_by = read_plan(path)
    assert made_by == MADE_BY
    assert jax.tree.structure(read) == jax.tree.structure(plan)
    for ours, theirs in zip(jax.tree.leaves(read), jax.tree.leaves(plan)):
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours, theirs)


def content(**changes):
    """A file of one row, with other values in its plan."""
    plan = {"time": [9, 0], "alpha": [0.6, 1], "sigma": [0.8, 0], "keep": [0], "history": [[1]], "noise": [0]}
    return {"schema": 1, "plan": plan | changes, "made_by": {}}


def without(name):
    value = content()
    del value["plan"][name]
    return value


def test_whole_numbers_are_numbers(path):
    path.write_text(json.dumps(content()))
    plan, _ = read_plan(path)
    np.testing.assert_array_equal(plan.time, np.asarray([9, 0], np.float32))
    assert plan.keep.dtype == np.float32


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1], "the file must be a JSON object, got \\[1\\]"),
        ({"schema": 1, "made_by": {}}, "the file lacks plan and has unknown nothing"),
        (content() | {"schema": 2}, "must have schema 1, got 2"),
        (content() | {"made_by": 3}, "made_by must be a JSON object, got 3"),
        (without("noise"), "its plan lacks noise and has unknown nothing"),
        (content(nose=[0]), "its plan lacks nothing and has unknown nose"),
        (content(time=[9, 5, 0]), r"time \(3,\) instead of \(2,\)"),
        (content(history=[1]), r"K = 0, history \(1,\) instead of \(1, 0\)"),
        (content(history=[[1], [1]]), r"history \(2, 1\) instead of \(1, 1\)"),
        (content(history=[[]]), "N = 1, K = 0"),
        (content(history=[[1], [1, 2]]), "history must be an array of numbers"),
        (content(keep=0.5), r"N = 0, K = 1, time \(2,\)"),
        (content(keep=["a"]), "keep must be an array of numbers"),
        (content(keep=[None]), "keep must be an array of numbers"),
        (content(keep=[True]), "keep must be an array of numbers"),
        (content(keep=[float("nan")]), "keep must be finite"),
        (content(noise=[1e300], alpha=[float("inf"), 1]), "alpha, noise must be finite"),
    ],
    ids=str,
)
def test_what_is_no_plan_is_refused_by_name(value, message, path):
    path.write_text(json.dumps(value))
    with pytest.raises(InputError, match=message) as error:
        read_plan(path)
    assert str(path) in str(error.value)


def test_a_file_that_is_absent_or_no_json_is_refused(path):
    with pytest.raises(InputError, match="cannot be read"):
        read_plan(path)
    path.write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        read_plan(path)


def test_a_plan_that_is_not_finite_is_not_written(path):
    plan = er_sde(karras_grid(2))
    with pytest.raises(ValueError, match="JSON"):
        write_plan(path, dataclasses.replace(plan, keep=plan.keep * np.nan), MADE_BY)
    assert not path.exists()
