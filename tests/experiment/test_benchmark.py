"""Real images of a run: resident and streamed ones are the same, in labels, order and pixels."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from jaxcil.errors import InputError
from jaxcil.experiment.benchmark import STREAMED_SAMPLE, Split, content, load_benchmark
from jaxcil.experiment.settings import defaults, resolve

NAMES = ("ant", "bee", "cat", "dog")


@pytest.fixture(scope="module")
def benchmark_of(tmp_path_factory):
    """Makes benchmarks of seven training and three test images per class: 10 times the class plus the number."""
    root = tmp_path_factory.mktemp("images")
    for split, count in (("train", 7), ("test", 3)):
        for label, name in enumerate(NAMES):
            (root / split / name).mkdir(parents=True)
            for n in range(count):
                Image.new("RGB", (8, 8), (10 * label + n,) * 3).save(root / split / name / f"{n}.png")

    def make(**changes):
        config = defaults()
        config.dataset, config.training.steps, config.variants = str(root), 1, ("plain",)
        config.scenario.class_order = "dog,cat,bee,ant"
        config.update(changes)
        return load_benchmark(resolve(config))

    return make


def test_streamed_images_have_the_labels_and_the_order_of_resident_ones(benchmark_of):
    resident, streamed = benchmark_of(), benchmark_of(stream="whole", image_size=8)
    assert streamed.train.images is None
    for one, other in ((resident.train, streamed.train), (resident.test, streamed.test)):
        np.testing.assert_array_equal(one.labels, other.labels)
        rows = np.arange(len(one.labels))
        blocks = [np.concatenate(list(split.blocks(rows, 8))) for split in (one, other)]
        np.testing.assert_array_equal(*blocks)
        np.testing.assert_array_equal(3 - blocks[0][:, 0, 0, 0] // 10, one.labels)  # the order is reversed


def test_blocks_are_of_one_size_whatever_the_rows_filled_up_to_a_multiple(benchmark_of):
    for benchmark in (benchmark_of(), benchmark_of(stream="whole", image_size=8)):
        (block,) = benchmark.train.blocks(np.array([9, 2, 20]), 8, multiple=5)
        assert block[:3, 0, 0, 0].tolist() == [12, 2, 26]
        assert len(block) == -(-len(benchmark.train.labels) // 5) * 5
        assert not block[3:].any()


def test_a_tenth_of_the_training_images_can_take_the_place_of_the_test_images(benchmark_of):
    held_out = benchmark_of(evaluate_on="held_out")
    assert np.bincount(held_out.train.labels).tolist() == [6] * 4
    assert np.bincount(held_out.test.labels).tolist() == [1] * 4


@pytest.fixture
def many(tmp_path):
    """Two hundred images of one size in pixels, more than are read to compare them."""
    for split, count in (("train", 200), ("test", 1)):
        for name in ("ant", "bee"):
            (tmp_path / split / name).mkdir(parents=True)
            for n in range(count // 2 or 1):
                Image.new("RGB", (8, 8), (n, 0, 0)).save(tmp_path / split / name / f"{n:03}.png")
    return tmp_path


def noise(path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize(
    "change",
    [
        noise,
        lambda path: path.rename(path.with_name("100.png")),
        lambda path: path.with_name("0000.png").write_bytes(path.read_bytes()),
    ],
    ids=["other pixels", "another name", "one more"],
)
def test_every_image_of_a_streamed_folder_counts_when_it_is_compared(change, many, benchmark_of):
    def seen():
        benchmark = benchmark_of(
            dataset=str(many), stream="whole", image_size=8, scenario={"class_order": "label-order"}
        )
        sample = np.linspace(0, 199, STREAMED_SAMPLE, dtype=np.int64)
        assert 1 not in sample
        return [part.tobytes() for part in content(benchmark.train)]

    before = seen()
    assert seen() == before
    change(many / "train/ant/001.png")
    assert seen() != before


def test_where_only_a_sample_of_a_stream_is_compared_it_is_said(benchmark_of, capsys):
    split = benchmark_of(stream="whole", image_size=8).train
    whole = content(split)
    assert "compared" not in capsys.readouterr().err
    records = dataclasses.replace(split.records, files=None)
    assert len(content(Split(split.labels, records=records))) == len(whole) - 1
    assert f"only {STREAMED_SAMPLE} are compared with those of earlier calls" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": "ant,eel"}, "has no class 'eel'"),
        ({"classes": "ant,ant"}, "named once each"),
    ],
)
def test_images_that_cannot_be_had_are_refused(benchmark_of, change, message):
    with pytest.raises(InputError, match=message):
        benchmark_of(**change)
