"""`jaxcil filter` from the command line, on an imported set of dark and light images."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxcil.cli import main as command
from jaxcil.evaluation.worth import judge
from jaxcil.evaluation.worth.judge import Judge
from jaxcil.synthesis.dataset import filters
from jaxcil.synthesis.imports.import_images import import_images

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def write(folder, levels, seed):
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for number, level in enumerate(levels):
        image = (level + generator.integers(0, 60, (8, 8, 3))).astype(np.uint8)
        Image.fromarray(image).save(folder / f"{number:02}.png")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    write(folder / "train/dark", [10] * 16, 0)
    write(folder / "train/light", [180] * 16, 1)
    return folder


@pytest.fixture
def directory(tmp_path):
    """Images 1 and 3 of dark are light."""
    write(tmp_path / "source/dark", [10, 180, 10, 180, 10], 2)
    write(tmp_path / "source/light", [180] * 5, 3)
    import_images(tmp_path / "set", tmp_path / "source", shard_size=4)
    return tmp_path / "set"


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        command.main(["filter", *map(str, arguments)])
    printed = capsys.readouterr()
    return exit_.value.code, printed.out.splitlines(), printed.err


@pytest.fixture
def training(monkeypatch):
    """In place of the training of a network: its features are the level of an image, and light is above 100."""

    def train(data, settings, notify):
        assert data.class_names == ("dark", "light")

        def features(images):
            level = images.astype(jnp.float32).mean((1, 2, 3))
            return jnp.stack([100 - level, level - 100], axis=1)

        return Judge(features, features, lambda images: features(images).argmax(-1))

    monkeypatch.setattr(judge, "train_judge", train)


def small(real):
    return ["--config=filter_digits", f"--config.dataset={real}"]


def test_what_the_classifier_does_not_recognise_is_dropped_listed_and_shown_again(
    real, training, directory, capsys
):
    status, lines, _ = call(capsys, directory, *small(real), "--name=good", "--list")
    assert status == 0
    assert lines[:2] == [f"{directory}/filters/good.json", f"{directory}/filters/good.png"]
    table = lines[2:]
    assert [line.split() for line in table[2:5]] == [
        ["dark", "3", "5", "60.0%", "light", "(2)"],
        ["light", "5", "5", "100.0%"],
        ["all", "8", "10", "80.0%"],
    ]
    assert sorted(line.split()[0] for line in table[5:]) == ["dark/1", "dark/3"]
    assert all(line.endswith("taken for light") for line in table[5:])
    np.testing.assert_array_equal(filters.read(directory, "good").labels, [0] * 3 + [1] * 5)
    assert "kept by good" in (directory / "README.md").read_text()
    # without a config the filter is read, and nothing is trained
    assert call(capsys, directory, "--name=good", "--list") == (0, table, "")


def test_another_head_and_rule_judge_too(real, training, directory, capsys):
    options = ["--config.head=ncm", "--config.keep=top", "--config.fraction=0.6", "--config.score=margin"]
    status, _, _ = call(capsys, directory, *small(real), *options, "--name=best")
    assert status == 0
    found = filters.read_filter(directory, "best")
    assert found.classifier["head"] == "ncm"
    assert np.flatnonzero(found.kept)[:3].tolist() == [0, 2, 4]
    assert found.kept.sum() == 6


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "expected one data set, got none"),
        (["--name=good"], "expected one data set, got none"),
        (["SET"], "--name is missing"),
        (["SET", "--config=filter_digits"], "--name is missing"),
        (["SET", "--nmae=good"], "nmae"),
        (["SET", "other", "--name=good"], "expected one data set, got "),
        (["SET", "--name=good"], "has no filters, so none named 'good'"),
        (["nowhere", "--name=good"], "nowhere holds no synthetic data set"),
        (["SET", "--config=filter_digits", "--name=a/b"], "the name of a filter"),
        (["SET", "--config=filter_digits", "--name=a", "--config.head=nmc"], "Did you mean 'ncm'"),
        (
            ["SET", "--config=filter_digits", "--name=a", "--config.extractor=x"],
            "needs a head on its features",
        ),
        (
            [
                "SET",
                "--config=filter_digits",
                "--name=a",
                "--config.extractor=x",
                "--config.head=ncm",
                "--config.dataset=REAL",
            ],
            "x is no extractor",
        ),
        (["SET", "--config=filter_digits", "--name=a", "--config.keep=bets"], "there are: recognised, top"),
        (["SET", "--config=filter_digits", "--name=a", "--config.keep=top"], "must lie in (0, 1], got None"),
        (["SET", "--config=filter_digits", "--name=a", "--config.judge.steps=0"], "judge.steps"),
        (
            ["SET", "--config=filter_digits", "--name=a", "--config.dataset=OTHER"],
            "no class of the classifier 'light'",
        ),
    ],
)
def test_bad_input_is_status_2_and_makes_nothing(
    arguments, expected, real, directory, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "other/train/dark", [10] * 8, 0)
    write(tmp_path / "other/train/right", [180] * 8, 0)
    before = sorted(tmp_path.rglob("*"))
    given = {"SET": str(directory), "OTHER": f"{tmp_path}/other", "REAL": str(real)}
    for word, path in given.items():
        arguments = [
            path if argument == word else argument.replace(f"={word}", f"={path}") for argument in arguments
        ]
    status, lines, err = call(capsys, *arguments)
    assert (status, lines) == (2, [])
    assert err.startswith("jaxcil: ")
    assert expected in err
    assert "Traceback" not in err
    assert sorted(tmp_path.rglob("*")) == before
