"""Images of any other tool become a data set like those that `generate` writes."""

import hashlib
import io
import itertools
import re
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxcil.data import decoding
from jaxcil.errors import InputError
from jaxcil.synthesis.dataset import store
from jaxcil.synthesis.imports.import_images import import_images


def encoded(array, kind="PNG", **options):
    """An array as the bytes of an image file."""
    buffer = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


# 3 cats and 2 dogs, not as many as each other; all differ.
PIXELS = {
    "cat": np.random.default_rng(0).integers(0, 256, (3, 6, 6, 3), np.uint8),
    "sea_lion": np.random.default_rng(1).integers(0, 256, (2, 6, 6, 3), np.uint8),
}
FILES = {f"{name}/{n}.png": encoded(image) for name in PIXELS for n, image in enumerate(PIXELS[name])}


def write_zip(path, contents):
    with zipfile.ZipFile(path, "w") as file:
        for name, data in contents.items():
            file.writestr(name, data)
    return path


def write_tar(path, contents):
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as file:
        for name, data in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def write_folder(root, contents):
    for name, data in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def archive_a_class(ending):
    def write(root, contents):
        root.mkdir(exist_ok=True)
        pack = write_zip if ending == ".zip" else write_tar
        for name, group in itertools.groupby(contents.items(), lambda item: item[0].split("/")[0]):
            pack(root / f"{name}{ending}", dict(group))
        (root / "LICENSE.txt").write_text("what lies beside the classes is left alone")
        return root

    return write


def one_archive(ending):
    def write(root, contents):
        pack = write_zip if ending == ".zip" else write_tar
        # classes in turn, below a folder of all, with what a file manager leaves there
        mixed = sorted(contents.items(), key=lambda item: item[0].split("/")[1])
        inside = {f"./all/{name}": data for name, data in mixed} | {"__MACOSX/all/cat/._0.png": b"-"}
        return pack(root.with_name(f"{root.name}{ending}"), inside | {"all/README.txt": b"-"})

    return write


FORMS = {
    "folders": write_folder,
    "zip-a-class": archive_a_class(".zip"),
    "tar-a-class": archive_a_class(".tar"),
    "tgz-a-class": archive_a_class(".tar.gz"),
    "one-zip": one_archive(".zip"),
    "one-tar": one_archive(".tar"),
    "one-tgz": one_archive(".tgz"),
}


def contents(directory):
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir()) if path.is_file()}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_source_gives_the_images_and_labels_it_holds(form, tmp_path):
    source = FORMS[form](tmp_path / "source", FILES)
    manifest = import_images(tmp_path / "set", source, shard_size=2)
    images, labels, class_names = store.read(tmp_path / "set")
    np.testing.assert_array_equal(images, np.concatenate([PIXELS["cat"], PIXELS["sea_lion"]]))
    np.testing.assert_array_equal(labels, [0, 0, 0, 1, 1])
    assert class_names == ("cat", "sea_lion")
    assert len(manifest.requests.shards) == 3
    for name, checksum in manifest.config["sources"].items():
        file = source if source.is_file() else source / name
        if file.is_file():
            assert checksum == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("folders"), FILES)


@pytest.fixture(scope="module")
def imported(folders, tmp_path_factory):
    """A complete set; tests only read it."""
    directory = tmp_path_factory.mktemp("imported")
    import_images(directory, folders, shard_size=2)
    return directory


def test_tfds_reads_an_imported_set(imported):
    builder = tfds.builder_from_directory(str(imported))
    assert builder.info.features["label"].names == ["cat", "sea_lion"]
    rows = list(builder.as_data_source(split="train"))
    assert len(rows) == 5
    for row in rows:
        name = ("cat", "sea_lion")[row["label"]]
        np.testing.assert_array_equal(row["image"], PIXELS[name][row["index"]])


def test_the_card_names_the_sources_and_makes_no_claim_on_how_images_were_made(imported):
    card = (imported / "README.md").read_text()
    assert "5 synthetic images of 2 classes" in card
    listed = "".join(f"{hashlib.sha256(FILES[name]).hexdigest()}  {name[4:]}\n" for name in list(FILES)[:3])
    assert f"- `cat/` {hashlib.sha256(listed.encode()).hexdigest()}" in card
    assert "Guidance" not in card
    with Image.open(imported / "contact_sheet.png") as sheet:
        assert sheet.mode == "RGB"


def test_equal_sources_give_equal_files(imported, folders, tmp_path):
    import_images(tmp_path, folders, shard_size=2)
    assert contents(tmp_path) == contents(imported)


def test_what_stands_is_not_read_again(imported, folders, monkeypatch):
    monkeypatch.setattr(decoding, "decoded", lambda data, name, imported: Image.new("RGB", (6, 6)))
    before = contents(imported)
    import_images(imported, folders, shard_size=2)
    assert contents(imported) == before


