"""The comparison on data with exact denoisers: exact recursions, equal calls, shared draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.evaluation.samplers import compared
from jaxcil.evaluation.samplers.compared import SAMPLERS
from jaxcil.solvers import (
    GaussianMixture,
    euler_maruyama,
    flow_grid,
    heun,
    karras_grid,
    power,
    sample,
    vp_grid,
)


def by_impulses(plan, std):
    """Standard deviation of the output, from a unit impulse a source of variance through the loop itself."""
    data = GaussianMixture(jnp.ones(1), jnp.zeros((1, 1)), jnp.full(1, std))
    impulses = jnp.eye(plan.rows + 1)[..., None]  # the start, then the noise of each row
    out = np.asarray(sample(plan, data.denoiser, impulses[0], noises=impulses[1:]))[:, 0]
    variances = np.append((plan.alpha[0] * std) ** 2 + plan.sigma[0] ** 2, np.ones(plan.rows))
    return np.sqrt(np.sum(out**2 * variances))


@pytest.mark.parametrize(
    "grid", [karras_grid, vp_grid, lambda n: flow_grid(n, t_max=0.9999)], ids=["ve", "vp", "flow"]
)
@pytest.mark.parametrize("name", ["ancestral", "sde_dpmpp_2m", "er_sde_3_corrector", "heun"])
def test_output_std_is_that_of_unit_impulses_through_the_loop(x64, strict_dtypes, name, grid):
    # histories of 1, 2 and 3; a plan of two rows a step; alpha from 0.0001 to 1. Measured to 1e-15 elsewhere.
    plan = compared.plans_of([SAMPLERS[name]], grid, 6)
    plan = jax.tree.map(lambda leaf: leaf[0], plan)
    stds = compared.output_std(plan, jnp.asarray([0.05, 1.0]))
    np.testing.assert_allclose(stds, [by_impulses(plan, std) for std in (0.05, 1.0)], rtol=1e-11)


# Output of N(0, 0.5^2) by 20 steps of EDM's grid, computed in float64 by other code (NumPy loops over the formulas of
# each paper), to six digits.
STANDARD_DEVIATIONS = {
    "er_sde_1": 0.427497,
    "er_sde_2": 0.483574,
    "er_sde_3": 0.487181,
    "er_sde_official": 0.486422,
    "er_sde_3_corrected": 0.495329,
    "ddim": 0.430546,
    "ancestral": 0.378281,
    "dpmpp_2m": 0.524629,
    "sde_dpmpp_2m": 0.555919,
}


def test_samplers_have_the_standard_deviations_of_other_code(x64):
    grid, std = karras_grid(20), jnp.full(1, 0.5)

    def of(solver):
        return float(jax.jit(lambda grid: compared.output_std(solver(grid), std)[0])(grid))

    stds = {name: of(SAMPLERS[name].solver) for name in STANDARD_DEVIATIONS}
    assert stds == pytest.approx(STANDARD_DEVIATIONS, abs=1e-6)
    assert of(lambda grid: heun(grid, final_zero=True)) == pytest.approx(0.521834, abs=1e-6)
    assert of(lambda grid: euler_maruyama(grid, power(1.0))) == pytest.approx(0.506424, abs=1e-6)


@pytest.mark.parametrize(("calls", "steps"), [(2, 1), (5, 3), (6, 3)])
def test_heun_gets_the_largest_odd_number_of_calls(calls, steps):
    plans = compared.plans_of([SAMPLERS["ddim"], SAMPLERS["heun"]], karras_grid, calls)
    assert plans.rows == calls
    own = heun(karras_grid(steps))
    assert own.rows == 2 * steps - 1
    padded = jax.tree.map(lambda leaf: leaf[1], plans)
    data, x = compared.ring(), 80 * jnp.ones((1, 2))
    np.testing.assert_array_equal(sample(padded, data.denoiser, x), sample(own, data.denoiser, x))


def test_distance_on_the_gaussian_falls_to_that_of_an_exact_solution():
    # Errors of order 1 and 3: 6 times the calls leave a sixth, and little. The exact solution's own distance is what
    # the last node, 0.002, takes from the narrow dimensions: 1e-4 from that of 0.02, 1.6e-4 from all together.
    names = ("ddim", "er_ode_3_corrector")
    few, many = (compared.gaussian_quality(names, calls) for calls in (20, 120))
    assert few["exact"] == pytest.approx(many["exact"], rel=1e-9)
    assert 0.02 - 0.02**2 / np.hypot(0.02, 0.002) < many["exact"] < 2e-4
    assert 1 / 8 < many["ddim"] / few["ddim"] < 1 / 4
    assert many["er_ode_3_corrector"] < few["er_ode_3_corrector"] / 50
    assert many["er_ode_3_corrector"] > many["exact"] / 2


def test_mixtures_are_distributions_of_their_dimensions(strict_dtypes):
    for make, dim in ((compared.ring, 2), (compared.mixture, 16)):
        data = make()
        assert data.means.shape == (len(data.weights), dim)
        np.testing.assert_allclose(data.weights.sum(), 1, rtol=1e-6)


@pytest.fixture(scope="module")
def ring_quality():
    def quality(names, calls, key=0):
        sizes = {"points": 256, "directions": 8}
        return compared.mixture_quality(names, compared.ring(), calls, jax.random.key(key), **sizes)

    return quality


def test_a_sampler_s_distance_does_not_depend_on_which_others_are_compared(ring_quality):
    # longer histories are filled up with zeros, which changes nothing
    alone, among_others = ring_quality(("ddim",), 6), ring_quality(("er_sde_3", "ddim"), 6)
    for measure in alone:
        np.testing.assert_allclose(
            alone[measure]["ddim"], among_others[measure]["ddim"], rtol=1e-5, atol=1e-6
        )


def test_a_repetition_compares_with_the_same_draws_at_all_numbers_of_calls(ring_quality):
    few, more, other = (
        ring_quality(("ddim",), 2),
        ring_quality(("ddim",), 6),
        ring_quality(("ddim",), 2, key=1),
    )
    assert few["energy_distance"]["exact"] == more["energy_distance"]["exact"]
    assert few["energy_distance"]["exact"] != other["energy_distance"]["exact"]


def test_few_calls_are_far_from_exact_draws_and_many_are_near(ring_quality):
    # One step to the mean of all data, then a step to the nearest mode: far. 60 calls: as far as exact draws are,
    # whose distance over 64 points has a standard deviation of about 0.02.
    few, many = ring_quality(("er_sde_3_corrector",), 2), ring_quality(("er_sde_3_corrector",), 60)
    assert few["energy_distance"]["er_sde_3_corrector"] > 0.2
    assert abs(many["energy_distance"]["er_sde_3_corrector"]) < 0.1


def test_every_sampler_has_a_style_of_its_own_and_is_against_others():
    assert len({sampler.style for sampler in SAMPLERS.values()}) == len(SAMPLERS)
    for name, sampler in SAMPLERS.items():
        assert set(sampler.against) <= SAMPLERS.keys() - {name}
