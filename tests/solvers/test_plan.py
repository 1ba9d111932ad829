"""Plans side by side: stacked for a sweep, padded for a number of steps chosen at run time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.solvers import (
    GaussianMixture,
    classifier_free,
    ddim,
    dpmpp_2m,
    er_sde,
    euler_maruyama,
    karras_grid,
    ode,
    pad,
    phi,
    power,
    prior,
    sample,
    sde_dpmpp_2m,
    stack,
    strength,
)

# Solvers with one strength of their noise each: 0 is the ODE, or the solver has none.
SWEPT = {
    "er_sde_1": lambda grid, s: er_sde(grid, strength(phi(7), s), order=1),
    "er_sde_2": lambda grid, s: er_sde(grid, strength(phi(7), s), order=2),
    "er_sde_3": lambda grid, s: er_sde(grid, strength(phi(7), s)),
    "er_sde_3_corrected": lambda grid, s: er_sde(
        grid, power(s), derivative="corrected", start="corrector", basis="log_lam"
    ),
    "ddim": lambda grid, s: ddim(grid, s / 2),
    "sde_dpmpp_2m": lambda grid, s: sde_dpmpp_2m(grid, s),
    "euler_maruyama": lambda grid, s: euler_maruyama(grid, strength(phi(7), s)),
}
STRENGTHS, GUIDANCE, SEEDS = (0.0, 0.5, 1.0, 2.0), (0.0, 1.0, 2.0, 5.0), (0, 1, 2, 3)


@pytest.fixture
def mixture():
    return GaussianMixture(
        jnp.asarray([0.4, 0.6]), jnp.asarray([[1.0, -1.0], [0.5, 2.0]]), jnp.asarray([0.3, 0.5])
    )


def test_one_program_sweeps_solvers_strengths_guidance_and_seeds(mixture, x64):
    whole = mixture.replace(weights=jnp.asarray(mixture.weights, jnp.float64))
    part = GaussianMixture(whole.weights[:1], whole.means[:1], whole.stds[:1])
    traces = []

    def run(plan, scale, key):
        traces.append(1)
        guided = classifier_free(part.denoiser, whole.denoiser, scale)
        return sample(plan, guided, prior(plan, key, (2, 2)), key)

    grid = karras_grid(8)
    plans = [solver(grid, s) for solver in SWEPT.values() for s in STRENGTHS]
    over_seeds = jax.vmap(run, (None, None, 0))
    over_scales = jax.vmap(over_seeds, (None, 0, None))
    keys = jnp.stack([jax.random.key(seed) for seed in SEEDS])
    swept = jax.jit(jax.vmap(over_scales, (0, None, None)))(stack(plans), jnp.asarray(GUIDANCE), keys)
    assert len(traces) == 1
    assert swept.shape == (7 * 4, 4, 4, 2, 2)
    one = jax.jit(run)
    for p, plan in enumerate(plans):
        for g, scale in enumerate(GUIDANCE):
            for s, key in enumerate(keys):
                np.testing.assert_allclose(swept[p, g, s], one(plan, scale, key), rtol=0, atol=1e-6)


def test_stacked_histories_of_different_lengths_run_as_they_did(mixture):
    grid = karras_grid(5)
    plans = [ddim(grid), dpmpp_2m(grid), er_sde(grid, ode())]
    x = prior(plans[0], jax.random.key(0), (3, 2))
    stacked = stack(plans)
    assert stacked.history.shape == (3, 5, 3)
    together = jax.vmap(lambda plan: sample(plan, mixture.denoiser, x, jax.random.key(1)))(stacked)
    apart = jnp.stack([sample(plan, mixture.denoiser, x, jax.random.key(1)) for plan in plans])
    np.testing.assert_allclose(together, apart, rtol=1e-5, atol=1e-6)


def test_padded_plans_of_all_lengths_share_one_program_and_keep_their_samples(mixture):
    traces = []

    @jax.jit
    def run(plan, key):
        traces.append(1)
        return sample(plan, mixture.denoiser, prior(plan, key, (3, 2)), key, trajectory=True)

    key = jax.random.key(7)
    for steps in (1, 2, 5, 9):
        plan = er_sde(karras_grid(steps), derivative="corrected", start="corrector")
        end, states, _ = run(pad(plan, 9), key)
        expected = sample(plan, mixture.denoiser, prior(plan, key, (3, 2)), key)
        np.testing.assert_allclose(end, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(states[steps:], jnp.broadcast_to(end, (10 - steps, 3, 2)))
    assert len(traces) == 1


def test_padding_never_calls_the_denoiser_where_there_is_no_noise(mixture):
    # The grid ends at sigma = 0, where a posterior mean of points divides by 0.
    points = mixture.replace(stds=jnp.zeros(2))
    plan = pad(er_sde(karras_grid(4)), 7)
    key = jax.random.key(0)
    assert np.isfinite(sample(plan, points.denoiser, prior(plan, key, (2, 2)), key)).all()
    assert (plan.sigma[:-1] > 0).all()
    assert plan.sigma[-1] == 0


def test_plans_that_do_not_fit_are_refused(mixture):
    five, six = (er_sde(karras_grid(steps)) for steps in (5, 6))
    with pytest.raises(ValueError, match=r"equally many rows \(denoiser calls\), got \[5, 6\]. Use pad"):
        stack([five, six])
    with pytest.raises(ValueError, match="got \\[\\]"):
        stack([])
    with pytest.raises(ValueError, match="own 6 rows, got 5"):
        pad(six, 5)
