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
    found = tables.rows(comparison, comparison.settings[index])
    return {(row.method, row.extractor): row for row in found}


def test_methods_and_extractors_stand_in_one_order_whatever_that_of_the_runs(compared):
    (comparison,) = compared(a=(MAIN | {("mine", "plain"): 0.1}, {}))
    assert list(rows_of(comparison)) == [
        ("ncm", "plain"),
        ("ncm", "future_proof"),
        ("fecam", "plain"),
        ("fecam", "future_proof"),
        ("fecam", "real_future"),
        ("fecam", "known_classes"),
        ("mine", "plain"),
    ]


def test_gains_are_paired_by_order_and_seed(compared):
    # A seed is worth 0.01 and an order 0.1 to both extractors: nothing of that is in the gain
    plain, ours = ({("ncm", name): level} for name, level in (("plain", 0.3), ("future_proof", 0.5)))
    (comparison,) = compared(
        a=(plain | ours, {"order": 1, "seeds": (0, 1, 2)}),
        b=({pair: level + 0.1 for pair, level in (plain | ours).items()}, {"order": 2, "seeds": (0, 1)}),
        c=(plain, {"order": 3, "seeds": (7,)}),
    )
    row = rows_of(comparison)["ncm", "future_proof"]
    # Float64 differences of fractions
    assert row.gain[:3] == pytest.approx((0.2, 0, 0), abs=1e-12)
    assert row.gain.counts == (3, 2)
    # Squares 2e-4 and 0.5e-4 over 2 + 1 degrees of freedom; order means 0.31 and 0.405, less 0.2
    own = row.metrics["last_accuracy"]
    assert (own.seeds, own.orders) == pytest.approx(((2.5e-4 / 3) ** 0.5, 0.095 / 2**0.5), abs=1e-12)


def test_shares_are_of_the_gap_to_the_bound_and_plain_has_neither_gain_nor_share(compared):
    (comparison,) = compared(a=(MAIN, {}))
    rows = rows_of(comparison)
    assert rows["fecam", "future_proof"].share == pytest.approx(0.5)
    assert rows["fecam", "known_classes"].share == pytest.approx(0.1)
    assert (rows["fecam", "plain"].gain, rows["fecam", "plain"].share) == (None, None)
    assert rows["fecam", "real_future"].share is None
    assert rows["ncm", "future_proof"].share is None  # no bound for this head


def test_runs_without_synthetic_images_serve_settings_of_other_synthetic_images(compared):
    ours = {("fecam", "future_proof"): 0.6}
    (comparison,) = compared(
        a=(MAIN, {}), b=(ours, {"synthetic__images_a_class": 50}), c=(ours, {"extractor__steps": 9})
    )
    fewer, shorter = rows_of(comparison, 1), rows_of(comparison, 2)
    assert fewer["fecam", "future_proof"].share == pytest.approx(0.25)
    # Another training would have another plain extractor
    assert shorter["fecam", "future_proof"].gain is None


def test_a_metric_that_some_runs_lack_is_left_out(finished, compared):
    (comparison,) = compared(a=(MAIN, {}))
    entries = comparison.settings[0].entries
    for entry in entries:
        entry.metrics["last_top_5_accuracy"] = 0.9
    assert "last top-5 accuracy" in tables.every_metric(list(rows_of(comparison).values()))[0]
    del entries[0].metrics["last_top_5_accuracy"]
    assert "last top-5 accuracy" not in tables.every_metric(list(rows_of(comparison).values()))[0]


def test_the_markdown_has_the_tables_in_percent_with_both_spreads(compared):
    shifted = {pair: level - 0.1 for pair, level in MAIN.items()}
    text = tables.markdown(compared(a=(MAIN, {}), b=(shifted, {"order": 7})))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == "## pets, 4 classes: 2 classes first, then 2 a task"
    # Seeds 0.01 apart have a deviation of 0.007, orders 0.1 apart one of 0.071
    assert "| FeCAM | 35.5 ± 0.7 / 7.1 | 55.5 ± 0.7 / 7.1 | 75.5 ± 0.7 / 7.1 | 39.5 ± 0.7 / 7.1 |" in lines
    assert "| FeCAM | +20.0 ± 0.0 / 0.0 (50 %) | +40.0 ± 0.0 / 0.0 | +4.0 ± 0.0 / 0.0 (10 %) |" in lines
    assert "| NCM | 25.5 ± 0.7 / 7.1 | 45.5 ± 0.7 / 7.1 | | |" in lines
    assert "n = 2 × 2" in lines
    assert lines[-1] == tables.SPREADS


