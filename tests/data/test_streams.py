"""Batches that are read from the disk while others are computed with."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxcil import keys
from jaxcil.data import batches, datasets, streams
from jaxcil.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
KEY = keys.root_key(3)
SIDE = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """23 images of three classes, all different, of a size of their own each."""
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for name, count in (("ant", 9), ("bee", 6), ("cat", 8)):
        (root / "train" / name).mkdir(parents=True)
        for n in range(count):
            pixels = generator.integers(0, 256, (9 + n, 12, 3), np.uint8)
            Image.fromarray(pixels).save(root / "train" / name / f"{n}.png")
    return str(root)


@pytest.fixture(scope="module")
def records(folder):
    return datasets.open_records(folder, "train")


def chunk(stream, first, count, batch_size):
    """Some steps, one after the other."""
    return streams.Block(*map(np.concatenate, zip(*stream.steps(first, count, batch_size))))


def same(one, other):
    np.testing.assert_array_equal(one.images, other.images)
    np.testing.assert_array_equal(one.labels, other.labels)


def test_a_set_gives_the_same_batches_streamed_as_in_memory(records, folder):
    resident = datasets.load(folder, "train", SIDE)
    block = chunk(
        streams.Stream(records, SIDE, KEY, crop="whole"), 3, 7, 4
    )  # over the end of the first epoch
    rows = batches.schedule(KEY, np.arange(23), 4, 3, 7).ravel()
    np.testing.assert_array_equal(block.images, resident.images[rows])
    np.testing.assert_array_equal(block.labels, resident.labels[rows])


def test_an_epoch_has_every_image_once_but_for_what_fills_no_batch(records):
    block = chunk(streams.Stream(records, SIDE, KEY, crop="whole"), 0, 5, 4)
    assert len({image.tobytes() for image in block.images}) == 20


def test_chunks_of_any_length_begun_anywhere_give_the_same_steps(records):
    whole = chunk(streams.Stream(records, SIDE, KEY), 0, 9, 4)
    stream = streams.Stream(records, SIDE, KEY)
    for first, count in ((0, 2), (2, 3), (7, 2), (1, 1), (5, 4)):
        part = streams.Block(*(leaf[4 * first : 4 * (first + count)] for leaf in whole))
        same(chunk(stream, first, count, 4), part)
        same(chunk(streams.Stream(records, SIDE, KEY), first, count, 4), part)  # as after a kill


def test_another_key_gives_other_batches_and_other_crops(records):
    block, other = (chunk(streams.Stream(records, SIDE, keys.root_key(n)), 0, 5, 4) for n in (0, 1))
    assert (block.labels != other.labels).any()
    only = np.array([2], np.int32)
    crops = [
        chunk(streams.Stream(records, SIDE, keys.root_key(n), rows=only), 0, 3, 2).images for n in (0, 1)
    ]
    # one image: whatever differs, within a stream and between two, is the crop
    assert len({image.tobytes() for image in np.concatenate(crops)}) == 12


@pytest.mark.parametrize("crop", ["whole", "random"])
def test_the_shares_of_the_processes_are_the_batch_of_one(records, crop):
    alone = chunk(streams.Stream(records, SIDE, KEY, crop=crop), 2, 5, 6)
    shares = [
        chunk(streams.Stream(records, SIDE, KEY, crop=crop, places=places), 2, 5, 6)
        for places in (range(0, 1), range(1, 1), range(1, 4), range(4, 6))
    ]
    images = np.concatenate([share.images.reshape(5, -1, SIDE, SIDE, 3) for share in shares], axis=1)
    labels = np.concatenate([share.labels.reshape(5, -1) for share in shares], axis=1)
    same(streams.Block(images.reshape(30, SIDE, SIDE, 3), labels.ravel()), alone)


def test_a_process_reads_its_share_alone(records):
    read = []
    counted = dataclasses.replace(records, read=lambda row: read.append(row) or records.read(row))
    chunk(streams.Stream(counted, SIDE, KEY, places=range(2, 4)), 0, 1, 4)
    mine = batches.schedule(KEY, np.arange(23), 4, 0, 20)[:, 2:]
    # in their order, and not far beyond what was asked for
    assert len(read) <= 2 + streams.THREADS + 2
    assert set(read) <= set(mine.ravel().tolist())


def test_grains_iterator_goes_on_where_its_state_was_taken(records):
    iterator = streams.Stream(records, SIDE, KEY).iterator(4)
    for _ in range(3):
        next(iterator)
    state = json.loads(json.dumps(iterator.get_state()))  # what a checkpoint holds
    expected = [next(iterator) for _ in range(4)]
    restored = streams.Stream(records, SIDE, KEY).iterator(4)
    restored.set_state(state)
    for block in expected:
        same(next(restored), block)
    same(chunk(streams.Stream(records, SIDE, KEY), 3, 1, 4), expected[0])


def test_orbax_keeps_grains_iterator(records, tmp_path):
    import grain
    import orbax.checkpoint as ocp

    iterator = streams.Stream(records, SIDE, KEY).iterator(4)
    next(iterator)
    with ocp.CheckpointManager(tmp_path / "checkpoints") as manager:
        manager.save(1, args=ocp.args.Composite(data=grain.checkpoint.CheckpointSave(iterator)))
        manager.wait_until_finished()
        expected = next(iterator)
        fresh = streams.Stream(records, SIDE, KEY).iterator(4)
        manager.restore(1, args=ocp.args.Composite(data=grain.checkpoint.CheckpointRestore(fresh)))
    same(next(fresh), expected)


def test_rows_of_the_first_classes_are_all_that_is_read(records):
    assert records.class_counts().tolist() == [9, 6, 8]
    rows = records.rows_of([0, 2])
    assert len(rows) == 17
    padded = np.append(rows, [-1, -1]).astype(np.int32)
    block = chunk(streams.Stream(records, SIDE, KEY, rows=padded, crop="whole"), 0, 17, 1)
    assert np.bincount(block.labels).tolist() == [9, 0, 8]


def test_images_in_their_order_come_in_equal_blocks_with_padding(records, folder):
    blocks = list(streams.in_order(records, SIDE, 10, crop="whole"))
    assert [block.images.shape for block in blocks] == [(10, SIDE, SIDE, 3)] * 3
    resident = datasets.load(folder, "train", SIDE)
    labels = np.concatenate([block.labels for block in blocks])
    np.testing.assert_array_equal(labels, [*resident.labels, *[-1] * 7])
    np.testing.assert_array_equal(np.concatenate([b.images for b in blocks])[:23], resident.images)


def test_crops_are_cut_where_and_as_large_as_they_should_be(tmp_path):
    # grey by column, so that a crop shows where it was cut and how far it was stretched
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 128, 0).repeat(3, 2)
    (tmp_path / "train" / "ramp").mkdir(parents=True)
    Image.fromarray(ramp).save(tmp_path / "train" / "ramp" / "0.png")
    records = datasets.open_records(str(tmp_path), "train")
    middle = next(streams.in_order(records, 56, 1)).images[0].astype(int)
    # 7/8 of the short side of 128 is 112 columns round 127.5, two to a pixel
    np.testing.assert_allclose(middle[0, :, 0], 72.5 + 2 * np.arange(56), atol=1)
    widths = []
    for image in chunk(streams.Stream(records, 56, KEY), 0, 40, 1).images.astype(int):
        assert (image == image[:1]).all()  # rows are alike, as in the picture
        widths.append((image[0, -2, 0] - image[0, 1, 0]) / 53 * 56)
    # the narrowest has 8 percent of the area at 3:4, the widest is limited by the height of 128 at 4:3
    assert min(widths) >= np.sqrt(0.08 * 128 * 256 * 3 / 4) - 3
    assert max(widths) <= 128 * 4 / 3 + 3
    assert max(widths) > 1.5 * min(widths)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"crop": "center"}, "no crop 'center'.*Did you mean 'centre'"),
        ({"size": 0}, "at least 1 pixel, got 0"),
        ({"rows": np.array([-1])}, r"rows in \[0, 23\)"),
        ({"rows": np.array([23])}, r"rows in \[0, 23\)"),
    ],
    ids=["crop", "size", "no rows", "rows too far"],
)
def test_a_stream_that_cannot_be_is_refused(settings, says, records):
    with pytest.raises(InputError, match=says):
        streams.Stream(records, key=KEY, **{"size": SIDE, **settings})


def test_a_batch_without_the_places_is_refused(records):
    stream = streams.Stream(records, SIDE, KEY, places=range(4, 6))
    with pytest.raises(InputError, match="a batch of 5 images has no places 4 to 5"):
        chunk(stream, 0, 1, 5)


def test_random_crops_in_order_are_refused(records):
    with pytest.raises(InputError, match="crop must be 'centre' or 'whole'"):
        next(streams.in_order(records, SIDE, 4, crop="random"))


def test_an_image_that_cannot_be_read_is_named_by_the_stream_too(tmp_path):
    (tmp_path / "train" / "ant").mkdir(parents=True)
    (tmp_path / "train" / "ant" / "broken.png").write_bytes(b"no picture")
    stream = streams.Stream(datasets.open_records(str(tmp_path), "train"), SIDE, KEY)
    with pytest.raises(InputError, match=r"broken\.png cannot be read as an image"):
        chunk(stream, 0, 1, 1)


def test_grain_is_not_imported_before_a_stream_is_read():
    program = "import jaxcil.data.streams, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"grain", "tensorflow_datasets"} & set(done.stdout.split())
