from jaxcil.evaluation.reports import names
from jaxcil.experiment import auxiliary, settings
from jaxcil.heads import by_name


def test_every_head_and_extractor_of_a_run_has_a_name_for_people_and_no_two_share_it():
    assert set(by_name.HEADS) <= set(names.METHODS)
    assert set(auxiliary.EXTRACTORS) == set(names.EXTRACTORS)
    assert len(set(names.METHODS.values())) == len(names.METHODS)


def test_every_split_that_a_run_is_evaluated_on_is_told_in_words():
    assert set(settings.EVALUATE_ON) == set(names.EVALUATED_ON)


def test_a_variant_is_called_by_its_method_and_options_and_stands_beside_it():
    methods = [
        "mine",
        names.variant("acil", "ridge = 5"),
        "ncm",
        names.variant("acil", "ridge = 0.1"),
        "mine",
    ]
    assert [names.method_name(method) for method in names.methods_in_order(methods)] == [
        "NCM",
        "ACIL, ridge = 5",
        "ACIL, ridge = 0.1",
        "mine",
    ]
