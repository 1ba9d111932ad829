"""Errors by grid doubling, against values that other code computed in float64."""

import numpy as np
import pytest

from jaxcil.evaluation.samplers import orders
from jaxcil.evaluation.samplers.compared import SAMPLERS

# Relative errors by 10 and 20 calls, to three digits (NumPy loops over the papers' formulas): log grid from 20 to
# 0.05, N(0, 0.5^2).
ODE = {
    "er_sde_1": (1.38e-1, 7.14e-2),
    "er_sde_2": (4.51e-2, 1.06e-2),
    "er_sde_3": (3.92e-2, 8.00e-3),
    "er_sde_official": (4.04e-2, 8.87e-3),
}
# The same with phi 7, as differences of standard deviations.
WEAK = {
    "er_sde_1": (7.2e-2, 3.8e-2),
    "er_sde_2": (2.4e-2, 5.6e-3),
    "er_sde_3": (2.1e-2, 4.2e-3),
    "er_sde_official": (2.1e-2, 4.6e-3),
}


def test_errors_of_the_ode_are_those_of_other_code():
    errors = orders.order_errors("gaussian_ode", tuple(ODE), (10, 20))
    for name, expected in ODE.items():
        np.testing.assert_allclose(errors[name], expected, rtol=0.5e-2)


def test_weak_errors_are_those_of_other_code():
    errors = orders.order_errors("gaussian_weak", tuple(WEAK), (10, 20))
    for name, expected in WEAK.items():
        np.testing.assert_allclose(np.array(errors[name]) * np.hypot(0.5, 0.05), expected, rtol=2.5e-2)


@pytest.mark.slow
def test_orders_on_a_mixture_are_one_two_and_three():
    by_sampler = orders.order_errors("mixture_ode", tuple(SAMPLERS), (80, 160))
    slopes = {name: np.log2(errors[0] / errors[1]) for name, errors in by_sampler.items()}
    expected = {
        **dict.fromkeys(("er_sde_1",), 1),
        **dict.fromkeys(("er_sde_2", "er_sde_3", "dpmpp_2m", "heun"), 2),
        **dict.fromkeys(("er_sde_3_corrector", "er_sde_3_log_lam"), 3),
    }
    assert {name: slopes[name] for name in expected} == pytest.approx(expected, abs=0.2)


def test_a_power_law_has_its_exponent_as_order_whatever_came_before():
    calls = (10, 20, 40, 80)
    errors = [7.0, *(3 * n**-2.5 for n in calls[1:])]
    assert orders.fitted_order(calls, errors) == pytest.approx(2.5, abs=1e-9)


def test_no_order_is_fitted_to_one_error_or_to_none():
    assert orders.fitted_order((10,), [0.1]) is None
    assert orders.fitted_order((10, 20), [0.1, 0.0]) is None


@pytest.mark.parametrize(
    ("case", "names", "measured"),
    [
        ("gaussian_ode", ("heun", "ddim", "er_sde_1"), ["heun", "er_sde_1"]),
        ("gaussian_weak", ("euler_maruyama", "heun", "er_sde_3"), ["euler_maruyama", "er_sde_3"]),
        ("gaussian_weak", ("heun", "dpmpp_2m"), []),
        ("mixture_ode", ("ddim", "ancestral"), []),
    ],
)
def test_orders_are_those_of_the_samplers_asked_for_and_of_no_other(case, names, measured):
    assert orders.has_orders(case, names) == bool(measured)
    if measured:
        assert list(orders.order_errors(case, names, (4, 8))) == measured
