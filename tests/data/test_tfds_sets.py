"""Data sets of TFDS: prepared as ArrayRecord and read back, without TensorFlow and without a network."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest
import requests
import tensorflow_datasets as tfds

from jaxcil.data import datasets, prepare, tfds_sets
from jaxcil.data.encoding import png
from jaxcil.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
# numbered otherwise than they sort, as imagenet_resized has them
IDS = ("n00000030", "n00000010", "n00000020")
ARCHIVE = "jaxcil-pictures.txt"


class JaxcilPictures(tfds.core.GeneratorBasedBuilder):
    """Pictures of one grey value, which is ten times the number in the WordNet id of their class, plus their own."""

    VERSION = tfds.core.Version("1.0.0")

    url_infos = None  # what TFDS knows of archives; else out of a file beside the builder

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(4, 4, 3), dtype=np.uint8, encoding_format="png"),
                "label": tfds.features.ClassLabel(names=IDS),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features, homepage="https://pictures.invalid")

    def _split_generators(self, dl_manager):
        count = self.images_per_class(dl_manager)
        return {
            "train": self._generate_examples(count),
            "validation": self._generate_examples(1),
            "blank": self._unlabelled(),
        }

    def images_per_class(self, dl_manager):
        return 5

    def _unlabelled(self):
        yield "blank", {"image": png(np.zeros((4, 4, 3), np.uint8)), "label": -1}

    def _generate_examples(self, count):
        for name in IDS:
            for n in range(count):
                grey = int(name[1:]) + n
                yield f"{name}{n}", {"image": png(np.full((4, 4, 3), grey, np.uint8)), "label": name}


class JaxcilArchive(JaxcilPictures):
    """The same from an archive, which holds the number of images a class."""

    def images_per_class(self, dl_manager):
        return int(open(dl_manager.download(f"https://pictures.invalid/{ARCHIVE}")).read())


class JaxcilUnreachable(JaxcilPictures):
    """The same from a site that is down."""

    def images_per_class(self, dl_manager):
        raise requests.ConnectionError("no route to host")


class JaxcilByHand(JaxcilPictures):
    """The same from archives that nobody may download."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = "Sign in and fetch pictures.tar."

    def images_per_class(self, dl_manager):
        return len(list(dl_manager.manual_dir.iterdir()))