def test_settings_stand_side_by_side_and_each_has_its_tables(compared):
    ours = {("ncm", "future_proof"): 0.5, ("fecam", "future_proof"): 0.6}
    (comparison,) = compared(a=(MAIN, {}), b=(ours, {"synthetic__images_a_class": 50}))
    header, lines = tables.side_by_side(comparison)
    assert header == ["setting", "extractor", "NCM", "FeCAM"]
    assert lines == [
        ["images_per_class = 200", "FPCIL", "50.5 (+20.0)", "60.5 (+20.0)"],
        ["images_per_class = 200", "known classes", "", "44.5 (+4.0)"],
        ["images_per_class = 50", "FPCIL", "40.5 (+10.0)", "50.5 (+10.0)"],
    ]
    assert "### images_per_class = 50" in tables.markdown([comparison])


def test_runs_of_plain_extractors_alone_stand_side_by_side_too(compared):
    levels = {("ncm", "plain"): 0.4, ("fecam", "plain"): 0.5}
    (comparison,) = compared(
        a=(levels, {"extractor__network": "resnet18"}), b=(levels, {"extractor__network": "resnet32"})
    )
    header, lines = tables.side_by_side(comparison)
    assert header == ["setting", "extractor", "NCM", "FeCAM"]
    assert lines == [
        ["network = resnet18", "plain", "30.5", "40.5"],
        ["network = resnet32", "plain", "30.5", "40.5"],
    ]


def test_fields_that_a_short_name_does_not_tell_stand_under_it(compared):
    changes = {f"extractor__{name}": 1 for name in ("epochs", "warmup", "cutout", "batch_size", "momentum")}
    (comparison,) = compared(a=(MAIN, {}), b=(MAIN, changes))
    lines = tables.markdown([comparison]).splitlines()
    heading = lines.index("### b")
    assert lines[heading + 2] == "With epochs = 1, warmup = 1, cutout = 1, batch_size = 1, momentum = 1."


def test_a_row_tells_what_plain_and_the_bound_reach_on_its_own_orders_and_seeds(compared):
    plain, bound = {("ncm", "plain"): 0.3}, {("ncm", "real_future"): 0.9}
    (comparison,) = compared(
        a=(plain | bound, {"seeds": (0, 1, 2)}), b=({("ncm", "future_proof"): 0.5}, {"seeds": (2, 7)})
    )
    row = rows_of(comparison)["ncm", "future_proof"]
    # Averages lie 0.1 below levels; seed 2 alone is shared
    assert (row.plain, row.bound) == pytest.approx((0.22, 0.82), abs=1e-12)


def test_variants_of_a_method_stand_where_it_stands(compared):
    levels = {("ncm", "plain"): 0.4, ("fecam", "plain"): 0.5}
    (comparison,) = compared(
        a=(levels, {"head_options": {"ncm": {"temperature": 1.0}}}),
        b=({("ncm", "plain"): 0.3}, {"head_options": {"ncm": {"temperature": 2.0}}}),
    )
    grid = tables.grids(list(rows_of(comparison).values()))["Average incremental accuracy"]
    assert [line[0] for line in grid[1]] == ["NCM, temperature = 1", "NCM, temperature = 2", "FeCAM"]


def test_the_number_of_runs_is_told_where_it_differs(compared):
    (comparison,) = compared(
        a=({("ncm", "plain"): 0.4}, {"seeds": (0, 1, 2)}),
        b=({("ncm", "future_proof"): 0.5}, {"seeds": (1, 2)}),
    )
    found = list(rows_of(comparison).values())
    assert tables.numbers(found) == "n = plain 1 × 3, FPCIL 1 × 2"
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
    ],
)
def test_a_spread_that_is_not_known_is_not_made_up(value, text):
    assert tables.percent(value) == text


def test_settings_over_other_orders_or_seeds_have_their_number_beside_them(finished):
    runs = [finished("a", PLAIN), finished("b", PLAIN, extractor__steps=9)]
    [comparison] = compare([read_run(run) for run in runs])
    assert "n" not in tables.side_by_side(comparison)[0]
    more = compare([read_run(run) for run in (*runs, finished("c", PLAIN, order=1))])
    header, lines = tables.side_by_side(more[0])
    assert header[-1] == "n"
    assert [line[-1] for line in lines] == ["2 × 2", "1 × 2"]


def test_a_title_names_classes_where_nothing_else_tells_scenarios_apart(finished):
    runs = [finished("a", PLAIN, classes="abcd"), finished("b", PLAIN, classes="cdef")]
    titles = [tables.title(comparison) for comparison in compare([read_run(run) for run in runs])]
    assert titles[0].startswith("pets, 4 classes (a, b): ")
    assert titles[1].startswith("pets, 4 classes (e, f): ")
