import numpy as np
import pytest
from PIL import Image

from jaxcil.synthesis.dataset import filter_report, filters, numbering, store
from jaxcil.synthesis.dataset.contact_sheet import GAP
from jaxcil.synthesis.dataset.filters import Rule
from jaxcil.synthesis.dataset.manifest import Asked, begin, read_manifest

LEVELS = {"cat": (200, 30, 90), "sea_lion": (210, 220, 230)}  # a classifier takes dark images for sea lions
CLASSIFIER = {"class_names": ["sea_lion", "cat"], "sha256": "0" * 64}


def scores(images):
    level = images.mean((1, 2, 3))
    return np.stack([100 - level, level - 100], axis=1)


@pytest.fixture
def directory(tmp_path):
    manifest = begin(tmp_path, Asked({"image_size": [64, 64], "shard_size": 6}, tuple(LEVELS), 3))
    labels, indices = numbering.located(manifest.requests, range(6))
    levels = [[*LEVELS.values()][label][index] for label, index in zip(labels, indices)]
    store.write_shard(
        tmp_path, manifest, 0, [np.full((64, 64, 3), level, np.uint8) for level in levels], "none"
    )
    store.finish(tmp_path, manifest)
    return tmp_path


def judged(directory, fraction):
    return filters.judge(directory, Rule("top", "margin", fraction), scores, CLASSIFIER)


def test_the_table_has_the_fractions_and_what_dropped_images_were_taken_for(directory):
    result = judged(directory, 0.3)  # one of three
    rows = [
        line.split() for line in filter_report.fraction_table(read_manifest(directory), result).splitlines()
    ]
    assert rows[2:] == [
        ["cat", "1", "3", "33.3%", "sea_lion", "(2)"],
        ["sea_lion", "1", "3", "33.3%", "cat", "(2)"],
        ["all", "2", "6", "33.3%"],
    ]


def test_the_list_names_every_dropped_image_from_the_lowest_score(directory):
    lines = filter_report.dropped_list(read_manifest(directory), judged(directory, 0.3)).splitlines()
    # margins: 2 (level - 100) of a cat, 2 (100 - level) of a sea lion
    assert lines == [
        "sea_lion/2  margin -260  taken for cat",
        "sea_lion/1  margin -240  taken for cat",
        "cat/1  margin -140  taken for sea_lion",
        "cat/2  margin -20  taken for sea_lion",
    ]


def test_nothing_dropped_is_said(directory):
    assert (
        filter_report.dropped_list(read_manifest(directory), judged(directory, 1.0)) == "no image is dropped"
    )


def test_the_sheet_shows_the_lowest_scores_of_each_class_first(directory):
    path = filter_report.write_dropped_sheet(directory, "best", judged(directory, 0.3))
    assert path == directory / "filters" / "best.png"
    with Image.open(path) as file:
        sheet = np.asarray(file)
    cell = 64 + GAP
    shown = sheet[32::cell, sheet.shape[1] - 10 * cell + 32 :: cell, 0]
    np.testing.assert_array_equal(shown[:, :3], [[30, 90, 255], [230, 220, 255]])
