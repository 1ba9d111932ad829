import re

import pytest

from jaxcil.evaluation.reports import tables
from jaxcil.evaluation.reports.finished_runs import compare, read_run
from jaxcil.evaluation.reports.spread import Spread

PLAIN = {("ncm", "plain"): 0.5}

MAIN = {
    ("fecam", "real_future"): 0.9,
    ("fecam", "plain"): 0.5,
    ("fecam", "future_proof"): 0.7,
    ("fecam", "known_classes"): 0.54,
    ("ncm", "plain"): 0.4,
    ("ncm", "future_proof"): 0.6,
}


@pytest.fixture
def compared(finished):
    def read(**runs):
        return compare(
            [read_run(finished(name, levels, **changes)) for name, (levels, changes) in sorted(runs.items())]
        )

    return read


def rows_of(comparison, index=0):
    return {(row.method, row.variant): row for row in tables.rows(comparison, comparison.settings[index])}


def test_methods_and_variants_have_one_order_whatever_that_of_the_runs(compared):
    (comparison,) = compared(a=(MAIN | {("mine", "plain"): 0.3}, {}))
    assert list(rows_of(comparison)) == [
        ("NCM", "plain"),
        ("NCM", "future_proof"),
        ("FeCAM", "plain"),
        ("FeCAM", "future_proof"),
        ("FeCAM", "real_future"),
        ("FeCAM", "known_classes"),
        ("mine", "plain"),
    ]


def test_gains_are_paired_by_order_and_seed(compared):
    # A seed is worth 0.01 and an order 0.1 to both variants: nothing of that is in the gain
    plain, ours = ({("ncm", name): level} for name, level in (("plain", 0.3), ("future_proof", 0.5)))
    (comparison,) = compared(
        a=(plain | ours, {"order": 1, "seeds": (0, 1, 2)}),
        b=({pair: level + 0.1 for pair, level in (plain | ours).items()}, {"order": 2, "seeds": (0, 1)}),
        c=(plain, {"order": 3, "seeds": (7,)}),
    )
    row = rows_of(comparison)["NCM", "future_proof"]
    # Float64 differences of fractions
    assert row.gain[:3] == pytest.approx((0.2, 0, 0), abs=1e-12)
    assert row.gain.counts == (3, 2)
    # Squares 2e-4 and 0.5e-4 over 2 + 1 degrees of freedom; order means 0.31 and 0.405, less 0.2
    own = row.metrics["last_accuracy"]
    assert (own.seeds, own.orders) == pytest.approx(((2.5e-4 / 3) ** 0.5, 0.095 / 2**0.5), abs=1e-12)


def test_the_upper_bound_and_plain_recover_nothing_and_plain_gains_nothing(compared):
    (comparison,) = compared(a=(MAIN, {}))
    rows = rows_of(comparison)
    assert rows["FeCAM", "future_proof"].recovered == pytest.approx(0.5)
    assert rows["FeCAM", "known_classes"].recovered == pytest.approx(0.1)
    assert (rows["FeCAM", "plain"].gain, rows["FeCAM", "plain"].recovered) == (None, None)
    assert rows["FeCAM", "real_future"].recovered is None
    assert rows["NCM", "future_proof"].recovered is None  # no bound for this head


def test_variants_of_past_classes_have_a_bound_of_past_classes(compared):
    levels = {"plain": 0.5, "future_proof": 0.7, "real_future": 0.9, "sddr": 0.6, "real_past": 0.7}
    (comparison,) = compared(a=({("lucir", "nme", variant): x for variant, x in levels.items()}, {}))
    rows = rows_of(comparison)
    assert rows["NME", "sddr"].recovered == pytest.approx(0.5)
    assert rows["NME", "future_proof"].recovered == pytest.approx(0.5)


def test_a_loss_recovers_nothing_also_where_the_seeds_of_its_bound_gain(compared):
    (comparison,) = compared(
        a=({("ncm", "plain"): 0.5}, {"seeds": (0, 1, 2)}),
        b=({("ncm", "future_proof"): 0.6, ("ncm", "real_future"): 0.9}, {"seeds": (0,)}),
        c=({("ncm", "future_proof"): 0.3}, {"seeds": (1, 2)}),
    )
    row = rows_of(comparison)["NCM", "future_proof"]
    assert row.gain.mean < 0
    assert row.recovered is None


def test_runs_without_auxiliary_images_serve_settings_of_other_auxiliary_images(compared):
    ours = {("fecam", "future_proof"): 0.6}
    (comparison,) = compared(
        a=(MAIN, {}), b=(ours, {"synthetic__images_per_class": 50}), c=(ours, {"training__steps": 9})
    )
    fewer, shorter = rows_of(comparison, 1), rows_of(comparison, 2)
    assert fewer["FeCAM", "future_proof"].recovered == pytest.approx(0.25)
    # Another training would have another plain variant
    assert shorter["FeCAM", "future_proof"].gain is None


