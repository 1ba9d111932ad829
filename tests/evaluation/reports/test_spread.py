import numpy as np
import pytest
from scipy import stats

from jaxcil.evaluation.reports.spread import by_order, over_seeds, paired, recovered, spread

EXACT = {"rtol": 1e-12, "atol": 0}  # float64 sums of a few terms


def test_seeds_are_pooled_within_orders_and_orders_spread_by_their_means():
    # Order a: mean 2, squares 2; order b: mean 9, squares 8. Pooled over 1 + 2 degrees of freedom.
    measured = spread({("a", 0): 1, ("a", 1): 3, ("b", 0): 7, ("b", 1): 9, ("b", 2): 11})
    np.testing.assert_allclose([measured.mean, measured.seeds], [5.5, np.sqrt(10 / 3)], **EXACT)
    np.testing.assert_allclose(measured.orders, np.sqrt(2 * 3.5**2), **EXACT)
    assert measured.counts == (2, 3)


def test_the_two_spreads_are_those_of_an_analysis_of_variance():
    values = np.random.default_rng(0).normal(size=(4, 3))
    measured = spread({(f"order {o}", s): values[o, s] for o in range(4) for s in range(3)})
    # F is the variance of the order means times the seeds, over the variance within orders
    np.testing.assert_allclose(
        3 * measured.orders**2 / measured.seeds**2, stats.f_oneway(*values)[0], rtol=1e-10
    )


def test_a_shift_of_a_whole_order_is_no_spread_of_seeds():
    values = {("a", 0): 0.5, ("a", 1): 0.75, ("b", 0): 0.25, ("b", 1): 0.5}
    shifted = {pair: value + 8 * (pair[0] == "b") for pair, value in values.items()}
    assert spread(shifted).seeds == spread(values).seeds
    assert spread(shifted).orders > 5


@pytest.mark.parametrize(
    ("values", "seeds", "orders"),
    [({("a", 0): 1.0}, False, False), ({("a", 0): 1.0, ("a", 1): 2.0}, True, False)],
    ids=["one run", "one order"],
)
def test_what_was_not_repeated_has_no_spread(values, seeds, orders):
    measured = spread(values)
    assert (measured.seeds is not None, measured.orders is not None) == (seeds, orders)


def test_one_seed_per_order_has_a_spread_over_orders_alone():
    measured = spread({("a", 0): 1.0, ("b", 0): 3.0})
    assert (measured.seeds, measured.counts) == (None, (1, 1))
    np.testing.assert_allclose(measured.orders, np.sqrt(2), **EXACT)


def test_curves_are_spread_point_by_point():
    values = {
        pair: np.random.default_rng(n).normal(size=4)
        for n, pair in enumerate([("a", 0), ("a", 1), ("b", 0), ("b", 5)])
    }
    measured = over_seeds(by_order(values))
    points = [spread({pair: curve[t] for pair, curve in values.items()}).seeds for t in range(4)]
    np.testing.assert_allclose(measured, points, **EXACT)


def test_pairs_share_order_and_seed():
    values, base = (
        {("a", 0): 3.0, ("a", 1): 5.0, ("b", 0): 9.0},
        {("a", 1): 1.0, ("b", 0): 2.0, ("b", 7): 0.0},
    )
    assert paired(values, base) == {("a", 1): 4.0, ("b", 0): 7.0}


def test_the_recovered_part_is_over_the_pairs_that_all_three_have():
    plain = {("a", 0): 0.5, ("a", 1): 0.5, ("b", 0): 0.25}
    ours = {("a", 0): 0.75, ("b", 0): 0.5, ("a", 1): 1.0}
    bound = {("a", 0): 1.0, ("b", 0): 0.75}
    # 0.25 of 0.5, twice; seed 1 of order a has no bound
    assert recovered(ours, plain, bound) == 0.5


@pytest.mark.parametrize(
    ("gains", "differences"),
    [
        ([0.25], [0.0]),
        ([0.25], [-0.5]),
        ([-0.25], [0.5]),
        ([0.25, 0.25], [0.125, 0.875]),  # 0.5 with a deviation of 0.53 over seeds
    ],
    ids=["no difference", "a bound that loses", "a loss", "a difference within its spread"],
)
def test_what_would_be_noise_is_no_recovered_part(gains, differences):
    plain = {("a", seed): 0.125 for seed in range(len(gains))}
    ours, bound = (
        {("a", seed): 0.125 + value for seed, value in enumerate(values)} for values in (gains, differences)
    )
    assert recovered(ours, plain, bound) is None


def test_a_difference_within_its_spread_over_class_orders_has_no_part():
    plain = {("a", 0): 0.125, ("b", 0): 0.125}
    bound = {("a", 0): 0.25, ("b", 0): 1.0}
    assert recovered({("a", 0): 0.25, ("b", 0): 0.25}, plain, bound) is None


def test_without_a_pair_there_is_no_recovered_part():
    one = {("a", 0): 0.5}
    assert recovered(one, one, {("b", 0): 1.0}) is None
