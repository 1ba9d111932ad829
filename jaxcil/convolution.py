"""The convolution of every trained network: fast gradients inside loops and under vmap on a CPU.

XLA's CPU compiler moves convolutions to the layout that its fast kernels take (NHWC x HWIO) in the entry
computation only. The gradients that jax derives come in other layouts, so inside a `scan`, `fori_loop`,
`map` or `cond` they stay on a naive loop, some 30 times slower; and `vmap` over weights becomes a grouped
convolution, 3 to 4.5 times slower than one call after the other. Here, for x [B, H, W, I], w [h, w, I, O],
stride s and cotangent dy [B, H', W', O], both gradients are convolutions in that layout themselves,

    dx = conv(dy dilated by s, w flipped in space, I and O exchanged)                     (1)
    dw = conv(x as [I, H, W, B], dy as [H', W', B, O] dilated by s), transposed back      (2)

and a vmap over weights runs one convolution after the other. Thin layers leave vector units idle, so that q
neighbouring columns of an output (or of dy) are taken as q O channels, which is the same memory:

    y as [B, H', W' / q, q O] = conv(x, w at q shifts side by side, stride (s, q s))      (3)

A kernel of width w then multiplies q - 1 columns of zeros more, and is faster all the same. Equation (2) is summed
over blocks of images that stay in the cache: x and dy transposed as a whole do not.
On other platforms stock gradients and stock batching are kept, since those compilers match them to kernels of
their own. Forward mode does not pass the `custom_vjp`: a network that is only evaluated takes
`jax.lax.conv_general_dilated`.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

# Up to this many weights a vmap is unrolled; beyond it a loop keeps the program small, at some speed.
UNROLLED = 8
# Output channels at which the CPU's convolution reaches full speed, and columns taken together to reach that number.
LANES, MOST_COLUMNS = 32, 4
FEW_INPUTS = 8
CACHED = 2**18  # numbers of a block of images that stay in a core's cache


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


def _alone(window: _Window, x: Array, w: Array) -> Array:
    return lax.platform_dependent(
        x, w, cpu=functools.partial(_columns_at_once, window), default=functools.partial(_stock, window)
    )


def _columns_at_once(window: _Window, x: Array, w: Array) -> Array:
    """Equation (3): q neighbouring columns of the output as q O channels, whose memory is the same."""
    q = _thinness(w, LANES if w.shape[2] >= FEW_INPUTS else 2 * LANES)
    shape = jax.eval_shape(functools.partial(_stock, window), x, w).shape
    dilated = window.lhs_dilation != (1, 1) or window.rhs_dilation != (1, 1)
    if q == 1 or shape[2] % q or dilated:
        return _stock(window, x, w)
    down, across = window.strides
    shifted = [jnp.pad(w, ((0, 0), (j * across, (q - 1 - j) * across), (0, 0), (0, 0))) for j in range(q)]
    packed = window._replace(strides=(down, q * across))
    return _stock(packed, x, jnp.concatenate(shifted, axis=-1)).reshape(shape)


def _thinness(w: Array, lanes: int) -> int:
    """Columns that together fill the lanes; 1 where a kernel is so narrow that most of the work would be on zeros."""
    return 1 if w.shape[1] == 1 else max(1, min(MOST_COLUMNS, lanes // w.shape[-1]))


@functools.cache
def _batchable(window: _Window):
    """The convolution of one window with its rule for vmap; cached, so that equal windows share one trace."""
    single = jax.custom_batching.custom_vmap(functools.partial(_alone, window))

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
        return _input_gradient(window, x, w, dy), _weight_gradient_by_blocks(window, x, w, dy)

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


def _weight_gradient_by_blocks(window: _Window, x: Array, w: Array, dy: Array) -> Array:
    """Equation (2) summed over blocks of images."""
    blocks = _blocks(x, w, dy)

    def block(images: Array, n: Array) -> Array:
        # every n-th image, not neighbours: a batch that is spread over devices stays where it is
        apart = images.reshape(-1, blocks, *images.shape[1:])
        return lax.dynamic_index_in_dim(apart, n, axis=1, keepdims=False)

    def add(n: Array, total: Array) -> Array:
        return total + _weight_gradient(window, block(x, n), w, block(dy, n))

    # the sum of blocks is no worse than one product in the precision of its factors
    zeros = jnp.zeros(w.shape, jnp.promote_types(w.dtype, jnp.float32))
    return lax.fori_loop(0, blocks, add, zeros).astype(w.dtype)


def _blocks(x: Array, w: Array, dy: Array) -> int:
    """How many equal blocks of images fit the cache; 1 where the fitting divisors of B are much too small.

    A block is never smaller than the gradient, which every block is added to.
    """
    images = x.shape[0]
    fitting = max(CACHED, w.size) * images / (x.size + dy.size)
    sizes = [size for size in range(1, images + 1) if images % size == 0 and size <= fitting]
    return images // sizes[-1] if sizes and sizes[-1] >= fitting / 4 else 1


def _weight_gradient(window: _Window, x: Array, w: Array, dy: Array) -> Array:
    """Equation (2). The padding is what makes the output as large as w.

    Thin dy enters with q neighbouring columns as channels, each of which finds the gradient at a shift of its own.
    """
    outputs = dy.shape[-1]
    q = _thinness(w, LANES)
    q = 1 if dy.shape[2] % q else q
    dy = dy.reshape(*dy.shape[:2], dy.shape[2] // q, q * outputs)
    columns = w.shape[1] + (q - 1) * window.strides[1]
    padding, dilation = [], (window.strides[0], q * window.strides[1])
    for axis, size in enumerate((w.shape[0], columns)):
        before = window.padding[axis][0]
        dilated = (dy.shape[1 + axis] - 1) * dilation[axis] + 1
        padding.append((before, size - x.shape[1 + axis] - before + dilated - 1))
    correlation = _Window((1, 1), (padding[0], padding[1]), rhs_dilation=dilation, precision=window.precision)
    gradient = _batchable(correlation)(x.transpose(3, 1, 2, 0), dy.transpose(1, 2, 0, 3))
    parts = [
        gradient[:, :, j * window.strides[1] :, j * outputs :][:, :, : w.shape[1], :outputs] for j in range(q)
    ]
    return jnp.stack(parts).sum(0).transpose(1, 2, 0, 3)
