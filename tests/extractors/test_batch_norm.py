"""Batch normalisation against float64, against flax's and torch's conventions, and the stored residual sum."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.extractors.batch_norm import BatchNorm, batch_normalise, relu_of_sum


def arrays(shape=(6, 5, 4, 3), mean=0.5):
    keys = jax.random.split(jax.random.key(0), 4)
    x, dy = (jax.random.normal(key, shape, jnp.float32) for key in keys[:2])
    scale, bias = (jax.random.normal(key, shape[-1:], jnp.float32) for key in keys[2:])
    return x + mean, scale, bias, dy


def plain(x, scale, bias):
    axes, lead = tuple(range(x.ndim - 1)), (1,) * (x.ndim - 1)
    mean, var = x.mean(axes), x.var(axes)
    normalised = (x - mean.reshape(*lead, -1)) / jnp.sqrt(var + 1e-5).reshape(*lead, -1)
    return normalised * scale.reshape(*lead, -1) + bias.reshape(*lead, -1)


def with_gradients(function, x, scale, bias, dy):
    y, pull = jax.vjp(function, x, scale, bias)
    return y, *pull(dy)


@pytest.mark.parametrize("mean", [0.5, 30.0], ids=["as in networks", "far from zero"])
def test_values_and_gradients_are_those_of_the_derivative_in_float64(mean):
    given = arrays(mean=mean)
    ours = with_gradients(lambda *a: batch_normalise(*a)[0], *given)
    with jax.enable_x64(True):
        exact = with_gradients(plain, *(np.asarray(a, np.float64) for a in given))
    for one, other in zip(ours, exact):
        # float32 sums over 120 numbers of the size of the mean
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6 * max(1, mean) * np.abs(other).max())


def test_a_shift_of_the_input_changes_nothing_and_its_scale_only_epsilon(x64):
    x, scale, bias, _ = (np.asarray(a, np.float64) for a in arrays())
    y, _, var = batch_normalise(x, scale, bias)
    np.testing.assert_allclose(batch_normalise(x + 7.0, scale, bias)[0], y, atol=1e-12)
    # v + epsilon of 1000 x is that of x up to 1e-5 / v
    np.testing.assert_allclose(batch_normalise(1e3 * x, scale, bias)[0], y, rtol=0, atol=3e-5 / var.min())


def test_the_gradient_is_orthogonal_to_what_the_output_does_not_depend_on(x64):
    x, scale, bias, dy = (np.asarray(a, np.float64) for a in arrays())
    dx = jax.vjp(lambda x: batch_normalise(x, scale, bias)[0], x)[1](dy)[0]
    np.testing.assert_allclose(dx.sum((0, 1, 2)), 0, atol=1e-12)  # adding a constant


def test_vmap_over_seeds_equals_a_loop():
    given = [arrays(mean=mean) for mean in (0.0, 1.0, 2.0)]
    function = lambda *a: with_gradients(lambda *b: batch_normalise(*b)[0], *a)  # noqa: E731
    together = jax.vmap(function)(*(jnp.stack(a) for a in zip(*given)))
    for seed, one in enumerate(given):
        for ours, alone in zip(together, function(*one)):
            np.testing.assert_allclose(ours[seed], alone, rtol=1e-5, atol=1e-5)


def test_the_running_variance_is_unbiased_and_the_rest_is_flax_batch_norm():
    x, scale, bias, _ = arrays()
    count = x.size // x.shape[-1]
    params = {"params": {"scale": scale, "bias": bias}}
    stats = {"batch_stats": {"mean": jnp.full(3, 0.2), "var": jnp.full(3, 1.5)}}
    ours, after = BatchNorm(train=True).apply(params | stats, x, mutable=["batch_stats"])
    flax = nn.BatchNorm(False, momentum=0.9, epsilon=1e-5, use_fast_variance=False)
    expected, flax_after = flax.apply(params | stats, x, mutable=["batch_stats"])
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)
    ours_after, flax_after = after["batch_stats"], flax_after["batch_stats"]
    np.testing.assert_allclose(ours_after["mean"], flax_after["mean"], rtol=1e-6)
    moved = (np.asarray(a["var"]) - 0.9 * 1.5 for a in (ours_after, flax_after))
    np.testing.assert_allclose(next(moved), next(moved) * count / (count - 1), rtol=1e-5)
    evaluated = BatchNorm(train=False).apply(params | stats, x)
    expected = flax.clone(use_running_average=True).apply(params | stats, x)
    np.testing.assert_allclose(evaluated, expected, rtol=1e-5, atol=1e-5)


def test_bfloat16_keeps_its_dtype_and_float32_statistics():
    x, scale, bias, dy = arrays()
    y, mean, var = batch_normalise(x.astype(jnp.bfloat16), scale, bias)
    assert (y.dtype, mean.dtype, var.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    dx = jax.vjp(lambda x: batch_normalise(x, scale, bias)[0], x.astype(jnp.bfloat16))[1](
        dy.astype(jnp.bfloat16)
    )
    assert dx[0].dtype == jnp.bfloat16


def test_the_rectified_sum_and_its_gradient_are_those_of_relu_to_the_bit():
    a, _, _, b = arrays()
    b = b.at[0].set(-a[0])  # ties
    for ours, stock in zip(
        jax.vjp(relu_of_sum, a, b)[1](a), jax.vjp(lambda a, b: nn.relu(a + b), a, b)[1](a)
    ):
        np.testing.assert_array_equal(ours, stock)
    np.testing.assert_array_equal(relu_of_sum(a, b), nn.relu(a + b))
