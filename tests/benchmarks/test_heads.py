"""The benchmark of heads on a few small classes. Speeds are no matter for a test."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from jaxcil.benchmarks import heads, plain_heads
from jaxcil.errors import InputError

SMALL = {
    "classes": 5,
    "dim": 16,
    "images": 20,
    "test": 50,
    "buffer": 24,
    "projection": 24,
    "epochs": 40,
    "exemplars": 3,
    "rounds": 1,
}
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch not installed")


def test_every_head_has_a_plain_version():
    assert set(plain_heads.PLAIN) == set(heads.NAMES)


def test_the_support_vector_machines_decide_as_those_of_scikit_learn():
    figures = heads.run(["fetril_svm"], **SMALL)["heads"]["fetril_svm"]
    # One row of 50 may stand between two classes: scikit-learn stops at a tolerance
    assert figures["agreement"] >= 0.98
    told = {name: figures["plain"][name] for name in ("library", "device", "threads")}
    assert told == {"library": "scikit-learn", "device": "cpu", "threads": 1}
    for part in ("fit_seconds", "predict_seconds"):
        ratio = figures["plain"][part] / figures[part]
        assert figures["plain_over_jaxcil"][part] == pytest.approx(ratio)


@needs_torch
def test_the_plain_versions_find_what_ours_find():
    names = [name for name in heads.NAMES if name != "fetril_svm"]
    figures = heads.run(names, **SMALL)["heads"]
    for found in figures.values():
        assert found["plain"]["device"] == "cpu"
        assert found["plain"]["threads"] == len(os.sched_getaffinity(0))
    fc = figures.pop("fetril_fc")  # its rows come in another order, from other initial weights
    assert min(fc["accuracy"], fc["plain"]["accuracy"]) > 0.4  # a fifth is right by chance
    for name, found in figures.items():
        assert found["agreement"] >= 0.9, name  # of 15 exemplars and of 50 rows one may be a tie


@pytest.fixture
def failing(monkeypatch):
    """The process of the peer cannot import torch."""
    real = subprocess.run

    def run(command, **options):
        script = "raise ModuleNotFoundError(\"No module named 'torch'\")"
        return real([sys.executable, "-c", script], **options)

    monkeypatch.setattr(subprocess, "run", run)


@pytest.mark.usefixtures("failing")
def test_without_torch_its_place_says_why_and_ours_are_measured():
    figures = heads.run(["ncm", "herding"], **SMALL)["heads"]
    for name in ("ncm", "herding"):
        assert figures[name]["plain"] == {"skipped": "ModuleNotFoundError: No module named 'torch'"}
        assert figures[name]["fit_seconds"] > 0
        assert "plain_over_jaxcil" not in figures[name]


def test_translated_rows_have_the_means_of_their_classes():
    rows = heads.made_up_rows(classes=10, dim=16, images=20, test=10)
    moved = heads.translated(rows, 10)
    for label in range(10):
        of = rows.train_labels == label
        # float32 means of 20 numbers below 10
        np.testing.assert_allclose(
            moved.train_features[of].mean(axis=0), rows.train_features[of].mean(axis=0), atol=1e-5
        )
    last = rows.train_labels == 9
    np.testing.assert_array_equal(moved.train_features[last], rows.train_features[last])
    assert not np.allclose(moved.train_features[~last], rows.train_features[~last])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"only": ["fecma"]}, "Did you mean 'fecam'"), ({"classes": 0}, "classes"), ({"rounds": 0}, "rounds")],
    ids=["only", "classes", "rounds"],
)
def test_what_is_of_no_use_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        heads.run(**options)
