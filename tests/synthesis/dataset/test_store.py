import os

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from jaxcil.errors import InputError
from jaxcil.synthesis.dataset import store
from jaxcil.synthesis.dataset.manifest import Asked, begin, read_manifest
from jaxcil.synthesis.dataset.verify import verify
from jaxcil.synthesis.drawing import generate
from jaxcil.workdir import files

BATCH = 4
CONFIG = {
    "model": {"sha256": "0" * 64},
    "plan": {"keep": [0.5, 0.25], "noise": [0.1, 0.0]},
    "templates": ["a {}", "the {}"],
    "guidance_scale": 2.0,
    "seed": 3,
    "image_size": [4, 6],
    "batch_size": BATCH,
    "shard_size": 5,
}


def tokenize(texts):
    return np.array([[len(text), ord(text[-1])] for text in texts], np.int32)


def draw(ids, keys, scales):
    """A pure function of prompt and key, as the pipeline is."""
    assert ids.shape == (len(keys), 2)
    assert scales.shape == (len(keys),)
    return jax.vmap(lambda row, key: jax.random.uniform(key, (4, 6, 3), minval=-1) * (row[0] / 20))(ids, keys)


def make(directory, class_names=("cat", "dog"), images_per_class=6, draw=draw, batch=BATCH, **changes):
    config = CONFIG | changes
    manifest = begin(directory, Asked(config, class_names, images_per_class))
    generate.fill(directory, manifest, draw, tokenize, batch=batch)
    store.finish(directory, manifest)
    return manifest


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A complete set of 2 classes, 6 images each, in 3 shards; tests only read it."""
    directory = tmp_path_factory.mktemp("finished")
    make(directory)
    return directory


def test_read_gives_the_requests_in_their_order(finished):
    images, labels, class_names = store.read(finished)
    assert images.shape == (12, 4, 6, 3)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(labels, np.repeat([0, 1], 6))
    assert labels.dtype == np.int32
    assert class_names == ("cat", "dog")
    assert len({image.tobytes() for image in images}) == 12
    some = store.read(finished, [7, 2])
    np.testing.assert_array_equal(some.images, images[[7, 2]])
    np.testing.assert_array_equal(some.labels, [1, 0])


def test_tfds_reads_the_directory(finished):
    builder = tfds.builder_from_directory(str(finished))
    assert builder.info.features["label"].names == ["cat", "dog"]
    assert builder.info.splits["train"].num_examples == 12
    assert builder.info.supervised_keys == ("image", "label")
    rows = list(builder.as_data_source(split="train"))
    images, labels, _ = store.read(finished)
    for row in rows:
        np.testing.assert_array_equal(row["image"], images[row["request"]])
        assert row["label"] == labels[row["request"]]
        assert row["id"].decode() == f"{('cat', 'dog')[row['label']]}/{row['index']}"
    assert sorted(row["request"] for row in rows) == list(range(12))


def test_equal_configs_give_equal_files(finished, tmp_path, contents):
    make(tmp_path)
    assert contents(tmp_path) == contents(finished)


def test_the_fields_of_a_record_stand_in_the_order_of_their_names(finished):
    # They are a protobuf map: in the order by chance of TFDS, another process would write other files.
    reader = ArrayRecordReader(str(store.shard_path(finished, 1)))
    for record in reader.read_all():
        names = [b"\x0a\x02id", b"\x0a\x05image", b"\x0a\x05index", b"\x0a\x05label", b"\x0a\x07request"]
        places = [record.find(name) for name in names]
        assert places[0] > 0
        assert places == sorted(places)
    reader.close()


@pytest.mark.parametrize("shard", [0, 1, 2])
def test_a_deleted_shard_comes_back_with_the_same_bytes(shard, finished, tmp_path, contents):
    make(tmp_path)
    store.shard_path(tmp_path, shard).unlink()
    with pytest.raises(
        InputError, match=f"1 of 3 shards are missing, .*-0000{shard}. Run the same `jaxcil generate` command"
    ):
        store.read(tmp_path)
    make(tmp_path)
    assert contents(tmp_path) == contents(finished)


def test_an_incomplete_set_of_imported_images_names_the_command_that_began_it(tmp_path):
    begin(tmp_path, Asked({"sources": {}, "image_size": [4, 6], "shard_size": 5}, ("cat",), [2]))
    with pytest.raises(InputError, match=r"1 of 1 shards are missing, .*Run the same `jaxcil import-images`"):
        store.read(tmp_path)


def test_what_stands_is_not_drawn_again(finished):
    def forbidden(ids, keys):
        raise AssertionError

    make(finished, draw=forbidden)


def failing_after(calls):
    """The drawing function of a machine that is switched off."""
    left = iter(range(calls))

    def fail(ids, keys, scales):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return draw(ids, keys, scales)

    return fail


@pytest.mark.parametrize("calls", [0, 1, 2])
def test_an_interrupted_run_goes_on_to_the_same_files(calls, finished, tmp_path, contents):
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, draw=failing_after(calls))
    visible = [name for name in contents(tmp_path) if not name.startswith(".")]
    shards = [name for name in visible if name.startswith("synthetic-train") and not name.endswith(".json")]
    for name in shards:  # none is half-written
        assert contents(tmp_path)[name] == contents(finished)[name]
    assert "dataset_info.json" not in visible
    assert visible == [*contents(tmp_path)]  # neither asides nor leases
    make(tmp_path)
    assert contents(tmp_path) == contents(finished)


def test_a_shard_without_its_sidecar_is_made_again(finished, tmp_path, monkeypatch, contents):
    # The machine stops after the shard and before the sidecar.
    with monkeypatch.context() as patch:
        written = files.write_json

        def interrupted(path, value):
            if "train.array_record-00001" in str(path):
                raise KeyboardInterrupt
            written(path, value)

        patch.setattr(files, "write_json", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path)
    assert store.shard_path(tmp_path, 1).exists()
    assert 1 in store.missing_shards(tmp_path, read_manifest(tmp_path))
    make(tmp_path)
    assert contents(tmp_path) == contents(finished)


def test_a_damaged_shard_is_named(tmp_path):
    make(tmp_path)
    path = store.shard_path(tmp_path, 1)
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="record-00001 is damaged: its checksum is wrong"):
        store.read(tmp_path)
    with pytest.raises(InputError, match=r"record-00001 is damaged: .*verify .* --repair"):
        store.read(tmp_path, [5])  # without a checksum


def test_identity_comes_from_the_record_and_not_from_its_place(finished, tmp_path):
    make(tmp_path)
    path = store.shard_path(tmp_path, 0)
    reader = ArrayRecordReader(str(path))
    records = reader.read_all()
    reader.close()
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for record in records[::-1]:
        writer.write(record)
    writer.close()
    sidecar = path.with_name(f"{path.name}.json")
    changed = files.read_json(sidecar) | {"sha256": store.sha256(path), "bytes": path.stat().st_size}
    files.write_json(sidecar, changed)
    for ours, theirs in zip(store.read(tmp_path), store.read(finished)):
        np.testing.assert_array_equal(ours, theirs)


def by_name(directory):
    """Images by class name and index."""
    rows = tfds.builder_from_directory(str(directory)).as_data_source(split="train")
    return {row["id"]: row["image"].tobytes() for row in rows}


@pytest.mark.parametrize(
    ("classes", "images_per_class"),
    [(("cat", "dog", "eel", "fox", "gnu"), 6), (("cat", "dog"), 16), (("cat", "dog", "eel"), 9)],
    ids=["3 classes", "10 images a class", "both"],
)
def test_extending_leaves_what_is_written_and_gives_the_images_of_a_set_made_at_once(
    classes, images_per_class, tmp_path
):
    grown, at_once = tmp_path / "grown", tmp_path / "at once"
    grown.mkdir()
    at_once.mkdir()
    make(grown)
    before = {
        path.name: (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns)
        for path in grown.glob("synthetic-train*")
    }
    make(grown, classes, images_per_class)
    make(at_once, classes, images_per_class)
    after = {
        name: ((grown / name).read_bytes(), (grown / name).stat().st_ino, (grown / name).stat().st_mtime_ns)
        for name in before
    }
    assert after == before
    images = by_name(grown)
    assert images == by_name(at_once)
    assert len({*images.values()}) == len(images) == len(classes) * images_per_class


ENCODINGS = ({"format": "jpeg", "quality": 90}, {"format": "webp", "quality": 80}, {"format": "webp"})


@pytest.mark.parametrize("stored", ENCODINGS, ids=lambda stored: "-".join(map(str, stored.values())))
def test_other_formats_are_read_by_tfds_and_hold_the_same_images(stored, finished, tmp_path, contents):
    large = {"image_size": [32, 48]}  # enlarged, so that there is no detail to lose
    (tmp_path / "png").mkdir()
    make(tmp_path / "png", **large)
    (tmp_path / "set").mkdir()
    make(tmp_path / "set", **large, encoding=stored)
    images, labels, _ = store.read(tmp_path / "set")
    exact = store.read(tmp_path / "png").images
    # A few steps of 256 on average are what these qualities may lose
    assert np.abs(images.astype(float) - exact).mean() <= (0 if "quality" not in stored else 8)
    rows = tfds.builder_from_directory(str(tmp_path / "set")).as_data_source(split="train")
    for row in rows:
        np.testing.assert_array_equal(row["image"], images[row["request"]])
        assert row["label"] == labels[row["request"]]
    assert verify(tmp_path / "set") == []
    again = contents(tmp_path / "set")
    store.shard_path(tmp_path / "set", 1).unlink()
    make(tmp_path / "set", **large, encoding=stored)
    assert contents(tmp_path / "set") == again


def test_an_image_does_not_depend_on_the_shards_and_batches_of_its_set(finished, tmp_path):
    make(tmp_path, shard_size=7)
    np.testing.assert_array_equal(store.read(tmp_path).images, store.read(finished).images)
    alone = tmp_path / "alone"
    alone.mkdir()
    make(alone, ("cat",), 5)
    np.testing.assert_array_equal(store.read(alone).images, store.read(finished).images[:5])


@pytest.mark.parametrize("batch", [1, 5, 64])
def test_noise_of_an_image_is_the_same_in_any_batch(batch, finished, tmp_path):
    # `draw` returns the noise itself, so equal images are equal noise, bit for bit.
    sizes = set()

    def watched(ids, keys, scales):
        sizes.add(len(keys))
        return draw(ids, keys, scales)

    make(tmp_path, draw=watched, batch=batch)
    assert sizes == {batch}
    np.testing.assert_array_equal(store.read(tmp_path).images, store.read(finished).images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 4}, "seed: there 3, now 4"),
        ({"guidance_scale": 3.0}, "guidance_scale: there 2.0, now 3.0"),
        (
            {"plan": {"keep": [0.5, 0.2], "noise": [0.1, 0.0]}},
            r"plan.keep: there \[0.5, 0.25\], now \[0.5, 0.2\]",
        ),
        ({"model": {"sha256": "1" * 64}}, "model.sha256: there 000"),
        ({"class_names": ("dog", "cat")}, "class_names .* there .'cat', 'dog'., now .'dog', 'cat'."),
        ({"class_names": ("cat",)}, "class_names"),
        ({"images_per_class": 5}, "images_per_class .* there 6, now 5"),
    ],
    ids=["seed", "guidance", "plan", "model", "order", "fewer-classes", "fewer-images"],
)
def test_another_config_is_refused_and_the_difference_named(changes, message, finished, contents):
    before = contents(finished)
    with pytest.raises(InputError, match=message):
        make(finished, **changes)
    assert contents(finished) == before


def test_last_digits_of_a_plan_are_no_other_config(finished):
    make(finished, plan={"keep": [0.5, 0.25 * (1 + 1e-7)], "noise": [0.1, 0.0]})


def test_a_directory_without_a_set_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no synthetic data set"):
        store.read(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="not the manifest"):
        store.read(tmp_path)


def test_no_file_is_private_to_its_writer(finished, contents):
    assert all(os.stat(finished / name).st_mode & 0o044 == 0o044 for name in contents(finished))
