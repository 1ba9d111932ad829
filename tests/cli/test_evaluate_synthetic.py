"""`jaxcil evaluate-synthetic` from end to end, on small settings."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxcil.cli import main as command
from jaxcil.evaluation.worth import judge
from jaxcil.synthesis.imports.import_images import import_images


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        command.main(["evaluate-synthetic", "--config=evaluate_digits", *map(str, arguments)])
    printed = capsys.readouterr()
    return exit_.value.code, printed.out, printed.err


def write(folder, level, seed):
    folder.mkdir(parents=True)
    noise = np.random.default_rng(seed).integers(0, 60, (10, 8, 8, 3))
    for n, image in enumerate((level + noise).astype(np.uint8)):
        Image.fromarray(image).save(folder / f"{n}.png")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("worth")
    for seed, split in enumerate(("real/train", "real/test", "drawn")):
        for level, name in ((20, "dark"), (180, "light")):
            write(root / split / name, level, 10 * seed + level)
    import_images(root / "set", root / "drawn")
    return root


@pytest.fixture(scope="module")
def small(folders):
    return (
        f"--config.dataset={folders}/real",
        f"--config.synthetic={folders}/set",
        "--config.generator_split=train",
        "--config.judge.steps=8",
        "--config.judge.batch_size=8",
        f"--workdir={folders}/out",
    )


def test_an_imported_set_is_compared_with_a_folder_of_real_images(folders, small, capsys, monkeypatch):
    status, out, _ = call(capsys, *small)
    assert status == 0
    worth = json.loads((folders / "out" / "worth.json").read_text())
    assert set(worth["classes"]) == {"dark", "light"}
    assert worth["all"]["images"] == {"synthetic": 20, "real_train": 20, "real_test": 20, "seen": 20}
    assert "A classifier trained on 20 synthetic images" in out
    assert f"{folders}/out/nearest.png" in out
    with Image.open(folders / "out" / "nearest.png") as picture:
        assert picture.format == "PNG"

    # started again, it takes the judges that are trained, and gives the same
    before = (folders / "out" / "worth.json").read_bytes()
    monkeypatch.setattr(judge.loop, "program", lambda step, **options: None)
    assert call(capsys, *small)[0] == 0
    assert (folders / "out" / "worth.json").read_bytes() == before

    status, out, err = call(capsys, *small, "--config.duplicate_threshold=2")
    assert (status, out) == (2, "")
    assert "duplicate_threshold: there 8.0, now 2.0" in err


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("--config.synthetic=/nowhere", "/nowhere holds no synthetic data set"),
        ("--config.dataset=digts", "Did you mean 'digits'?"),
        ("--config.image_size=4", "synthetic images are 8 x 8 pixels, real training images 4 x 4"),
        ("--config.judge.batch_size=64", "at least judge.batch_size = 64 images, got 20"),
        ("--config.judge.steps=0", "judge.steps must be at least 1, got 0"),
        ("--config.duplicate_threshold=-1", "duplicate_threshold must be at least 0, got -1"),
        ("--config.extractor=/nowhere/extractors/plain", "expected RUN/extractors/VARIANT"),
        ("--config.judge.network=resnet9", "Did you mean 'resnet8'?"),
        ("--config.generator_split=validation", "holds no folder 'validation'"),
    ],
    ids=["set", "dataset", "size", "batch", "steps", "threshold", "extractor", "network", "split"],
)
def test_bad_input_ends_in_a_message_and_status_2(change, expected, small, capsys, tmp_path):
    status, out, err = call(capsys, *small, change, f"--workdir={tmp_path}")
    assert (status, out) == (2, "")
    assert expected in err
    assert "Traceback" not in err


def test_without_a_set_or_real_images_the_message_says_which(capsys):
    status, _, err = call(capsys, "--workdir=x")
    assert status == 2
    assert "--config.synthetic is missing" in err
