import hashlib
import json
import pathlib

import numpy as np
import pytest

from jaxcil.data.scenario import check_images, make_scenario, resolve_class_order
from jaxcil.errors import InputError


def names(n):
    return [f"class {i}" for i in range(n)]


@pytest.mark.parametrize("seed", [1993, 0, 1, 42])
@pytest.mark.parametrize("n", [10, 100, 200, 1000])
def test_seeded_orders_and_label_maps_are_those_of_pycil(golden, n, seed):
    arrays = golden("incremental/class_splits.npz")
    scenario = make_scenario(names(n), n, 1, class_order=f"seed-{seed}")
    assert scenario.class_order == tuple(arrays[f"order_n{n}_seed{seed}"].tolist())
    np.testing.assert_array_equal(
        scenario.to_contiguous(np.arange(n)), arrays[f"train_target_map_n{n}_seed{seed}"]
    )


@pytest.fixture(scope="module")
def published():
    """Lists as they stand in the code of LUCIR, iCaRL and PODNet."""
    return json.loads(
        (pathlib.Path(__file__).parents[1] / "golden/incremental/class_orders.json").read_text()
    )


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("seed-1993", "seed-1993"),
        ("lucir", "seed-1993"),
        ("pycil", "seed-1993"),
        ("fecam", "seed-1993"),
        ("icarl", "icarl"),
        ("podnet-1", "podnet-1"),
        ("podnet-2", "podnet-2"),
        ("podnet-3", "podnet-3"),
    ],
)
def test_named_orders_are_the_published_lists(name, listed, published):
    assert list(resolve_class_order(name, 100)) == published["cifar100"][listed]


def test_two_orders_that_both_say_seed_1993_differ():
    assert resolve_class_order("lucir", 100)[:3] == (68, 56, 78)
    assert resolve_class_order("icarl", 100)[:3] == (87, 0, 52)


def test_uneven_tasks_have_the_sizes_asked_for():
    scenario = make_scenario(names(10), class_order="label-order", task_sizes=(4, 1, 3, 2))
    assert scenario.task_sizes == (4, 1, 3, 2)
    assert [list(scenario.classes(task)) for task in (1, 2)] == [[4], [5, 6, 7]]
    # what a config says of equal tasks stands back
    assert make_scenario(names(10), 5, 1, class_order="label-order", task_sizes=(4, 1, 3, 2)) == scenario


def test_task_sizes_are_those_of_pycil(golden):
    arrays = golden("incremental/class_splits.npz")
    for (n, first, increment, tasks), sizes in zip(
        arrays["settings_n_init_increment_ntasks"].tolist(), arrays["task_sizes"]
    ):
        scenario = make_scenario(names(n), first, increment)
        assert scenario.num_tasks == tasks
        assert scenario.task_sizes == tuple(sizes[sizes >= 0].tolist())


def test_tasks_split_the_classes_and_seen_grows_by_new():
    scenario = make_scenario(names(10), 3, 4, class_order="seed-7")
    assert scenario.task_sizes == (3, 4, 3)
    before = np.zeros(10, bool)
    for task in range(3):
        new, seen = scenario.new(task), scenario.seen(task)
        np.testing.assert_array_equal(np.flatnonzero(new), scenario.classes(task))
        assert not (new & before).any()
        np.testing.assert_array_equal(seen, before | new)
        np.testing.assert_array_equal(scenario.task_of_class[new], task)
        before = seen
    assert before.all()


def test_names_stand_in_class_order_and_labels_map_to_their_places():
    scenario = make_scenario(["ant", "bee", "cat"], 1, 1, class_order=(2, 0, 1))
    assert scenario.class_names == ("cat", "ant", "bee")
    np.testing.assert_array_equal(scenario.to_contiguous([[0, 1], [2, 2]]), [[1, 2], [0, 0]])


@pytest.mark.parametrize("name", ["label-order", "fetril"])
def test_label_order_is_the_order_of_the_data_set(name):
    assert resolve_class_order(name, 4) == (0, 1, 2, 3)


