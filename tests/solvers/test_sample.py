import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.parallel import mesh
from jaxcil.solvers import (
    GaussianMixture,
    Node,
    er_sde,
    init,
    karras_grid,
    ode,
    prior,
    sample,
    step,
)

PLAN_ROWS = 6


@pytest.fixture
def mixture():
    return GaussianMixture(
        jnp.asarray([0.4, 0.6]), jnp.asarray([[1.0, -1.0], [0.5, 2.0]]), jnp.asarray([0.3, 0.5])
    )


@pytest.fixture
def plan():
    return er_sde(karras_grid(PLAN_ROWS))


def test_sample_depends_on_its_own_key_alone(plan, mixture):
    # Samples of a batch, permuted and cut out of it: the same bits of noise, and floats to rounding.
    keys = jax.random.split(jax.random.key(3), 5)
    order = jnp.asarray([4, 0, 2])
    x = prior(plan, keys, (5, 2))
    np.testing.assert_array_equal(prior(plan, keys[order], (3, 2)), x[order])
    whole = sample(plan, mixture.denoiser, x, keys)
    part = sample(plan, mixture.denoiser, x[order], keys[order])
    np.testing.assert_allclose(part, whole[order], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["rational", "tanh"])
def test_samples_have_the_same_bits_in_any_batch_at_any_place_on_any_devices(name, x64):
    def rational(x, node):
        y = x / (1 + node.sigma)
        return y / (1 + y * y)

    def tanh(x, node):
        return jnp.tanh(x / (0.1 + node.sigma))

    pointwise = {"rational": rational, "tanh": tanh}[name]
    plan = er_sde(karras_grid(12))
    keys = jax.random.split(jax.random.key(0), 16)

    @jax.jit
    def run(plan, keys):
        return sample(plan, pointwise, prior(plan, keys, (len(keys), 3, 5)), keys)

    whole = np.asarray(run(plan, keys))
    for batch in (1, 2, 3, 5, 8):
        for start in (0, 1, 7):
            np.testing.assert_array_equal(
                run(plan, keys[start : start + batch]), whole[start : start + batch]
            )
    order = np.random.default_rng(0).permutation(16)
    np.testing.assert_array_equal(run(plan, keys[order]), whole[order])
    for devices in (1, 2, 4):
        on = mesh.generation_mesh(jax.devices()[:devices])
        spread = run(mesh.place(plan, mesh.everywhere(on)), mesh.shard_batch(on, keys))
        assert len(spread.sharding.device_set) == devices
        np.testing.assert_array_equal(spread, whole)


BITS = """
import jax, jax.numpy as jnp, numpy as np
from jaxcil.solvers import er_sde, karras_grid, prior, sample
jax.config.update("jax_enable_x64", True)
plan, keys = er_sde(karras_grid(12)), jax.random.split(jax.random.key(0), 13)
def denoiser(x, node):
    return jnp.tanh(x / (0.1 + node.sigma))
run = jax.jit(lambda keys: sample(plan, denoiser, prior(plan, keys, (len(keys), 3, 5)), keys))
whole = np.asarray(run(keys))
for start, batch in ((0, 1), (3, 2), (1, 5), (5, 8)):
    np.testing.assert_array_equal(run(keys[start : start + batch]), whole[start : start + batch])
"""


def test_samples_have_the_same_bits_with_the_compiler_s_optimisation_too():
    # the other tests run without it
    environment = {**os.environ, "XLA_FLAGS": ""}
    subprocess.run([sys.executable, "-c", BITS], check=True, env=environment, timeout=300)


def test_one_key_stands_for_its_fold_ins(plan, mixture):
    key = jax.random.key(8)
    keys = jnp.stack([jax.random.fold_in(key, b) for b in range(3)])
    x = prior(plan, key, (3, 2))
    np.testing.assert_array_equal(x, prior(plan, keys, (3, 2)))
    ours, theirs = (sample(plan, mixture.denoiser, x, k) for k in (key, keys))
    np.testing.assert_array_equal(ours, theirs)


def test_row_noise_is_the_fold_in_of_the_row(plan, mixture):
    keys = jax.random.split(jax.random.key(1), 2)
    noises = jnp.stack(
        [
            jnp.stack([jax.random.normal(jax.random.fold_in(key, row), (2,)) for key in keys])
            for row in range(PLAN_ROWS)
        ]
    )
    x = prior(plan, keys, (2, 2))
    ours, theirs = sample(plan, mixture.denoiser, x, keys), sample(plan, mixture.denoiser, x, noises=noises)
    # two programs round differently: a few float32 steps at values of order 1
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=3e-6)


def test_prior_shares_no_noise_with_any_row(plan):
    key = jax.random.key(2)
    z = prior(plan, key[None], (1, 4)) / jnp.hypot(plan.alpha[0], plan.sigma[0])
    for row in range(PLAN_ROWS):
        assert not np.any(np.isclose(z[0], jax.random.normal(jax.random.fold_in(key, row), (4,)), atol=1e-4))


def test_prior_has_the_variance_of_the_first_node(plan):
    # 4e4 draws: the standard error of the standard deviation is 3.5e-3 relative.
    x = prior(plan, jax.random.key(0), (20000, 2))
    np.testing.assert_allclose(x.std(), np.sqrt(80.0**2 + 1), rtol=1.5e-2)


def test_trajectory_is_the_run_itself(plan, mixture):
    key = jax.random.key(4)
    x = prior(plan, key, (3, 2))
    end, states, predictions = sample(plan, mixture.denoiser, x, key, trajectory=True)
    assert states.shape == (PLAN_ROWS + 1, 3, 2)
    assert predictions.shape == (PLAN_ROWS, 3, 2)
    np.testing.assert_array_equal(states[0], x)
    np.testing.assert_array_equal(states[-1], end)
    np.testing.assert_allclose(end, sample(plan, mixture.denoiser, x, key), rtol=1e-6)
    node = Node(plan.time[2], plan.alpha[2], plan.sigma[2])
    np.testing.assert_allclose(predictions[2], mixture.denoiser(states[2], node), rtol=1e-5)
    np.testing.assert_allclose(end, predictions[-1], rtol=1e-6)  # the grid ends at lam = 0


def test_a_loop_of_one_s_own_equals_sample(plan, mixture):
    noises = jax.random.normal(jax.random.key(5), (PLAN_ROWS, 3, 2))
    x = prior(plan, jax.random.key(6), (3, 2))
    state = init(plan, x)
    for i in range(PLAN_ROWS):
        state = step(plan, i, state, mixture.denoiser, noises[i])
    np.testing.assert_allclose(state.x, sample(plan, mixture.denoiser, x, noises=noises), rtol=1e-5)


def test_state_keeps_its_dtype_whatever_the_network_returns(plan, strict_dtypes):
    x = prior(plan, jax.random.key(0), (2, 4))
    out = sample(plan, lambda x, node: x.astype(jnp.bfloat16), x, jax.random.key(0))
    assert out.dtype == jnp.float32


def test_a_plan_without_noise_needs_no_key(mixture):
    plan = er_sde(karras_grid(4), ode())
    x = jnp.ones((2, 2))
    np.testing.assert_array_equal(
        sample(plan, mixture.denoiser, x), sample(plan, mixture.denoiser, x, jax.random.key(0))
    )
