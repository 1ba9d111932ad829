"""`jaxcil verify` from the command line, on a set of the tiny pipeline of the golden files; no network runs."""

import pathlib
import shutil

import numpy as np
import pytest

from jaxcil.cli import main as command
from jaxcil.synthesis.dataset import store
from jaxcil.synthesis.drawing import generate as generation
from jaxcil.synthesis.drawing.models import generate_by_name

SD1 = pathlib.Path(__file__).parents[1] / "golden/stable_diffusion/sd1"
SIDE = 16


@pytest.fixture(autouse=True)
def drawing(monkeypatch):
    """In place of the network: pixels of the token ids."""

    def draw(ids, keys, scales):
        ramp = np.linspace(-1, 1, SIDE * SIDE * 3, dtype=np.float32).reshape(SIDE, SIDE, 3)
        return ramp * (ids.sum(1) % 7 / 7)[:, None, None, None] + 0.1 * ramp

    monkeypatch.setattr(generation, "drawing", lambda *arguments: draw)


@pytest.fixture
def made(tmp_path):
    directory = tmp_path / "set"
    generate_by_name(
        directory,
        ("cat", "dog"),
        model=str(SD1),
        order=3,
        nfe=1,
        images_per_class=2,
        templates=("{}",),
        batch_size=1,
        shard_size=3,
        image_size=SIDE,
    )
    return directory


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        command.main(["verify", *map(str, arguments)])
    printed = capsys.readouterr()
    return exit_.value.code, printed.out.splitlines(), printed.err


def test_a_good_set_is_status_0_and_one_line(made, capsys):
    status, lines, _ = call(capsys, made)
    assert status == 0
    assert lines == [f"{made}: 4 images of 2 classes in 2 shards, nothing wrong"]


def test_damage_is_status_1_until_it_is_repaired(made, capsys):
    before = {path.name: path.read_bytes() for path in made.iterdir() if path.is_file()}
    shard = store.shard_path(made, 1)
    shard.unlink()
    status, lines, _ = call(capsys, made)
    assert status == 1
    assert lines == [
        f"{shard.name}: is missing, with 1 image(s), dog/1 to dog/1",
        f"{made}: 4 images of 2 classes in 2 shards, 1 finding(s) in 1 file(s)",
    ]
    status, lines, _ = call(capsys, made, "--repair")
    assert status == 0
    assert lines[1:] == [
        "drawn again: 1 shard(s)",
        f"{made}: 4 images of 2 classes in 2 shards, nothing wrong",
    ]
    assert {path.name: path.read_bytes() for path in made.iterdir() if path.is_file()} == before
    assert call(capsys, made)[0] == 0


def test_what_cannot_be_repaired_is_told_again_and_status_1(made, capsys):
    shutil.copy(store.shard_path(made, 1), store.shard_path(made, 2))
    status, lines, _ = call(capsys, "--repair", made)
    assert status == 1
    told = "synthetic-train.array_record-00002: is not in the manifest"
    assert lines[:3] == [told, "drawn again: 0 shard(s), but still:", told]


def test_another_model_is_status_2(made, capsys):
    store.shard_path(made, 1).unlink()
    status, _, err = call(capsys, made, "--repair", "--model=digits")
    assert status == 2
    assert "was drawn by a model with SHA-256" in err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "expected one directory, got none"),
        (["a", "b"], "expected one directory, got a b"),
        (["a", "--repiar"], "repiar"),
        (["a", "--model=b"], "--model is for --repair; give both"),
        (["no_such_folder"], "holds no synthetic data set"),
        (["no_such_folder", "--repair"], "holds no synthetic data set"),
    ],
    ids=" ".join,
)
def test_bad_input_is_status_2_and_makes_nothing(arguments, expected, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, lines, err = call(capsys, *arguments)
    assert (status, lines) == (2, [])
    assert err.startswith("jaxcil: ")
    assert expected in err
    assert list(tmp_path.iterdir()) == []
