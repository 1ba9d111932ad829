"""Folders of images as ImageNet and Tiny-ImageNet lay them out, and the classes taken from a set."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from jaxcil.data import datasets
from jaxcil.data.class_names.class_list import read_class_list
from jaxcil.errors import InputError

WNIDS = ("n01440764", "n01443537", "n02084071")


def picture(file, grey):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 6), (grey,) * 3).save(file, format="PNG")


@pytest.fixture
def tiny(tmp_path):
    """Tiny-ImageNet's layout with three classes, their lists in no order, and a test folder without labels."""
    for k, name in enumerate(WNIDS):
        for n in range(2):
            picture(tmp_path / "train" / name / "images" / f"{name}_{n}.JPEG", 10 * k + n)
        (tmp_path / "train" / name / f"{name}_boxes.txt").write_text("0\t0\t5\t5\n")
        picture(tmp_path / "val" / "images" / f"val_{2 - k}.JPEG", 100 + k)
    lines = [f"val_{2 - k}.JPEG\t{name}\t0\t0\t5\t5\n" for k, name in enumerate(WNIDS)]
    (tmp_path / "val" / "val_annotations.txt").write_text("".join(lines))
    (tmp_path / "wnids.txt").write_text("\n".join(reversed(WNIDS)) + "\n")
    picture(tmp_path / "test" / "images" / "test_0.JPEG", 255)
    return tmp_path


def greys(data):
    return data.images[:, 0, 0, 0].tolist()


def test_tiny_imagenet_is_read_as_it_is_laid_out(tiny):
    train, test = (datasets.load(str(tiny), split) for split in ("train", "test"))
    assert train.class_names == test.class_names == WNIDS
    assert (train.labels.tolist(), greys(train)) == ([0, 0, 1, 1, 2, 2], [0, 1, 10, 11, 20, 21])
    assert (test.labels.tolist(), greys(test)) == ([0, 1, 2], [100, 101, 102])


def test_imagenets_test_images_are_those_of_val(tmp_path):
    for k, name in enumerate(WNIDS):
        picture(tmp_path / "train" / name / "a.png", k)
        picture(tmp_path / "val" / name / "b.png", 50 + k)
    test = datasets.load(str(tmp_path), "test")
    assert test.class_names == WNIDS
    assert greys(test) == [50, 51, 52]


def test_a_test_folder_with_labels_goes_before_val(tmp_path):
    for k, split in enumerate(("train", "val", "test")):
        picture(tmp_path / split / "ant" / "a.png", k)
    assert greys(datasets.load(str(tmp_path), "test")) == [2]


def test_chosen_classes_are_labelled_in_the_order_in_which_they_are_named(tiny):
    data = datasets.load(str(tiny), "train", classes=f"{WNIDS[2]}, {WNIDS[0]}")
    assert data.class_names == (WNIDS[2], WNIDS[0])
    assert sorted(zip(data.labels.tolist(), greys(data))) == [(0, 20), (0, 21), (1, 0), (1, 1)]


def test_classes_may_be_a_file_with_a_class_a_line(tiny):
    (tiny / "mine.txt").write_text(f"{WNIDS[1]}: goldfish\n")
    assert greys(datasets.load(str(tiny), "train", classes=str(tiny / "mine.txt"))) == [10, 11]


@pytest.fixture(scope="module")
def published():
    return json.loads(
        (pathlib.Path(__file__).parents[1] / "golden/incremental/class_orders.json").read_text()
    )


@pytest.mark.parametrize("name", ["imagenet100_lucir", "imagenet100_podnet"])
def test_imagenet_subsets_are_the_published_lists(name, published):
    assert [entry.name for entry in read_class_list(name)] == published["imagenet100"][name]


def test_the_two_imagenet_subsets_share_nine_classes():
    lucir, podnet = ({e.name for e in read_class_list(f"imagenet100_{name}")} for name in ("lucir", "podnet"))
    assert len(lucir & podnet) == 9


def test_a_subset_keeps_the_words_of_its_classes():
    assert read_class_list("imagenet100_podnet")[0].words == ("tench", "Tinca tinca")


def broken(root):
    (root / "train" / WNIDS[0] / "images" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n cut off")


def cut(root):
    file = root / "train" / WNIDS[0] / "images" / f"{WNIDS[0]}_0.JPEG"
    generator = np.random.default_rng(0)
    Image.fromarray(generator.integers(0, 256, (6, 6, 3), np.uint8)).save(file, format="PNG")
    file.write_bytes(file.read_bytes()[:-40])


def emptied(root):
    for file in (root / "train" / WNIDS[1] / "images").iterdir():
        file.unlink()


def unlisted(root):
    (root / "wnids.txt").write_text(WNIDS[0])


def without_tabs(root):
    (root / "val" / "val_annotations.txt").write_text("val_0.JPEG n01440764\n")


def unannotated(root):
    lines = (root / "val" / "val_annotations.txt").read_text().splitlines()
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines[:2]))


def missing(root):
    (root / "val" / "images" / "val_1.JPEG").unlink()


def nothing(root):
    pass


def no_folders(root):
    (root / "flat").mkdir()
    picture(root / "flat" / "a.png", 1)


@pytest.mark.parametrize(
    ("damage", "split", "classes", "says"),
    [
        (nothing, "trian", None, "holds no folder 'trian', it has test, train, val"),
        (no_folders, "flat", None, "expected one for each class"),
        (broken, "train", None, r"cut\.png cannot be read as an image"),
        (cut, "train", None, r"_0\.JPEG cannot be read as an image"),
        (emptied, "train", None, f"class '{WNIDS[1]}' has no images"),
        (unlisted, "test", None, r"has the class .*, which is not in .*wnids\.txt"),
        (without_tabs, "test", None, "lines FILE<tab>CLASS"),
        (unannotated, "test", None, f"class '{WNIDS[2]}' has no images"),
        (missing, "test", None, r"val_1\.JPEG cannot be read: No such file"),
        (nothing, "train", f"{WNIDS[0]},{WNIDS[0]}", f"named once each; named twice: {WNIDS[0]}"),
        (nothing, "train", "n9, n8", r"has no class 'n9' \(nor 1 others\); its 3 classes are n01440764"),
        (
            nothing,
            "train",
            "imagenet100",
            "has no class 'imagenet100'.*imagenet100_lucir, imagenet100_podnet",
        ),
        (nothing, "train", "n01440764,,", "names divided by commas, got 'n01440764,,'"),
        (nothing, "train", "tfds:no_such_set", "TFDS gives no builder 'no_such_set'"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_folder_that_cannot_be_used_is_refused(damage, split, classes, says, tiny):
    damage(tiny)
    with pytest.raises(InputError, match=says):
        datasets.load(str(tiny), split, classes=classes)


def test_more_images_than_memory_holds_are_refused_before_they_are_read(tiny):
    with pytest.raises(InputError, match=r"GiB of memory and there are .* or stream it"):
        datasets.load(str(tiny), "train", size=2**21)
