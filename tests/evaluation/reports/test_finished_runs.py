import json

import numpy as np
import pytest

from jaxcil.errors import InputError
from jaxcil.evaluation.reports.finished_runs import compare, read_run
from jaxcil.workdir.record import write_checked_json

PLAIN = {("ncm", "plain"): 0.5}
OURS = {("ncm", "future_proof"): 0.6}


def compared(*folders):
    return compare([read_run(folder) for folder in folders])


def change(folder, **fields):
    path = folder / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return folder


def test_orders_and_seeds_are_one_setting_and_name_its_entries(finished):
    (comparison,) = compared(
        finished("a", PLAIN, order=1, seeds=(0, 1)),
        finished("b", PLAIN, order=2, seeds=(0, 1)),
        finished("c", PLAIN, order=2, seeds=(2,)),
    )
    (setting,) = comparison.settings
    assert setting.name == ""
    orders = [f"{order:016x}" for order in (1, 1, 2, 2, 2)]
    assert [entry.pair for entry in setting.entries] == list(zip(orders, (0, 1, 0, 1, 2)))


def test_other_heads_learners_and_variants_are_the_same_setting(finished):
    comparison, *others = compared(
        finished("a", PLAIN, heads=["ncm"], variants=["plain"]),
        finished("b", OURS, heads=["fecam"], variants=["future_proof"], training__checkpoint_every=7),
        finished("c", {("lucir", "cnn", "sddr"): 0.6}, learners=["lucir"], lanes=[["sddr", "lucir"]]),
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
        finished("b", OURS, synthetic__images_per_class=50),
        finished("c", OURS, synthetic__path="/data/good", training__learning_rate=0.05),
    )
    assert [setting.name for setting in comparison.settings] == [
        "images_per_class = 200, learning_rate = none, path = none",
        "images_per_class = 50, learning_rate = none, path = none",
        "images_per_class = 200, learning_rate = 0.05, path = /data/good",
    ]


def test_fields_of_two_groups_with_one_name_keep_their_groups(finished):
    (comparison,) = compared(
        finished("a", OURS), finished("b", OURS, training__steps=9), finished("c", OURS, synthetic__steps=4)
    )
    assert comparison.settings[1].name == "training.steps = 9, synthetic.steps = none"


OPTIONS = {"fecam": {"gamma1": 1.0}, "acil": {"ridge": 0.1, "buffer_size": 512}}


def of_heads(*heads):
    return {(head, "plain"): 0.5 for head in heads}


def seeds_of(setting):
    seeds = {}
    for entry in setting.entries:
        seeds.setdefault(entry.method[1], []).append(entry.pair[1])
    return seeds


def test_seeds_of_a_head_are_pooled_whatever_other_heads_its_runs_have(finished):
    both = finished(
        "both", of_heads("acil", "fecam"), heads=["acil", "fecam"], head_options=OPTIONS, seeds=(0,)
    )
    one = finished("one", of_heads("acil"), heads=["acil"], head_options=OPTIONS, seeds=(7,))
    older = finished("older", of_heads("acil"), heads=["acil"], seeds=(8,))  # a config without options
    (setting,) = compared(both, one, older)[0].settings
    assert seeds_of(setting) == {"acil": [0, 7, 8], "fecam": [0]}


def test_a_list_without_items_has_a_word(finished):
    runs = [
        finished("a", PLAIN, training__milestones=[]),
        finished("b", PLAIN, training__milestones=[80, 120]),
    ]
    [comparison] = compare([read_run(run) for run in runs])
    assert [setting.name for setting in comparison.settings] == ["milestones = none", "milestones = 80, 120"]


def test_runs_of_other_variants_share_the_plain_one_that_both_have(finished):
    runs = [
        finished("a", {("ncm", "plain"): 0.5, ("ncm", "real_future"): 0.8}),
        finished("b", {("ncm", "plain"): 0.5, ("ncm", "future_proof"): 0.7}),
    ]
    [comparison] = compare([read_run(run) for run in runs])
    [setting] = comparison.settings
    variants = [entry.variant for entry in setting.entries if entry.pair[1] == 0]
    assert variants == ["plain", "real_future", "future_proof"]


