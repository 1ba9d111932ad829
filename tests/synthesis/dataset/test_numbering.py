import numpy as np
import pytest

from jaxcil.synthesis.dataset.numbering import Block, Requests, extended, from_json, located, to_json


def listed(requests):
    labels, indices = located(requests, range(requests.total))
    return list(zip(labels.tolist(), indices.tolist()))


def test_requests_of_a_new_set_are_its_classes_one_after_the_other():
    requests = extended(Requests(), 2, 3, shard_size=4)
    assert listed(requests) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert requests.shards == ((0, 4), (4, 6))


@pytest.mark.parametrize(("num_classes", "images_per_class"), [(3, 3), (2, 5), (4, 6)])
def test_extending_only_adds_behind(num_classes, images_per_class):
    old = extended(Requests(), 2, 3, shard_size=4)
    new = extended(old, num_classes, images_per_class, shard_size=4)
    assert listed(new)[: old.total] == listed(old)
    assert new.shards[: len(old.shards)] == old.shards
    everything = {(c, j) for c in range(num_classes) for j in range(images_per_class)}
    assert len(listed(new)) == len(everything)
    assert set(listed(new)) == everything
    assert [start for start, _ in new.shards[1:]] == [stop for _, stop in new.shards[:-1]]


def test_asking_for_what_is_there_adds_nothing():
    requests = extended(Requests(), 2, 3, shard_size=4)
    assert extended(requests, 2, 3, shard_size=4) == requests
    assert extended(requests, 1, 2, shard_size=4) == requests


def test_any_numbers_are_located():
    requests = Requests((Block(0, 0, 2), Block(1, 0, 2), Block(0, 2, 3)), ((0, 7),))
    labels, indices = located(requests, [6, 0, 3, 4])
    np.testing.assert_array_equal(labels, [0, 0, 1, 0])
    np.testing.assert_array_equal(indices, [4, 0, 1, 2])


def test_json_and_back():
    requests = extended(extended(Requests(), 2, 3, shard_size=4), 3, 4, shard_size=2)
    assert from_json(to_json(requests)) == requests


def test_classes_may_have_different_numbers_of_images():
    requests = extended(Requests(), 3, [2, 0, 3], shard_size=4)
    assert listed(requests) == [(0, 0), (0, 1), (2, 0), (2, 1), (2, 2)]