@pytest.mark.parametrize("images", [2, 5, 6, 8, 9])
def test_an_interrupted_import_goes_on_to_the_same_files(images, imported, folders, tmp_path, monkeypatch):
    left = iter(range(1 + images))  # the first image tells the size; then all 5 are checked, then written

    read = decoding.decoded

    def interrupted(data, name, **how):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return read(data, name, **how)

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "decoded", interrupted)
        with pytest.raises(KeyboardInterrupt):
            import_images(tmp_path, folders, shard_size=2)
    for name, data in contents(tmp_path).items():
        assert contents(imported)[name] == data
    import_images(tmp_path, folders, shard_size=2)
    assert contents(tmp_path) == contents(imported)


def test_a_deleted_shard_comes_back_with_the_same_bytes(imported, folders, tmp_path):
    import_images(tmp_path, folders, shard_size=2)
    store.shard_path(tmp_path, 1).unlink()
    import_images(tmp_path, folders, shard_size=2)
    assert contents(tmp_path) == contents(imported)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"cat/0.png": FILES["cat/1.png"]}, {}, "sources.cat/: there .*, now "),
        ({"dog/0.png": FILES["cat/1.png"]}, {}, "sources.dog/: there None, now "),
        ({}, {"class_names": ["sea_lion", "cat"]}, "class_names"),
        ({}, {"image_size": 3}, "image_size: there .6, 6., now .3, 3."),
        ({}, {"shard_size": 3}, "shard_size: there 2, now 3"),
    ],
    ids=["altered", "added", "order", "size", "shards"],
)
def test_another_source_is_refused_and_the_difference_named(change, options, message, imported, tmp_path):
    source = write_folder(tmp_path / "source", FILES | change)
    before = contents(imported)
    with pytest.raises(InputError, match=message):
        import_images(imported, source, **{"shard_size": 2, **options})
    assert contents(imported) == before


def test_classes_are_taken_in_the_order_of_their_names_or_of_the_list(folders, tmp_path):
    import_images(tmp_path / "both", folders, class_names=["sea_lion", "cat"])
    images, labels, class_names = store.read(tmp_path / "both")
    assert class_names == ("sea_lion", "cat")
    np.testing.assert_array_equal(labels, [0, 0, 1, 1, 1])
    np.testing.assert_array_equal(images[:2], PIXELS["sea_lion"])
    import_images(tmp_path / "one", folders, class_names=["sea_lion"])
    assert store.read(tmp_path / "one").class_names == ("sea_lion",)
    with pytest.raises(InputError, match="Did you mean 'cat'"):
        import_images(tmp_path / "none", folders, class_names=["cats"])


def test_one_class_in_an_archive_is_named_by_its_folder(tmp_path):
    only = {name: data for name, data in FILES.items() if name.startswith("cat/")}
    import_images(tmp_path / "set", write_zip(tmp_path / "x.zip", only))
    assert store.read(tmp_path / "set").class_names == ("cat",)


def test_images_are_cut_to_the_square_and_antialiased(tmp_path):
    wide = np.zeros((8, 16, 3), np.uint8)
    wide[:, :4], wide[:, 12:] = (255, 0, 0), (255, 0, 0)  # cut away
    wide[:, 4:12][::2] = (0, 200, 0)  # stripes: an antialiased reduction is even
    source = write_folder(tmp_path / "source", {"cat/0.png": encoded(wide), "cat/1.png": FILES["cat/0.png"]})
    import_images(tmp_path / "set", source, image_size=2)
    image = store.read(tmp_path / "set").images[0]
    assert image.shape == (2, 2, 3)
    assert (image[..., 0] < 32).all()  # the filter reaches a little beyond the cut; uncut, half would be red
    assert np.ptp(image[..., 1]) < 40


def palette_with_transparency():
    image = Image.new("P", (1, 1), 3)
    image.putpalette([9] * 9 + [200, 100, 0])
    return encoded(image, transparency=3)


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    return encoded(np.arange(6, dtype=np.uint8).reshape(1, 2, 3), exif=exif)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded(np.array([[7, 90]], np.uint8)), [[[7] * 3, [90] * 3]]),
        (encoded(np.array([[True, False]])), [[[255] * 3, [0] * 3]]),
        (
            encoded(np.array([[[10, 20, 30, 255], [0, 0, 0, 0], [0, 100, 200, 51]]], np.uint8)),
            [[[10, 20, 30], [255] * 3, [204, 224, 244]]],  # 0.2 of the colour over white
        ),
        (encoded(np.array([[[50, 255], [50, 0]]], np.uint8)), [[[50] * 3, [255] * 3]]),
        (palette_with_transparency(), [[[255] * 3]]),
        (turned(), [[[0, 1, 2]], [[3, 4, 5]]]),
        (encoded(np.full((1, 1, 3), 60, np.uint8), "BMP"), [[[60] * 3]]),
        (encoded(np.full((1, 1, 3), 60, np.uint8), "WEBP", lossless=True), [[[60] * 3]]),
        (encoded(np.full((1, 1, 3), 60, np.uint8), "JPEG"), [[[60] * 3]]),
    ],
    ids=["grey", "bits", "alpha", "grey-alpha", "palette-alpha", "exif", "bmp", "webp", "jpeg"],
)
def test_every_kind_of_image_becomes_rgb(data, expected):
    np.testing.assert_array_equal(np.asarray(decoding.decoded(data, "x", imported=True)), expected)