def test_subsets_of_one_data_set_are_named_by_the_classes_that_not_all_have(finished):
    runs = [
        finished("a", PLAIN, classes="abcd"),
        finished("b", PLAIN, classes="cdef"),
        finished("c", PLAIN, sizes=(3, 1)),
    ]
    assert [comparison.classes for comparison in compare([read_run(run) for run in runs])] == [
        "a, b",
        "e, f",
        "",
    ]


def test_options_of_heads_that_did_not_run_separate_nothing(finished):
    one = finished("one", of_heads("fecam"), heads=["fecam"], head_options=OPTIONS)
    other = OPTIONS | {"acil": {"ridge": 5.0}}
    same = finished("same", of_heads("fecam"), heads=["fecam"], head_options=other, seeds=(7,))
    (setting,) = compared(one, same)[0].settings
    assert (setting.name, seeds_of(setting)) == ("", {"fecam": [0, 1, 7]})


def test_a_head_with_other_options_is_another_method_and_the_others_stay_one(finished):
    other = OPTIONS | {"acil": {"ridge": 5.0, "buffer_size": 512}}
    (setting,) = compared(
        finished("a", of_heads("acil", "fecam"), head_options=OPTIONS),
        finished("b", of_heads("acil", "fecam"), head_options=other, seeds=(0, 7)),
    )[0].settings
    # Seed 0 of FeCAM is the same result in both, and counts once
    assert seeds_of(setting) == {"acil, ridge = 0.1": [0, 1], "acil, ridge = 5": [0, 7], "fecam": [0, 1, 7]}
    assert [len(run.results["runs"]) for run in setting.runs] == [4, 3]


def test_a_learner_with_other_options_is_another_method(finished):
    lucir = {("lucir", "cnn", "plain"): 0.5, ("ncm", "plain"): 0.4}
    (setting,) = compared(
        *(
            finished(
                f"run{margin}", lucir, learner_options={"lucir": {"margin": margin}}, seeds=(int(margin),)
            )
            for margin in (0.5, 1.0)
        )
    )[0].settings
    assert seeds_of(setting) == {"cnn, margin = 0.5": [0], "ncm": [0, 1], "cnn, margin = 1": [1]}


def test_one_reading_of_two_learners_is_two_methods(finished):
    (comparison,) = compared(finished("a", {("lucir", "cnn", "plain"): 0.5, ("der", "cnn", "plain"): 0.6}))
    assert comparison.methods == {("lucir", "cnn"): "LUCIR, CNN", ("der", "cnn"): "DER, CNN"}
    assert [entry.curve[0] for entry in comparison.settings[0].entries if entry.pair[1] == 0] == [0.5, 0.6]


def test_options_that_differ_in_the_last_digit_are_two_methods_and_1_is_1_0(finished):
    levels = {("acil", "plain"): 0.5}
    (setting,) = compared(
        *(
            finished(f"run{n}", levels, seeds=(n,), head_options={"acil": {"ridge": ridge}})
            for n, ridge in enumerate((0.1, 0.1 + 1e-12, 1, 1.0))
        )
    )[0].settings
    assert list(seeds_of(setting).values()) == [[0], [1], [2, 3]]


def test_one_seed_with_two_results_is_refused_also_where_options_of_another_head_differ(finished):
    other = OPTIONS | {"acil": {"ridge": 5.0}}
    one = finished("a", of_heads("acil", "fecam"), head_options=OPTIONS)
    another = {("acil", "plain"): 0.5, ("fecam", "plain"): 0.6}
    with pytest.raises(
        InputError, match=r"both have learner frozen, reading fecam, variant plain, .*leave one out"
    ):
        compared(one, finished("b", another, head_options=other))


