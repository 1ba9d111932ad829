"""The convolution of every trained network: fast gradients inside loops and under vmap on a CPU.

XLA's CPU compiler moves convolutions to the layout that its fast kernels take (NHWC x HWIO) in the entry
computation only. The gradients that jax derives come in other layouts, so inside a `scan`, `fori_loop`,
`map` or `cond` they stay on a naive loop, some 30 times slower; and `vmap` over weights becomes a grouped
convolution, 3 to 4.5 times slower than one call after the other. Here, for x [B, H, W, I], w [h, w, I, O],
stride s and cotangent dy [B, H', W', O], both gradients are convolutions in that layout themselves,

    dx = conv(dy dilated by s, w flipped in space, I and O exchanged)                     (1)
    dw = conv(x as [I, H, W, B], dy as [H', W', B, O] dilated by s), transposed back      (2)

and a vmap over weights runs one convolution after the other. On other platforms stock gradients and stock
batching are kept, since those compilers match them to kernels of their own. Forward mode does not pass the
`custom_vjp`: a network that is only evaluated takes `jax.lax.conv_general_dilated`.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

# Up to this many weights a vmap is unrolled; beyond it a loop keeps the program small, at some speed.
UNROLLED = 8


class _Window(NamedTuple):
    """What of a convolution is static."""

    strides: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    lhs_dilation: tuple[int, int] = (1, 1)
    rhs_dilation: tuple[int, int] = (1, 1)
    precision: Any = None


def conv_general_dilated(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:
    """`jax.lax.conv_general_dilated`, to be handed to `flax.linen.Conv(conv_general_dilated=...)`.

    Two-dimensional NHWC x HWIO convolutions without dilation or groups take the rules of this module; all
    others go to the stock function.

    Args:
      lhs: images [B, H, W, I].
      rhs: kernel [h, w, I, O].
      window_strides: two positive numbers.
      padding: "SAME", "VALID" or two pairs.
      lhs_dilation: as in the stock function, as are the arguments that follow.
      rhs_dilation: as above.
      dimension_numbers: as above.
      feature_group_count: as above.
      batch_group_count: as above.
      precision: as above.
      preferred_element_type: as above.

    Returns:
      [B, H', W', O]; values and gradients are those of the stock function.
    """
    layout = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    nhwc = lhs.ndim == 4 and layout == lax.conv_dimension_numbers(
        lhs.shape, rhs.shape, ("NHWC", "HWIO", "NHWC")
    )
    undilated = all(d == 1 for d in (*(lhs_dilation or ()), *(rhs_dilation or ())))
    ungrouped = feature_group_count == 1 and batch_group_count == 1
    if not (nhwc and undilated and ungrouped and preferred_element_type is None):
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            dimension_numbers,
            feature_group_count,
            batch_group_count,
            precision,
            preferred_element_type,
        )
    strides = (int(window_strides[0]), int(window_strides[1]))
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], strides, padding)
    (top, bottom), (left, right) = padding
    window = _Window(strides, ((int(top), int(bottom)), (int(left), int(right))), precision=precision)
    return _convolution(window, lhs, rhs)


def _stock(window: _Window, x: Array, w: Array) -> Array:
    return lax.conv_general_dilated(
        x,
        w,
        window.strides,
        window.padding,
        window.lhs_dilation,
        window.rhs_dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=window.precision,
    )


@functools.cache
def _batchable(window: _Window):
    """The convolution of one window with its rule for vmap; cached, so that equal windows share one trace."""
    single = jax.custom_batching.custom_vmap(functools.partial(_stock, window))

    @single.def_vmap
    def rule(axis_size: int, in_batched: list[bool], x: Array, w: Array) -> tuple[Array, bool]:
        x_batched, w_batched = in_batched
        if not w_batched:  # equal weights: the seeds are but more images
            y = single(x.reshape(-1, *x.shape[2:]), w)
            return y.reshape(axis_size, -1, *y.shape[1:]), True

        def one_by_one(x: Array, w: Array) -> Array:
            if axis_size > UNROLLED:
                return lax.map(lambda n: single(x[n] if x_batched else x, w[n]), jnp.arange(axis_size))
            return jnp.stack([single(x[n] if x_batched else x, w[n]) for n in range(axis_size)])

        def grouped(x: Array, w: Array) -> Array:
            return jax.vmap(functools.partial(_stock, window), in_axes=(0 if x_batched else None, 0))(x, w)

        return lax.platform_dependent(x, w, cpu=one_by_one, default=grouped), True

    return single


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolution(window: _Window, x: Array, w: Array) -> Array:
    return _batchable(window)(x, w)


def _forward(window: _Window, x: Array, w: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolution(window, x, w), (x, w)


def _backward(window: _Window, residuals: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    def stock(x: Array, w: Array, dy: Array) -> tuple[Array, Array]:
        return jax.vjp(functools.partial(_stock, window), x, w)[1](dy)

    def canonical(x: Array, w: Array, dy: Array) -> tuple[Array, Array]:
        return _input_gradient(window, x, w, dy), _weight_gradient(window, x, w, dy)

    return lax.platform_dependent(*residuals, dy, cpu=canonical, default=stock)


_convolution.defvjp(_forward, _backward)


def _input_gradient(window: _Window, x: Array, w: Array, dy: Array) -> Array:
    """Equation (1). The padding is what makes the output as large as x."""
    padding = []
    for axis, stride in enumerate(window.strides):
        before = w.shape[axis] - 1 - window.padding[axis][0]
        dilated = (dy.shape[1 + axis] - 1) * stride + 1
        padding.append((before, x.shape[1 + axis] - dilated - before + w.shape[axis] - 1))
    transposed = _Window((1, 1), (padding[0], padding[1]), window.strides, precision=window.precision)
    return _batchable(transposed)(dy, jnp.flip(w, (0, 1)).transpose(0, 1, 3, 2))


def _weight_gradient(window: _Window, x: Array, w: Array, dy: Array) -> Array:
    """Equation (2). The padding is what makes the output as large as w."""
    padding = []
    for axis, stride in enumerate(window.strides):
        before = window.padding[axis][0]
        dilated = (dy.shape[1 + axis] - 1) * stride + 1
        padding.append((before, w.shape[axis] - x.shape[1 + axis] - before + dilated - 1))
    correlation = _Window(
        (1, 1), (padding[0], padding[1]), rhs_dilation=window.strides, precision=window.precision
    )
    gradient = _batchable(correlation)(x.transpose(3, 1, 2, 0), dy.transpose(1, 2, 0, 3))
    return gradient.transpose(1, 2, 0, 3)