def test_the_hash_is_of_the_names_in_order_and_of_nothing_else():
    forwards = make_scenario(["ant", "bee", "cat"], 1, 1, class_order="label-order")
    # Other ids for the same names, another split: the same classes in the same order
    renumbered = make_scenario(["cat", "bee", "ant"], 2, 1, class_order=(2, 1, 0))
    backwards = make_scenario(["ant", "bee", "cat"], 1, 1, class_order=(2, 1, 0))
    assert forwards.class_order_hash == renumbered.class_order_hash != backwards.class_order_hash
    assert forwards.class_order_hash == hashlib.sha256(b"ant\nbee\ncat").hexdigest()[:16]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (([], 1, 1), "empty"),
        ((names(5), 6, 1), r"first_classes must lie in \[1, 5\].*got 6"),
        ((names(5), 0, 1), "got 0"),
        ((names(5), 2, 0), "classes_per_task must be at least 1, got 0"),
        ((["ant", "bee", "ant"], 1, 1), "given twice: .'ant'"),
    ],
)
def test_equal_tasks_that_cannot_be_are_refused(arguments, says):
    with pytest.raises(InputError, match=says):
        make_scenario(*arguments)


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ((2, 2), r"add up to the 5 classes of the data set; 2 \+ 2 is 4"),
        ((3, 3), r"3 \+ 3 is 6"),
        ((), "none is 0"),
        ((5, 0), r"whole numbers of at least 1, got \(5, 0\)"),
        ((2.5, 2.5), "whole numbers"),
        ((6, -1), "at least 1"),
        (None, "give first_classes and classes_per_task, or task_sizes"),
    ],
)
def test_uneven_tasks_that_cannot_be_are_refused(sizes, says):
    with pytest.raises(InputError, match=says):
        make_scenario(names(5), task_sizes=sizes)


@pytest.mark.parametrize("order", ["icarl", "podnet-1", "podnet-2", "podnet-3"])
def test_an_order_of_cifar100_is_refused_for_other_classes(order):
    with pytest.raises(
        InputError, match=f"'{order}' is one of the 100 classes of CIFAR-100, but there are 10"
    ):
        make_scenario(names(10), 5, 5, class_order=order)
    with pytest.raises(
        InputError, match=f"'{order}' is one of CIFAR-100.*PODNet's own order on ImageNet-Subset"
    ):
        make_scenario([f"n{n:08}" for n in range(100)], 50, 5, class_order=order)


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ("seed-", "seed-N"),
        ("icarI", "no class order 'icarI'; there are: seed-N, label-order, .*Did you mean 'icarl'"),
        ("podnet-4", "Did you mean 'podnet-"),
        ("seed-4294967296", "N is a number below 2.32"),
        ("seed--1", "seed-N"),
        ("alphabetical", "label-order"),
        (1993, "'seed-1993'"),
        ((0, 1, 1), r"missing \[2\]"),
        ((0, 1), r"got 2 ids, missing \[2\]"),
        ((0, 1, 3), r"missing \[2\]"),
    ],
)
def test_an_order_that_is_none_is_refused(order, says):
    with pytest.raises(InputError, match=says):
        resolve_class_order(order, 3)


@pytest.mark.parametrize(("labels", "says"), [([3], "got 3"), ([-1], "got -1"), ([0.5], "integers")])
def test_labels_that_are_no_class_ids_are_refused(labels, says):
    with pytest.raises(InputError, match=says):
        make_scenario(names(3), 1, 1).to_contiguous(labels)


@pytest.mark.parametrize("task", [-1, 3])
def test_a_task_that_does_not_exist_is_refused(task):
    with pytest.raises(InputError, match="3 tasks"):
        make_scenario(names(3), 1, 1).seen(task)


def test_classes_without_images_are_named():
    check_images(np.array([0, 1, 2, 0]), ["ant", "bee", "cat"])
    with pytest.raises(InputError, match=r"1 of 3 have no test images: 'bee' \(id 1\)"):
        check_images(np.array([0, 2, 0]), ["ant", "bee", "cat"], split="test")