def header_with(comparison, **metrics):
    """Of the table of every metric, where each entry has these too."""
    for entry in comparison.settings[0].entries:
        entry.metrics.update(metrics)
    return tables.every_metric(list(rows_of(comparison).values()))[0]


def test_a_metric_that_some_runs_lack_is_left_out(compared):
    (comparison,) = compared(a=(MAIN, {}))
    assert "last top-5 accuracy" in header_with(comparison, last_top_5_accuracy=0.9)
    del comparison.settings[0].entries[0].metrics["last_top_5_accuracy"]
    assert "last top-5 accuracy" not in header_with(comparison)


def test_a_metric_that_says_nothing_is_left_out(compared):
    (comparison,) = compared(a=(MAIN, {}))
    header = header_with(comparison, last_top_5_accuracy=1.0, backward_transfer=-0.2)  # forgetting is 0.2
    assert header == [
        *("method", "variant", "average incremental accuracy", "gain over plain"),
        *("last accuracy", "forgetting", "n"),
    ]
    assert "backward transfer" in header_with(comparison, backward_transfer=-0.19)


def printed(compared, levels, **changes):
    (comparison,) = compared(a=(levels, changes))
    return tables.summary_table(comparison.settings[0].runs[0].results).split("\n")


def test_the_printed_table_is_in_percent_over_seeds(compared):
    lines = printed(compared, MAIN, seeds=(0, 2, 4))
    table, notes = lines[:8], lines[8:]
    assert re.fullmatch("method +variant +average incremental accuracy +last accuracy +forgetting", table[0])
    assert len({len(line) for line in table}) == 1
    assert re.fullmatch(r"NCM +FPCIL +52\.0 ± 2\.0 +42\.0 ± 2\.0 +20\.0 ± 0\.0", table[3])
    assert notes == [
        "FPCIL gains +20.0 ± 0.0 points over plain with NCM",
        "FPCIL gains +20.0 ± 0.0 points over plain with FeCAM, 50 % of the way to real future images",
    ]


def test_a_printed_loss_is_called_a_loss_and_has_no_part_of_a_gain(compared):
    levels = {("ncm", "plain"): 0.5, ("ncm", "future_proof"): 0.486, ("ncm", "real_future"): 0.505}
    assert printed(compared, levels)[-1] == "FPCIL loses 1.4 ± 0.0 points against plain with NCM"


def test_what_sddr_gains_is_held_against_real_past_images(compared):
    levels = {
        ("lucir", "cnn", "plain"): 0.5,
        ("lucir", "cnn", "sddr"): 0.6,
        ("lucir", "cnn", "real_past"): 0.7,
    }
    assert printed(compared, levels)[-1] == (
        "SDDR gains +10.0 ± 0.0 points over plain with CNN, 50 % of the way to real past images"
    )


@pytest.mark.parametrize(
    ("runs", "says", "silent"),
    [
        ({"a": (PLAIN, {"seeds": (0,)})}, "Percent. n is", "±"),
        (
            {"a": (PLAIN, {})},
            "mean ± standard deviation over training seeds, with n - 1. n is",
            "class order has",
        ),
        ({"a": (MAIN, {})}, "paired by seed. The percentage after a gain", "Settings"),
        (
            {"a": (PLAIN, {}), "b": (PLAIN, {"order": 7})},
            "Every class order has the same weight. n is",
            "Gains",
        ),
        (
            {"a": (MAIN, {}), "b": (MAIN, {"training__steps": 9})},
            "Settings that differ in auxiliary",
            "/ over",
        ),
    ],
    ids=["one seed", "seeds", "gains", "orders", "settings"],
)
def test_what_is_explained_is_what_the_tables_have(compared, runs, says, silent):
    words = tables.explained(compared(**runs)[0])
    assert says in words
    assert silent not in words


def test_names_from_outside_have_no_meaning_in_markdown(compared):
    text = tables.as_markdown(compared(a=({("<b>mine</b> | other", "plain"): 0.5}, {"dataset": "<i>pets"})))
    assert r"&lt;b&gt;mine&lt;/b&gt; \| other" in text
    assert "<" not in text


def test_the_markdown_has_the_tables_in_percent_with_both_spreads(compared):
    shifted = {pair: level - 0.1 for pair, level in MAIN.items()}
    text = tables.as_markdown(compared(a=(MAIN, {}), b=(shifted, {"order": 7})))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == "## pets, 4 classes: 2 classes first, then 2 per task"
    # Seeds 0.01 apart have a deviation of 0.007, orders 0.1 apart one of 0.071
    assert "| FeCAM | 35.5 ± 0.7 / 7.1 | 55.5 ± 0.7 / 7.1 | 75.5 ± 0.7 / 7.1 | 39.5 ± 0.7 / 7.1 |" in lines
    assert "| FeCAM | +20.0 ± 0.0 / 0.0 (50 %) | +40.0 ± 0.0 / 0.0 | +4.0 ± 0.0 / 0.0 (10 %) |" in lines
    assert "| NCM | 25.5 ± 0.7 / 7.1 | 45.5 ± 0.7 / 7.1 | | |" in lines
    assert "n = 2 × 2" in lines
    assert lines[-1].startswith(
        "Percent: mean ± standard deviation over training seeds (within a class order,"
    )