def png_of_stated_size(width, height):
    """A PNG file that only says how large it is."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


UNKNOWN = "cannot be read as an image: its format is unknown"
NOISE = np.random.default_rng(2).integers(0, 256, (32, 32, 3), np.uint8)
BROKEN = {
    "no-image": (b"<html>not found</html>", UNKNOWN),
    "empty": (b"", UNKNOWN),
    "postscript": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n",
        "cannot be read as an image: its format is unknown",
    ),
    "gif": (encoded(NOISE, "GIF"), UNKNOWN),
    "cut-png": (encoded(NOISE)[:1500], "cannot be read as an image"),
    "cut-jpeg": (encoded(NOISE, "JPEG")[:-200], "cannot be read as an image"),
    "cut-webp": (encoded(NOISE, "WEBP")[:-200], "cannot be read as an image"),
    "bomb": (png_of_stated_size(20000, 20000), "cannot be read as an image: Image size"),
    "near-bomb": (png_of_stated_size(10000, 10000), "cannot be read as an image: Image size"),
    "16-bit": (encoded(np.full((6, 6), 60000, np.uint16)), "has pixels of mode I;16"),
    "cmyk": (encoded(Image.new("CMYK", (6, 6)), "JPEG"), "has pixels of mode CMYK"),
    "frames": (
        encoded(Image.new("RGB", (6, 6)), save_all=True, append_images=[Image.new("RGB", (6, 6), "red")]),
        "has 2 frames",
    ),
    "other-size": (encoded(NOISE), "has 32 x 32 pixels, the first image 6 x 6"),
}


@pytest.mark.parametrize("form", ["folders", "zip-a-class", "tgz-a-class"])
@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_image_is_named_and_nothing_is_written(broken, form, tmp_path):
    data, message = BROKEN[broken]
    source = FORMS[form](tmp_path / "source", FILES | {"sea_lion/9.png": data})
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        import_images(tmp_path / "set", source)
    assert re.search(r"sea_lion(/9.png|.*: member 'sea_lion/9.png') ", str(caught.value))
    assert contents(tmp_path / "set") == {}


@pytest.mark.parametrize("ending", [".zip", ".tgz"])
def test_an_archive_that_leads_out_is_written_nowhere_but_into_the_set(ending, tmp_path):
    source = FORMS[f"one-{ending[1:]}"](tmp_path / "source", {"../../../cat/0.png": FILES["cat/0.png"]})
    assert import_images(tmp_path / "set", source).class_names == ("cat",)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "set", source]
    assert not list(tmp_path.rglob("0.png"))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"cat/labels.csv": b""}, "cat/labels.csv is not an image file"),
        ({"cat/more/0.png": FILES["cat/0.png"]}, "cat/more is not an image file"),
        ({"cat.zip": b""}, "class 'cat' occurs twice"),
        ({"dog/.hidden.png": b""}, "dog holds no images"),
    ],
    ids=["other-file", "folder", "twice", "empty"],
)
def test_a_folder_of_another_layout_is_refused(files, message, tmp_path):
    write_folder(tmp_path / "source", FILES | files)
    with pytest.raises(InputError, match=message):
        import_images(tmp_path / "set", tmp_path / "source")
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"cat/labels.csv": b""}, "member 'cat/labels.csv' is not an image file"),
        ({"cat/more/0.png": FILES["cat/0.png"]}, "member 'cat/more/0.png' is deeper than others"),
        ({"0.png": FILES["cat/0.png"]}, "member '0.png' is not in the folder of a class"),
    ],
    ids=["other-file", "folder", "loose"],
)
def test_an_archive_of_another_layout_is_refused(files, message, tmp_path):
    source = write_zip(tmp_path / "x.zip", FILES | files)
    with pytest.raises(InputError, match=message):
        import_images(tmp_path / "set", source)
    assert not (tmp_path / "set").exists()


def test_splits_are_not_taken_for_classes_nor_mixed(tmp_path):
    splits = {f"{split}/{name}": data for split in ("train", "test") for name, data in FILES.items()}
    with pytest.raises(InputError, match="Did you mean one part of the archive"):
        import_images(tmp_path / "set", write_zip(tmp_path / "x.zip", splits))


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("absent", {}, "absent is neither a folder nor an archive"),
        ("x.rar", {}, "x.rar is neither a folder nor an archive .*.tar.gz"),
        ("empty", {}, "empty holds neither folders nor archives"),
        ("x.zip", {}, "x.zip holds no folder with images"),
        ("empty", {"image_size": 0}, "image_size must be at least 1, got 0"),
        ("empty", {"shard_size": -1}, "shard_size must be at least 1, got -1"),
    ],
)
def test_a_source_without_classes_is_refused(source, options, message, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.rar").touch()
    write_zip(tmp_path / "x.zip", {"README": b""})
    with pytest.raises(InputError, match=message):
        import_images(tmp_path / "set", tmp_path / source, **options)
    assert not (tmp_path / "set").exists()
