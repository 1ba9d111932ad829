"""The project's convolution against jax's own: values, gradients, batching and loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxcil import convolution
from jaxcil.convolution import UNROLLED, conv_general_dilated

CASES = {
    "3x3": ((2, 8, 8, 3), (3, 3, 3, 5), (1, 1), "SAME"),
    "strided": ((2, 8, 8, 4), (3, 3, 4, 6), (2, 2), "SAME"),
    "odd size, strided": ((3, 9, 7, 4), (3, 3, 4, 6), (2, 2), "SAME"),
    "1x1 strided": ((2, 9, 8, 4), (1, 1, 4, 6), (2, 2), "VALID"),
    "asymmetric padding": ((2, 8, 6, 4), (3, 3, 4, 2), (2, 2), [(0, 1), (0, 1)]),
    "unequal kernel and stride": ((2, 11, 9, 2), (5, 2, 2, 3), (3, 1), [(2, 1), (0, 1)]),
    "unused last rows": ((2, 10, 10, 2), (2, 2, 2, 3), (3, 3), "VALID"),
}


def arrays(x_shape, w_shape, lead_x=(), lead_w=()):
    keys = jax.random.split(jax.random.key(0), 2)
    # outputs of size 1: the gradients below see cos(y), and the rounding of a large y would be all of their error
    size = np.prod(w_shape[:-1]) ** -0.5
    return jax.random.normal(keys[0], (*lead_x, *x_shape)), size * jax.random.normal(
        keys[1], (*lead_w, *w_shape)
    )


def value_and_gradients(convolution, strides, padding, x, w):
    def loss(x, w):
        y = convolution(x, w, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jnp.sum(jnp.sin(y)), y

    (_, y), gradients = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(x, w)
    return y, *gradients


def stock(strides, padding, x, w):
    """Values and gradients of jax's own convolution in float64: in float32 it rounds as ours does."""
    with jax.enable_x64(True):
        wide = (jnp.asarray(np.asarray(array), jnp.float64) for array in (x, w))
        return [
            np.asarray(part)
            for part in value_and_gradients(lax.conv_general_dilated, strides, padding, *wide)
        ]


def assert_close(ours, expected):
    for one, other in zip(ours, expected):
        # float32 sums over at most a few hundred products
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_values_and_both_gradients_are_those_of_the_stock_convolution(case):
    x_shape, w_shape, strides, padding = case
    x, w = arrays(x_shape, w_shape)
    assert_close(
        value_and_gradients(conv_general_dilated, strides, padding, x, w),
        stock(strides, padding, x, w),
    )


@pytest.mark.parametrize("seeds", [3, UNROLLED + 1], ids=["unrolled", "looped"])
@pytest.mark.parametrize("axes", [(0, 0), (None, 0), (0, None)], ids=["both", "weights", "images"])
@pytest.mark.parametrize("case", list(CASES.values())[:4], ids=list(CASES)[:4])
def test_vmap_over_weights_or_images_equals_a_loop_of_stock_convolutions(case, axes, seeds):
    x_shape, w_shape, strides, padding = case
    x, w = arrays(x_shape, w_shape, *[() if axis is None else (seeds,) for axis in axes])
    ours = jax.vmap(functools.partial(value_and_gradients, conv_general_dilated, strides, padding), axes)(
        x, w
    )
    loop = [
        stock(strides, padding, x if axes[0] is None else x[n], w if axes[1] is None else w[n])
        for n in range(seeds)
    ]
    assert_close(ours, [np.stack(parts) for parts in zip(*loop)])


@pytest.mark.parametrize(
    ("images", "cached", "blocks"),
    [(6, 1200, 3), (7, 1200, 7), (7, 3000, 1)],
    ids=["of two images", "of one", "none where only far smaller ones divide the batch"],
)
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)], ids=["plain", "strided"])
def test_a_weight_gradient_summed_over_blocks_is_the_stock_one(monkeypatch, strides, images, cached, blocks):
    x, w = arrays((images, 8, 8, 3), (3, 3, 3, 5))
    monkeypatch.setattr(convolution, "CACHED", cached)
    assert convolution._blocks(x, w, jnp.zeros((images, 8, 8, 5))) == blocks
    assert_close(
        value_and_gradients(conv_general_dilated, strides, "SAME", x, w),
        stock(strides, "SAME", x, w),
    )


def test_a_blocked_gradient_under_vmap_equals_a_loop(monkeypatch):
    monkeypatch.setattr(convolution, "CACHED", 1200)
    x, w = arrays((6, 8, 8, 3), (3, 3, 3, 5), (2,), (2,))
    ours = jax.vmap(functools.partial(value_and_gradients, conv_general_dilated, (1, 1), "SAME"))(x, w)
    for seed in range(2):
        expected = stock((1, 1), "SAME", x[seed], w[seed])
        assert_close([part[seed] for part in ours], expected)


def test_vmap_of_a_vmap_equals_two_loops():
    x, w = arrays((2, 6, 6, 3), (3, 3, 3, 4), (2, 3), (2, 3))
    inner = functools.partial(value_and_gradients, conv_general_dilated, (2, 2), "SAME")
    ours = jax.vmap(jax.vmap(inner))(x, w)
    for a in range(2):
        for b in range(3):
            expected = stock((2, 2), "SAME", x[a, b], w[a, b])
            assert_close([part[a, b] for part in ours], expected)


def test_gradients_inside_a_scan_are_those_outside():
    x, w = arrays((2, 8, 8, 3), (3, 3, 3, 3))

    def step(w, _):
        return w - 0.01 * value_and_gradients(conv_general_dilated, (1, 1), "SAME", x, w)[2], None

    scanned = jax.jit(lambda w: lax.scan(step, w, length=3)[0])(w)
    for _ in range(3):
        w, _ = step(w, None)
    np.testing.assert_allclose(scanned, w, rtol=1e-5, atol=1e-6)


def test_dilated_and_grouped_convolutions_take_the_stock_path():
    x, w = arrays((2, 8, 8, 4), (3, 3, 2, 4))
    grouped = conv_general_dilated(
        x,
        w,
        (1, 1),
        "SAME",
        rhs_dilation=(2, 2),
        feature_group_count=2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    expected = lax.conv_general_dilated(
        x,
        w,
        (1, 1),
        "SAME",
        rhs_dilation=(2, 2),
        feature_group_count=2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    np.testing.assert_array_equal(grouped, expected)


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_a_gradient_under_vmap_is_exported_for_every_platform(platform):
    x, w = arrays((2, 8, 8, 3), (3, 3, 3, 4), (2,), (2,))
    step = jax.jit(jax.vmap(functools.partial(value_and_gradients, conv_general_dilated, (2, 2), "SAME")))
    exported = jax.export.export(step, platforms=[platform])(x, w)
    assert exported.platforms == (platform,)
    assert [value.shape for value in exported.out_avals] == [
        (2, 2, 4, 4, 4),
        (2, 2, 8, 8, 3),
        (2, 3, 3, 3, 4),
    ]