def test_settings_are_next_to_each_other_and_each_has_its_tables(compared):
    ours = {("ncm", "future_proof"): 0.5, ("fecam", "future_proof"): 0.6}
    (comparison,) = compared(a=(MAIN, {}), b=(ours, {"synthetic__images_per_class": 50}))
    header, lines = tables.side_by_side(comparison)
    assert header == ["setting", "variant", "NCM", "FeCAM"]
    assert lines == [
        ["images_per_class = 200", "FPCIL", "50.5 (+20.0)", "60.5 (+20.0)"],
        ["images_per_class = 200", "known classes", "", "44.5 (+4.0)"],
        ["images_per_class = 50", "FPCIL", "40.5 (+10.0)", "50.5 (+10.0)"],
    ]
    assert "### images_per_class = 50" in tables.as_markdown([comparison])


def test_settings_with_plain_alone_are_next_to_each_other_too(compared):
    levels = {("ncm", "plain"): 0.4, ("fecam", "plain"): 0.5}
    (comparison,) = compared(
        a=(levels, {"training__network": "resnet18"}), b=(levels, {"training__network": "resnet32"})
    )
    header, lines = tables.side_by_side(comparison)
    assert header == ["setting", "variant", "NCM", "FeCAM"]
    assert lines == [
        ["network = resnet18", "plain", "30.5", "40.5"],
        ["network = resnet32", "plain", "30.5", "40.5"],
    ]


def test_fields_that_a_short_name_omits_are_under_it(compared):
    changes = {f"training__{name}": 1 for name in ("epochs", "warmup", "cutout", "batch_size", "momentum")}
    (comparison,) = compared(a=(MAIN, {}), b=(MAIN, changes))
    lines = tables.as_markdown([comparison]).splitlines()
    heading = lines.index("### b")
    assert lines[heading + 2] == "With epochs = 1, warmup = 1, cutout = 1, batch_size = 1, momentum = 1."


def test_a_method_with_other_options_is_next_to_it(compared):
    levels = {("ncm", "plain"): 0.4, ("fecam", "plain"): 0.5}
    (comparison,) = compared(
        a=(levels, {"head_options": {"ncm": {"temperature": 1.0}}}),
        b=({("ncm", "plain"): 0.3}, {"head_options": {"ncm": {"temperature": 2.0}}}),
    )
    grid = tables.grids(list(rows_of(comparison).values()))["Average incremental accuracy"]
    assert [line[0] for line in grid[1]] == ["NCM, temperature = 1", "NCM, temperature = 2", "FeCAM"]


def test_each_variant_has_its_number_of_runs_where_they_differ(compared):
    (comparison,) = compared(
        a=({("ncm", "plain"): 0.4}, {"seeds": (0, 1, 2)}),
        b=({("ncm", "future_proof"): 0.5}, {"seeds": (1, 2)}),
    )
    rows = list(rows_of(comparison).values())
    assert tables.numbers(rows) == "n = plain 1 × 3, FPCIL 1 × 2"
    (comparison,) = compared(
        c=({("ncm", "plain"): 0.4}, {"seeds": (1, 2)}),
        d=({("ncm", "future_proof"): 0.5}, {"seeds": (0, 1, 2)}),
    )
    grid = tables.grids(list(rows_of(comparison).values()))["Gain over plain"]
    assert grid[1] == [["NCM", "+10.0 ± 0.0, n 1 × 2"]]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Spread(0.5, None, None, (1,)), "50.0"),
        (Spread(0.5, 0.01, None, (2,)), "50.0 ± 1.0"),
        (Spread(0.5, None, 0.02, (1, 1)), "50.0 ± – / 2.0"),
        (Spread(-0.5, 0.01, 0.02, (2, 2)), "-50.0 ± 1.0 / 2.0"),
        (Spread(-0.0001, None, None, (1,)), "0.0"),
    ],
)
def test_an_unknown_spread_is_not_made_up(value, text):
    assert tables.percent(value) == text


def test_settings_over_other_orders_or_seeds_have_their_number_in_the_table(finished):
    runs = [finished("a", PLAIN), finished("b", PLAIN, training__steps=9)]
    [comparison] = compare([read_run(run) for run in runs])
    assert "n" not in tables.side_by_side(comparison)[0]
    more = compare([read_run(run) for run in (*runs, finished("c", PLAIN, order=1))])
    header, lines = tables.side_by_side(more[0])
    assert header[-1] == "n"
    assert [line[-1] for line in lines] == ["2 × 2", "1 × 2"]


def test_a_title_names_classes_where_scenarios_differ_in_nothing_else(finished):
    runs = [finished("a", PLAIN, classes="abcd"), finished("b", PLAIN, classes="cdef")]
    titles = [tables.title(comparison) for comparison in compare([read_run(run) for run in runs])]
    assert titles[0].startswith("pets, 4 classes (a, b): ")
    assert titles[1].startswith("pets, 4 classes (e, f): ")
