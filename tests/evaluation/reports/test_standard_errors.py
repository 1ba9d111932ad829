"""Standard errors, against statistics whose own are known."""

import numpy as np

from jaxcil.evaluation.reports.standard_errors import GROUPS, groups, jackknife, proportion


def test_the_jackknife_of_a_mean_is_the_standard_error_of_the_means_of_groups():
    values = np.random.default_rng(0).normal(size=50)
    estimate = jackknife(lambda kept: values[np.isin(groups(50), kept)].mean(), 50)
    of_groups = [values[groups(50) == group].mean() for group in range(GROUPS)]
    np.testing.assert_allclose(
        estimate, (values.mean(), np.std(of_groups, ddof=1) / np.sqrt(GROUPS)), rtol=1e-12
    )


def test_a_constant_has_no_error():
    assert jackknife(lambda kept: 3.0, 7) == (3.0, 0.0)


def test_a_set_of_few_rows_has_a_group_for_each():
    assert groups(3).tolist() == [0, 1, 2]
    assert jackknife(lambda kept: float(len(kept)), 3).value == 3.0


def test_the_error_of_a_proportion_is_the_spread_of_such_proportions():
    proportions = np.random.default_rng(0).binomial(50, 0.3, 20000) / 50
    # the standard deviation of 20000 draws has a relative error of 0.5 %
    np.testing.assert_allclose(proportion(0.3, 50).standard_error, proportions.std(), rtol=0.02)
