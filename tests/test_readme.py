"""The Python that people copy out of the documentation runs."""

import pathlib
import re

import jax
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent


def run_blocks(path):
    """The variables after all Python blocks of a page, run one after the other."""
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```$", (ROOT / path).read_text(), re.DOTALL | re.MULTILINE):
        with jax.numpy_rank_promotion("allow"):  # jax's default, which readers have
            exec(compile(block, path, "exec"), names)
    return names


@pytest.fixture(scope="module")
def solvers_page():
    return run_blocks("jaxcil/solvers/README.md")


def test_readme_draws_digits_with_three_samplers():
    names = run_blocks("README.md")
    images, compared = (np.asarray(names[name]) for name in ("images", "compared"))
    assert images.shape == (4, 16, 16, 3)
    for drawn in (images, *compared):
        assert (drawn[:, 0, 0] < -0.8).all()  # the ground is dark
        assert (drawn.max((1, 2, 3)) > 0.5).all()  # and there is ink
    np.testing.assert_allclose(compared[0], images, atol=1e-3)


def test_samplers_page_sweeps_in_one_program(solvers_page):
    swept = np.asarray(solvers_page["swept"])
    assert swept.shape == (8, 4, 1000, 2)
    assert np.isfinite(swept).all()


def test_samplers_page_draws_what_the_mixture_holds(solvers_page):
    # Near the component at [1, -1] with weight 0.3: standard error 0.014.
    near = np.linalg.norm(np.asarray(solvers_page["samples"]) - [1, -1], axis=1) < 1
    assert abs(near.mean() - 0.3) < 0.06


def test_samplers_page_fills_the_hole_with_what_belongs_there(solvers_page):
    inpainted, pattern = np.asarray(solvers_page["inpainted"]), np.asarray(solvers_page["patterns"][0])
    assert (np.sign(inpainted) == pattern).all()


def test_samplers_page_has_a_finite_slope(solvers_page):
    assert np.isfinite(solvers_page["slope"])
    assert all(np.isfinite(x).all() for x in solvers_page["steps"].values())


def test_synthesis_page_draws_a_set_and_reads_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run_blocks(ROOT / "jaxcil/synthesis/README.md")
    assert names["images"].shape == (8, 16, 16, 3)
    assert names["class_names"] == ("three", "eight")
    assert (tmp_path / "few_digits" / "README.md").exists()


def test_heads_page_learns_three_tasks_and_sweeps_a_shrinkage():
    names = run_blocks("jaxcil/heads/README.md")
    # Centres are at 4 standard deviations of their noise or more from each other: nearly every row is recognised
    assert (np.asarray(names["predicted"]) == np.concatenate(names["tasks"])).mean() > 0.95
    assert np.asarray(names["swept"]).shape == (3,)
    assert np.asarray(names["swept"]).max() > 0.95


def test_experiments_page_makes_a_learner_of_ones_own():
    names = run_blocks("jaxcil/experiment/README.md")
    assert names["config"].learners == ("mine",)
    assert names["maker"].__name__ == "maker"
