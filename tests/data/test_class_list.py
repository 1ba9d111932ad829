import pytest
import tensorflow_datasets as tfds

from jaxcil.data.class_names.class_list import ClassEntry, read_class_list
from jaxcil.errors import InputError


@pytest.mark.parametrize(
    ("source", "count", "members"),
    [
        ("cifar10", 10, {0: "airplane", 3: "cat", 9: "truck"}),
        ("cifar100", 100, {0: "apple", 1: "aquarium_fish", 50: "mouse", 99: "worm"}),
        # three ids of Imagenette and the two of the synsets that are called crane
        ("imagenet1k", 1000, {0: "n01440764", 217: "n02102040", 566: "n03394916", 134: "n02012849"}),
    ],
)
def test_known_lists_are_whole_and_in_the_order_of_the_labels(source, count, members):
    names = [entry.name for entry in read_class_list(source)]
    assert len(set(names)) == len(names) == count
    assert {label: names[label] for label in members} == members
    assert names == sorted(names)  # all three data sets number their classes so


def test_words_of_imagenet_stand_at_their_ids():
    entries = {entry.name: entry for entry in read_class_list("imagenet1k")}
    assert entries["n01440764"] == ClassEntry("n01440764", ("tench", "Tinca tinca"), "")
    assert entries["n02102040"].words[0] == "English springer"
    assert entries["n03394916"].words[0] == "French horn"
    assert entries["n03126707"] == ClassEntry("n03126707", ("crane",), "a machine")


def test_imagenet_has_the_ids_that_tfds_gives_its_labels():
    path = tfds.core.tfds_path("datasets/imagenet2012/labels.txt")
    assert [entry.name for entry in read_class_list("imagenet1k")] == path.read_text().split()


def test_a_file_gives_names_synonyms_and_definitions(tmp_path):
    file = tmp_path / "names.txt"
    file.write_bytes(
        "\ufeff# mine\nsea_lion\r\n\ncrane, whooping crane; a large bird\nn1: crane; a machine, tall\n".encode()
    )
    assert read_class_list(str(file)) == (
        ClassEntry("sea_lion", ("sea_lion",), ""),
        ClassEntry("crane", ("crane", "whooping crane"), "a large bird"),
        ClassEntry("n1", ("crane",), "a machine, tall"),
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no class"),
        (b"# cat\n", "holds no class"),
        (b"cat\ndog\ncat\n", "line 3 .* names the class 'cat' again"),
        (b"cat,\n", "line 1 .* without empty parts, got 'cat,'"),
        (b"cat\n: dog\n", "line 2 .* without empty parts"),
        (b"cat:\n", "without empty parts"),
        (b"cat;\n", "without empty parts"),
        (b"cat; a; b\n", "without empty parts"),
        (b"c\xe9pe\n", "cannot be read as a list of classes in UTF-8"),
    ],
)
def test_a_file_that_is_no_list_is_refused_with_the_line(content, message, tmp_path):
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_class_list(str(tmp_path / "names.txt"))


def test_an_unknown_list_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="Did you mean 'cifar100'"):
        read_class_list("cifar-100")


def builder(monkeypatch, features):
    """Makes TFDS know one builder, "here", with some features."""

    class Here:
        def __init__(self, name):
            if name != "here":
                raise tfds.core.registered.DatasetNotFoundError(f"Dataset {name} not found.")
            self.info = self
            self.features = tfds.features.FeaturesDict(features)

    monkeypatch.setattr(tfds, "builder", Here)


def test_a_builder_gives_its_label_names(monkeypatch):
    other = tfds.features.ClassLabel(names=["x", "y"])
    builder(monkeypatch, {"label": tfds.features.ClassLabel(names=["pink rose", "ivy"]), "coarse": other})
    assert [entry.name for entry in read_class_list("tfds:here")] == ["pink rose", "ivy"]
    with pytest.raises(InputError, match="TFDS gives no builder 'there'"):
        read_class_list("tfds:there")


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"label": tfds.features.ClassLabel(num_classes=3)}, "does not know the names of its labels"),
        ({"text": tfds.features.Text()}, "no feature 'label'"),
    ],
    ids=["numbers", "none"],
)
def test_a_builder_without_names_is_refused(features, message, monkeypatch):
    builder(monkeypatch, features)
    with pytest.raises(InputError, match=message):
        read_class_list("tfds:here")