def test_settings_of_many_fields_are_named_by_their_folders(finished):
    changes = {f"training__{name}": 1 for name in ("epochs", "warmup", "cutout", "batch_size", "momentum")}
    (comparison,) = compared(
        finished("recipe-a", OURS),
        finished("recipe-b", OURS, **changes),
        finished("recipe-b-again", OURS, seeds=(5,), **changes),
    )
    assert [setting.name for setting in comparison.settings] == ["recipe-a", "recipe-b and 1 more"]
    assert comparison.settings[1].fields["training.warmup"] == 1


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


def test_curves_weigh_tasks_by_the_convention_of_the_run_and_by_their_test_images(finished):
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
    with pytest.raises(
        InputError, match=r"a and .*b both have .* reading ncm, variant plain, .*seed 1,.*leave one out"
    ):
        compared(finished("a", PLAIN, seeds=(0, 1)), finished("b", PLAIN, seeds=(1, 2)))


def test_runs_evaluated_on_other_images_are_refused(finished):
    with pytest.raises(
        InputError, match=r"same images, but .*a has test, .*b held_out; report them separately"
    ):
        compared(finished("a", PLAIN), finished("b", PLAIN, seeds=(5,), evaluate_on="held_out"))


def test_runs_of_other_conventions_are_refused(finished):
    other = finished("b", PLAIN, seeds=(5,))
    change(other, conventions={"average": "tasks", "forgetting": "up_to_last"})
    with pytest.raises(InputError, match="same conventions"):
        compared(finished("a", PLAIN), other)


@pytest.mark.parametrize("schema", [1, 3, None])
def test_results_of_another_schema_are_refused_with_what_to_do(finished, schema):
    with pytest.raises(
        InputError,
        match=rf"schema {schema}, and this version reads schema 2: run it again .* new workdir, or read",
    ):
        read_run(change(finished("a", PLAIN), schema=schema))


def test_a_folder_without_results_is_no_unfinished_run(tmp_path):
    with pytest.raises(InputError, match=r"has no results.json; give workdirs"):
        read_run(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"is not finished.*Start its `jaxcil run` again"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"config": "quickstart"}, "string indices"),
        ({"config": {"dataset": "pets"}}, "it has no 'evaluate_on'"),
        ({"task_sizes": 4}, "not iterable"),
        ({"test_images": [10]}, "sizes must be 2 positive numbers"),
        ({"conventions": {"average": "image", "forgetting": "up_to_last"}}, "Did you mean 'images'"),
        ({"runs": ["abc"]}, "string indices"),
    ],
)
def test_results_copied_without_their_checksum_and_of_another_form_are_refused(finished, fields, says):
    with pytest.raises(InputError, match=rf"a/results\.json is damaged: .*{says}.*; run it again"):
        read_run(change(finished("a", PLAIN), **fields))


def test_results_that_changed_since_they_were_written_are_refused(finished):
    run = finished("a", PLAIN)
    path = run / "results.json"
    write_checked_json(path, json.loads(path.read_text()))
    read_run(run)
    path.write_text(path.read_text().replace("0.5", "0.9", 1))
    with pytest.raises(InputError, match=r"a/results\.json is damaged: its SHA-256 .* run the command"):
        read_run(run)


def test_what_a_run_could_not_measure_may_be_null(finished):
    run = finished("a", PLAIN, seeds=(0,))
    results = json.loads((run / "results.json").read_text())
    results["runs"][0] |= {"last_calibration_error": None, "top_5_accuracy": [None, 0.75]}
    (comparison,) = compared(change(run, **results))
    assert "last_calibration_error" not in comparison.settings[0].entries[0].metrics


def test_no_run_is_no_report():
    with pytest.raises(InputError, match="no run to report"):
        compare([])


@pytest.mark.parametrize("text", ["[]", "{", "null"])
def test_a_results_file_of_something_else_is_refused(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(InputError, match=r"results\.json"):
        read_run(tmp_path)
