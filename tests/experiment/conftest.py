"""A small run on handwritten digits, made once for all tests of a process."""

import contextlib

import pytest

from jaxcil import experiment
from jaxcil.cli.arguments import parse
from jaxcil.data import datasets

SMALL = (
    "variants=plain,future_proof,real_future",
    "learners=frozen,",
    "scenario.first_classes=4",
    "scenario.classes_per_task=4",
    "seeds=3,5",
    "heads=ncm,fecam",
    "training.steps=4",
    "training.batch_size=8",
    "training.checkpoint_every=2",
    "synthetic.images_per_class=3",
    "synthetic.nfe=2",
    "synthetic.batch_size=2",
    "synthetic.shard_size=6",
)

LOAD = datasets.load  # whatever stands in its place while a module's tests run


@contextlib.contextmanager
def _few_images():
    """Every eighth digit: features of all of them, by a network that is not optimised, took most of a run."""

    def few(*arguments, **options):
        data = LOAD(*arguments, **options)
        return data._replace(images=data.images[::8], labels=data.labels[::8])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load", few)
        yield


@pytest.fixture(scope="module")
def few_images():
    """Every eighth digit, for the tests of a module."""
    with _few_images():
        yield


@pytest.fixture(scope="session")
def make_config(tmp_path_factory):
    """Makes the config of the small run with some changes, written as on the command line."""
    data_dir = tmp_path_factory.mktemp("tfds")

    def make(*changes):
        fields = [f"--config.{field}" for field in (*SMALL, f"data_dir={data_dir}", *changes)]
        return parse(["--config=quickstart", *fields])[0]

    return make


@pytest.fixture(scope="session")
def finished(make_config, tmp_path_factory):
    """That run from beginning to end; tests only read it."""
    folder = tmp_path_factory.mktemp("finished")
    with _few_images():
        experiment.run(make_config(), folder)
    return folder
