import json

import numpy as np
import pytest

from jaxcil.errors import InputError
from jaxcil.evaluation.finished_runs import compare, read_run

PLAIN = {("ncm", "plain"): 0.5}
OURS = {("ncm", "future_proof"): 0.6}


def compared(*folders):
    return compare([read_run(folder) for folder in folders])


def change(folder, **fields):
    path = folder / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return folder


def test_orders_and_seeds_are_one_setting_whose_runs_are_told_apart(finished):
    (comparison,) = compared(
        finished("a", PLAIN, order=1, seeds=(0, 1)),
        finished("b", PLAIN, order=2, seeds=(0, 1)),
        finished("c", PLAIN, order=2, seeds=(2,)),
    )
    (setting,) = comparison.settings
    assert setting.name == ""
    orders = [f"{order:016x}" for order in (1, 1, 2, 2, 2)]
    assert [entry.pair for entry in setting.entries] == list(zip(orders, (0, 1, 0, 1, 2)))


def test_other_heads_and_extractors_are_the_same_setting(finished):
    comparison, *others = compared(
        finished("a", PLAIN, heads=["ncm"], extractors=["plain"]),
        finished("b", OURS, heads=["fecam"], extractors=["future_proof"], extractor__chunk=7),
    )
    assert not others
    assert len(comparison.settings) == 1


@pytest.mark.parametrize(
    "changes",
    [{"dataset": "birds"}, {"sizes": (3, 1)}, {"classes": "abcx"}],
    ids=["data set", "task sizes", "classes"],
)
def test_what_changes_the_problem_is_another_scenario(finished, changes):
    assert len(compared(finished("a", PLAIN), finished("b", PLAIN, **changes))) == 2


def test_the_same_classes_in_another_order_are_the_same_scenario(finished):
    runs = [finished("a", PLAIN), finished("b", PLAIN, classes="dcba", order=2)]
    assert len(compared(*runs)) == 1


def test_settings_are_named_by_the_fields_that_differ(finished):
    (comparison,) = compared(
        finished("a", OURS),
        finished("b", OURS, synthetic__images_a_class=50),
        finished("c", OURS, synthetic__path="/data/images/good", extractor__learning_rate=0.05),
    )
    assert [setting.name for setting in comparison.settings] == [
        "images_a_class = 200, learning_rate = none, path = none",
        "images_a_class = 50, learning_rate = none, path = none",
        "images_a_class = 200, learning_rate = 0.05, path = /data/images/good",
    ]


def test_fields_of_two_groups_with_one_name_keep_their_groups(finished):
    (comparison,) = compared(
        finished("a", OURS), finished("b", OURS, extractor__steps=9), finished("c", OURS, synthetic__steps=4)
    )
    assert comparison.settings[1].name == "extractor.steps = 9, synthetic.steps = none"


def test_options_of_heads_that_did_not_run_are_no_settings(finished):
    options = {"fecam": {"gamma1": 1.0}, "acil": {"ridge": 0.1}}
    one = finished("one", {("fecam", "plain"): 0.5}, heads=["fecam"], head_options=options, order=1)
    other = {**options, "acil": {"ridge": 5.0}}
    same = finished("same", {("fecam", "plain"): 0.5}, heads=["fecam"], head_options=other, order=2)
    assert len(compared(one, same)[0].settings) == 1
    changed = {**options, "fecam": {"gamma1": 2.0}}
    another = finished("another", {("fecam", "plain"): 0.5}, heads=["fecam"], head_options=changed, order=3)
    assert [setting.name for setting in compared(one, another)[0].settings] == ["gamma1 = 1", "gamma1 = 2"]


def test_a_field_that_is_none_is_the_same_as_one_that_is_absent(finished):
    (comparison,) = compared(finished("a", OURS), finished("b", OURS, synthetic__filter=None, seeds=(5,)))
    assert [setting.name for setting in comparison.settings] == [""]


