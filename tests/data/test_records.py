"""Labels and classes of a split, before any of its images is read."""

import dataclasses

import numpy as np
import pytest

from jaxcil.data import records
from jaxcil.errors import InputError


def split(labels):
    """A split of three classes whose images are their row numbers."""
    return records.Records(
        title="things (train)",
        labels=np.array(labels, np.int32),
        class_names=("ant", "bee", "cat"),
        read=lambda row: bytes([row]),
        where=str,
    )


def test_chosen_classes_keep_their_images():
    chosen = records.of_classes(split([2, 0, 1, 2, 0]), "cat, ant")
    assert chosen.class_names == ("cat", "ant")
    assert [(int(label), chosen.read(row)) for row, label in enumerate(chosen.labels)] == [
        (0, b"\x00"),
        (1, b"\x01"),
        (0, b"\x03"),
        (1, b"\x04"),
    ]
    assert [chosen.where(row) for row in range(4)] == ["0", "1", "3", "4"]


def test_rows_and_counts_are_those_of_the_classes():
    there = split([2, 0, 1, 2, 0])
    assert there.rows_of([0, 2]).tolist() == [0, 1, 3, 4]
    assert there.class_counts().tolist() == [2, 1, 2]


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([0, 3], r"labels of things \(train\) must lie in \[0, 3\), got 3"),
        ([0, -1], "got -1"),
        ([-1, -1], "got -1; the split has no labels"),
    ],
)
def test_labels_out_of_range_are_refused(labels, says):
    with pytest.raises(InputError, match=says):
        records.check_labels(split(labels))


def test_classes_without_images_are_refused():
    with pytest.raises(
        InputError, match=r"class 'bee' has no images in things \(train\) \(nor have 1 others\)"
    ):
        records.check_classes(split([0, 0]))


@pytest.mark.parametrize("size", [0, -3])
def test_a_side_below_one_pixel_is_refused(size):
    with pytest.raises(InputError, match=f"at least 1 pixel, got {size}"):
        records.check_size(split([0]), size)


def test_chosen_rows_keep_the_names_and_sizes_of_their_files():
    there = dataclasses.replace(
        split([2, 0, 1, 2, 0]), files=lambda rows: [(f"{row}.png", 10 * row) for row in rows]
    )
    chosen = records.of_classes(there, "cat, ant")
    assert chosen.files(np.array([0, 3])) == [("0.png", 0), ("4.png", 40)]
    assert split([0]).subset(np.array([0])).files is None
