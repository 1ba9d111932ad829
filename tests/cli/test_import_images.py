import numpy as np
import pytest
from PIL import Image

from jaxcil.cli import main as command
from jaxcil.synthesis.dataset import store
from jaxcil.synthesis.dataset.manifest import read_manifest


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        command.main(["import-images", *map(str, arguments)])
    printed = capsys.readouterr()
    return exit_.value.code, printed.out, printed.err


@pytest.fixture
def source(tmp_path):
    for name, colour in (("cat", "red"), ("dog", "blue")):
        (tmp_path / "source" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), colour).save(tmp_path / "source" / name / "0.png")
    return tmp_path / "source"


@pytest.mark.parametrize("in_file", [False, True], ids=["list", "file"])
def test_a_folder_becomes_a_set_of_the_classes_asked_for(in_file, source, capsys, tmp_path):
    names = tmp_path / "names.txt" if in_file else "dog,cat"
    (tmp_path / "names.txt").write_text("dog\ncat\n")
    status, out, err = call(
        capsys, source, f"--workdir={tmp_path}/set", "--image_size=4", f"--class_names={names}"
    )
    assert (status, err) == (0, "")
    assert out.startswith("2 images of 2 classes: ")
    images, _, class_names = store.read(tmp_path / "set")
    assert class_names == ("dog", "cat")
    np.testing.assert_array_equal(images[:, 0, 0], [[0, 0, 255], [255, 0, 0]])
    assert images.shape == (2, 4, 4, 3)


def test_a_known_list_names_the_folders_of_wordnet(capsys, tmp_path):
    for name, colour in (("n01443537", "red"), ("n01440764", "blue")):
        (tmp_path / "source" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), colour).save(tmp_path / "source" / name / "0.png")
    names = tmp_path / "names.txt"
    names.write_text("# two of a thousand\nn01443537: goldfish, Carassius auratus\nn01440764: tench\n")
    options = (f"--workdir={tmp_path}/set", f"--class_names={names}", "--licence=cc0-1.0")
    assert call(capsys, tmp_path / "source", *options)[0] == 0
    assert store.read(tmp_path / "set").class_names == ("n01443537", "n01440764")
    manifest = read_manifest(tmp_path / "set")
    assert manifest.phrases == {"n01443537": ("goldfish",), "n01440764": ("tench",)}
    card = (tmp_path / "set" / "README.md").read_text()
    assert "| 0     | n01443537 | goldfish | 1      |" in card
    assert "license: cc0-1.0" in card
    assert call(capsys, tmp_path / "source", *options)[0] == 0  # goes on


def test_a_list_with_classes_that_the_source_lacks_is_refused(source, capsys, tmp_path):
    status, _, err = call(capsys, source, f"--workdir={tmp_path}/set", "--class_names=cifar10")
    assert status == 2
    assert "no class in" in err
    assert "'airplane'; there are: cat, dog" in err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--workdir=x"], "expected one source of images, got none"),
        (["a", "b", "--workdir=x"], "expected one source of images, got a b"),
        (["a"], "--workdir is missing"),
        (["a", "--workdir=x", "--image_size=small"], "image_size"),
        (["a", "--workdir=x", "--imagesize=3"], "imagesize"),
        (["a", "--workdir=/dev/null/x"], "/dev/null/x cannot be written"),
    ],
    ids=["none", "two", "workdir", "type", "flag", "directory"],
)
def test_bad_arguments_end_in_a_message_and_status_2(arguments, expected, capsys):
    status, out, err = call(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("jaxcil: ")
    assert expected in err
    assert "Traceback" not in err