def test_long_values_that_end_alike_still_have_names_of_their_own(finished):
    runs = [
        finished(name, OURS, synthetic__templates=[f"{name} photo of a {{}}", *["the {}"] * 9])
        for name in "ab"
    ]
    one, other = compared(*runs)[0].settings
    assert one.name != other.name
    assert len(one.name) < 70


def test_curves_weigh_tasks_by_the_convention_of_the_run_and_by_their_test_images_where_these_are_told(
    finished,
):
    run = finished("a", PLAIN, seeds=(0,))
    (comparison,) = compared(run)
    np.testing.assert_allclose(comparison.settings[0].entries[0].curve, [0.5, 0.3])
    change(run, test_images=[10, 30])
    results = json.loads((run / "results.json").read_text())
    results["runs"][0]["accuracy_matrix"] = [[0.5, None], [0.4, 0.8]]
    (comparison,) = compared(change(run, **results))
    np.testing.assert_allclose(comparison.settings[0].entries[0].curve, [0.5, 0.7])
    tasks = {"average": "tasks", "forgetting": "up_to_last"}
    (comparison,) = compared(change(run, conventions=tasks))
    np.testing.assert_allclose(comparison.settings[0].entries[0].curve, [0.5, 0.6])


def test_two_runs_with_the_same_seed_and_order_are_refused(finished):
    with pytest.raises(InputError, match=r"a and .*b both have ncm on plain .*seed 1.*leave one out"):
        compared(finished("a", PLAIN, seeds=(0, 1)), finished("b", PLAIN, seeds=(1, 2)))


def test_runs_evaluated_on_other_images_are_refused(finished):
    with pytest.raises(InputError, match=r"same images, but .*a has test, .*b held_out; report them apart"):
        compared(finished("a", PLAIN), finished("b", PLAIN, seeds=(5,), evaluate_on="held_out"))


def test_runs_of_other_conventions_are_refused(finished):
    other = finished("b", PLAIN, seeds=(5,))
    change(other, conventions={"average": "tasks", "forgetting": "up_to_last"})
    with pytest.raises(InputError, match="same conventions"):
        compared(finished("a", PLAIN), other)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"schema": 2}, r"of schema 2, and this version reads 1"),
        ({"runs": []}, r"has no runs; run it again"),
        ({"config": None, "task_sizes": None}, r"has no config, task_sizes"),
        ({"task_sizes": [2, 2, 2]}, r"without an accuracy_matrix of every task: ncm on plain, seed 0"),
        (
            {"runs": [{"method": "ncm", "extractor": "plain", "seed": 3, "last_accuracy": None}]},
            r"without average_incremental_accuracy, last_accuracy, forgetting: ncm on plain, seed 3",
        ),
    ],
)
def test_results_that_cannot_be_read_are_refused(finished, fields, says):
    with pytest.raises(InputError, match=says):
        read_run(change(finished("a", PLAIN), **fields))


def test_a_folder_without_results_is_told_from_a_run_that_goes_on(tmp_path):
    with pytest.raises(InputError, match=r"has no results.json; give workdirs"):
        read_run(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"is not finished.*Give its `jaxcil run` again"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("matrix", "says"),
    [
        ([[0.5, None], [0.3]], "without an accuracy_matrix of every task"),
        ([[0.5, None], [0.3, None]], r"results\.json cannot be used: an accuracy matrix is NaN above"),
    ],
    ids=["ragged", "a task left out"],
)
def test_an_accuracy_matrix_with_holes_is_refused(finished, matrix, says):
    run = finished("a", PLAIN)
    results = json.loads((run / "results.json").read_text())
    results["runs"][1]["accuracy_matrix"] = matrix
    with pytest.raises(InputError, match=says):
        read_run(change(run, **results))


def test_no_run_is_no_report():
    with pytest.raises(InputError, match="no run to report"):
        compare([])


@pytest.mark.parametrize("text", ["[]", "{", "null"])
def test_a_results_file_of_something_else_is_refused(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(InputError, match=r"results\.json"):
        read_run(tmp_path)