class JaxcilTexts(tfds.core.GeneratorBasedBuilder):
    """No picture at all."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict({"text": tfds.features.Text()})
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield 0, {"text": "none"}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("tfds"))
    prepare.prepare("tfds:jaxcil_pictures", folder)
    return folder


def test_what_was_prepared_is_read_with_labels_in_the_order_of_wordnet_ids(data_dir):
    data = datasets.load("tfds:jaxcil_pictures", "train", data_dir=data_dir)
    assert data.class_names == ("n00000010", "n00000020", "n00000030")
    assert data.images.shape == (15, 4, 4, 3)
    greys = data.images[:, 0, 0, 0]
    assert sorted(greys.tolist()) == sorted(10 * k + n for k in (1, 2, 3) for n in range(5))
    np.testing.assert_array_equal(data.labels, greys // 10 - 1)


def test_the_test_images_of_a_set_without_a_test_split_are_those_of_validation(data_dir):
    data = datasets.load("tfds:jaxcil_pictures", "test", data_dir=data_dir)
    assert sorted(data.images[:, 0, 0, 0].tolist()) == [10, 20, 30]


def test_labels_are_kept_beside_the_records_and_no_others_are_taken_for_them(data_dir, tmp_path):
    moved = tmp_path / "tfds"
    shutil.copytree(data_dir, moved)
    (kept,) = moved.glob("jaxcil_pictures/1.0.0/jaxcil-labels-train.npz")
    with np.load(kept) as file:
        held = dict(file)
    right = datasets.open_records("tfds:jaxcil_pictures", "train", str(moved)).labels
    np.savez(kept, labels=np.zeros(15, np.int32), of=held["of"])  # seen only if they are read from there
    with pytest.raises(InputError, match="has no images"):
        datasets.open_records("tfds:jaxcil_pictures", "train", str(moved))
    for stale in ({"labels": np.zeros(15, np.int32), "of": held["of"][:-1]}, {"labels": held["labels"]}):
        np.savez(kept, **stale)
        np.testing.assert_array_equal(
            datasets.open_records("tfds:jaxcil_pictures", "train", str(moved)).labels, right
        )
    kept.write_bytes(b"cut off")
    np.testing.assert_array_equal(
        datasets.open_records("tfds:jaxcil_pictures", "train", str(moved)).labels, right
    )


def test_the_files_of_a_set_are_its_shards_with_their_sizes(data_dir):
    opened = datasets.open_records("tfds:jaxcil_pictures", "train", data_dir)
    shards = sorted(pathlib.Path(data_dir, "jaxcil_pictures/1.0.0").glob("*train.array_record*"))
    assert shards
    sizes = [(path.name, path.stat().st_size) for path in shards]
    assert opened.files(np.arange(3)) == sizes


def test_prepared_twice_changes_nothing(data_dir):
    folder = prepare.prepare("tfds:jaxcil_pictures", data_dir)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert prepare.prepare("tfds:jaxcil_pictures", data_dir) == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_an_archive_downloaded_by_hand_stands_for_the_download(tmp_path, monkeypatch):
    (tmp_path / "archives").mkdir()
    archive = tmp_path / "archives" / ARCHIVE
    archive.write_text("2")
    info = tfds.core.download.checksums.compute_url_info(archive)
    known = {f"https://pictures.invalid/{ARCHIVE}": dataclasses.replace(info, filename=ARCHIVE)}
    monkeypatch.setattr(JaxcilArchive, "url_infos", known)
    prepare.prepare("tfds:jaxcil_archive", str(tmp_path / "tfds"), str(tmp_path / "archives"))
    assert len(datasets.open_records("tfds:jaxcil_archive", "train", str(tmp_path / "tfds"))) == 6
    archive.write_text("3")
    with pytest.raises(InputError, match="archive of tfds:jaxcil_archive is not the one that TFDS knows"):
        prepare.prepare("tfds:jaxcil_archive", str(tmp_path / "other"), str(tmp_path / "archives"))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("cifar", r"no data set to prepare 'cifar'.*Did you mean 'cifar10'"),
        ("digits", "the digits need no preparation"),
        ("tfds:no_such_set", "TFDS gives no data set 'tfds:no_such_set'"),
        ("tfds:imagenet_resized", "has several configurations, .* tfds:imagenet_resized/64x64"),
        ("tfds:jaxcil_unreachable", "no route to host.*https://pictures.invalid.*--manual_dir"),
        ("tfds:jaxcil_by_hand", "by hand into --manual_dir.*Sign in and fetch pictures.tar"),
        ("tfds:jaxcil_texts", "must have an image and a label .*features are text"),
    ],
    ids=lambda value: value if value.startswith("tfds") else "",
)
def test_what_cannot_be_prepared_is_refused(name, says, tmp_path):
    with pytest.raises(InputError, match=f"(?s){says}"):
        prepare.prepare(name, str(tmp_path))


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "imagenet_resized/32x32"])
def test_tensorflow_is_asked_for_before_anything_is_downloaded(name, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare.importlib.util, "find_spec", lambda module: None)
    with pytest.raises(
        InputError, match=r"TensorFlow, which is not installed: pip install 'jaxcil\[prepare\]'"
    ):
        prepare.prepare(name, str(tmp_path))
    assert not any(tmp_path.iterdir())


def test_imagenets_archives_are_asked_for_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare.importlib.util, "find_spec", lambda module: module)
    (tmp_path / "ILSVRC2012_img_val.tar").touch()
    with pytest.raises(InputError, match=r"lacks ILSVRC2012_img_train\.tar\."):
        prepare.prepare("imagenet2012", str(tmp_path), str(tmp_path))


@pytest.mark.parametrize("name", tfds_sets.KNOWN)
def test_a_set_that_is_not_prepared_says_how_it_is(name, tmp_path):
    with pytest.raises(
        InputError, match=rf"{name} is not prepared in .*`jaxcil prepare-data {name}`.*TensorFlow"
    ):
        datasets.load(name, "train", data_dir=str(tmp_path))


def test_a_split_that_does_not_exist_is_refused_with_those_that_do(data_dir):
    with pytest.raises(InputError, match=r"no split of .* 'vali'; there are: blank, train, validation"):
        datasets.load("tfds:jaxcil_pictures", "vali", data_dir=data_dir)


@pytest.mark.parametrize("classes", [None, "n00000030"])
def test_images_without_labels_are_refused_and_join_no_class(classes, data_dir):
    with pytest.raises(InputError, match="got -1; the split has no labels"):
        datasets.load("tfds:jaxcil_pictures", "blank", data_dir=data_dir, classes=classes)


def test_another_size_than_that_of_the_set_is_refused(data_dir):
    with pytest.raises(InputError, match="4 x 4 pixels, not 8 x 8; leave the size out"):
        datasets.load("tfds:jaxcil_pictures", "train", 8, data_dir=data_dir)


def test_a_set_in_tensorflows_own_format_is_refused(data_dir, tmp_path):
    moved = tmp_path / "tfds"
    shutil.copytree(data_dir, moved)
    (info,) = moved.rglob("dataset_info.json")
    info.write_text(json.dumps(json.loads(info.read_text()) | {"fileFormat": "tfrecord"}))
    with pytest.raises(InputError, match="as tfrecord, which only TensorFlow reads"):
        datasets.load("tfds:jaxcil_pictures", "train", data_dir=str(moved))
