"""`jaxcil prepare-data`: what it makes is read, what it cannot make is told in a message."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxcil.cli import main as command
from jaxcil.data import datasets
from jaxcil.data.encoding import png

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


class JaxcilDots(tfds.core.GeneratorBasedBuilder):
    """An image a class."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(2, 2, 3), encoding_format="png"),
                "label": tfds.features.ClassLabel(names=["dark", "light"]),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for label, grey in enumerate((0, 255)):
            yield label, {"image": png(np.full((2, 2, 3), grey, np.uint8)), "label": label}


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        command.main(["prepare-data", *arguments])
    printed = capsys.readouterr()
    return exit_.value.code, printed.out, printed.err


def test_a_set_is_prepared_once_and_read_afterwards(capsys, tmp_path):
    for _ in range(2):
        status, out, _err = call(capsys, "tfds:jaxcil_dots", f"--data_dir={tmp_path}")
        assert (status, out) == (0, f"{tmp_path}/jaxcil_dots/1.0.0\n")
    data = datasets.load("tfds:jaxcil_dots", "train", data_dir=str(tmp_path))
    assert data.class_names == ("dark", "light")
    assert dict(zip(data.labels.tolist(), data.images.mean((1, 2, 3)).tolist())) == {0: 0.0, 1: 255.0}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "expected one data set, got none"),
        (["cifar10", "cifar100"], "expected one data set, got cifar10 cifar100"),
        (["cifar01"], "Did you mean 'cifar10'?"),
        (["cifar10", "--datadir=x"], "datadir"),
        (["tfds:jaxcil_dots", "--data_dir=/dev/null/x"], "/dev/null/x"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_ends_in_a_message_and_status_2(arguments, says, capsys):
    status, out, err = call(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("jaxcil: ")
    assert says in err
    assert "Traceback" not in err
