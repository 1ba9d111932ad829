"""Parts of a comparison, and what results hold."""

import numpy as np

from jaxcil.evaluation.samplers import comparison
from jaxcil.evaluation.samplers.compared import SAMPLERS
from jaxcil.evaluation.samplers.settings import ComparisonSettings


def test_the_defaults_compare_every_sampler_and_measure_every_part_once():
    settings = ComparisonSettings()
    assert set(settings.samplers) == set(SAMPLERS)
    names = [part.name for part in comparison.parts(settings)]
    assert len(set(names)) == len(names) == 3 * len(settings.nfe) + 1 + len(settings.digits.nfe) + 3


def test_only_cases_in_which_a_sampler_has_an_order_are_measured():
    def cases(*samplers):
        return [
            part.name
            for part in comparison.parts(ComparisonSettings(samplers=samplers, data=("ring",), nfe=(4,)))
        ]

    assert cases("heun", "dpmpp_2m") == ["ring-4", "gaussian_ode", "mixture_ode"]
    assert cases("ddim", "ancestral") == ["ring-4"]


def test_results_hold_means_and_standard_errors_of_the_repetitions():
    settings = ComparisonSettings(order_nfe=(10, 20))
    measured = {
        "ring-10": {"energy_distance": {"ddim": [1.0, 3.0]}},
        "digits-limit": {"moments": [], "quality": {"precision": {"real": [0.9]}}},
        "gaussian_ode": {"ddim": [0.4, 0.2]},
    }
    results = comparison.results(settings, measured)
    ring, real = results["quality"]
    assert (ring["data"], ring["nfe"], ring["mean"], ring["standard_error"]) == ("ring", 10, 2.0, 1.0)
    assert (real["data"], real["nfe"], real["standard_error"]) == ("digits", None, None)
    assert results["orders"][0]["errors"] == [0.4, 0.2]
    assert results["config"]["seed"] == 0


def test_every_repetition_has_other_draws_and_is_reported():
    reports = []
    settings = ComparisonSettings(
        samplers=("ddim",), data=("ring",), nfe=(4,), repetitions=2, points=64, order_nfe=()
    )
    (part,) = comparison.parts(settings)
    quality = part.measure({}, lambda: reports.append(1))
    assert len(reports) == part.runs == 2
    values = quality["energy_distance"]["ddim"]
    assert len(set(values)) == 2
    assert np.isfinite(values).all()
