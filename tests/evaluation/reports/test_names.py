import dataclasses

from jaxcil.evaluation.reports import names
from jaxcil.experiment import variants
from jaxcil.experiment.fields import Settings
from jaxcil.heads import by_name as heads
from jaxcil.learners import by_name as learners


def test_every_head_learner_and_variant_of_a_run_has_a_display_name_and_no_two_share_it():
    assert set(heads.HEADS) <= set(names.READINGS)
    assert set(learners.LEARNERS) <= set(names.LEARNERS)
    assert set(variants.VARIANTS) <= set(names.VARIANTS)
    for table in (names.LEARNERS, names.READINGS, names.VARIANTS):
        assert len(set(table.values())) == len(table)


def test_what_a_page_says_of_variants_is_of_variants_that_exist():
    assert {*names.OURS, *names.CONTROLS} <= set(names.VARIANTS)


def test_every_split_that_a_run_is_evaluated_on_has_words():
    (split,) = (one for one in dataclasses.fields(Settings) if one.name == "evaluate_on")
    assert set(split.metadata["choices"]) == set(names.EVALUATED_ON)


def test_readings_with_options_are_next_to_each_other_and_unknown_ones_last_as_they_are():
    readings = [
        "mine",
        names.with_options("acil", "ridge = 5"),
        "ncm",
        names.with_options("acil", "ridge = 0.1"),
        "mine",
    ]
    shown = names.method_names(("frozen", reading) for reading in readings)
    assert list(shown.values()) == ["NCM", "ACIL, ridge = 5", "ACIL, ridge = 0.1", "mine"]


def test_learners_are_named_where_there_are_several():
    methods = [("<mine>", "ncm"), ("lucir", "nme"), ("lucir", "cnn"), ("frozen", "ncm")]
    assert list(names.method_names(methods).values()) == [
        "frozen, NCM",
        "LUCIR, CNN",
        "LUCIR, NME",
        "<mine>, NCM",
    ]
    assert list(names.method_names(methods[1:3]).values()) == ["CNN", "NME"]


def test_names_from_outside_that_look_like_ours_stay_two_methods():
    shown = names.method_names([("lucir", "cnn"), ("LUCIR", "cnn"), ("frozen", "ncm")])
    assert len(set(shown.values())) == 3
