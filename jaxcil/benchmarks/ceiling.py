"""The fastest matrix product of this device, with which the speed of a network is compared."""

import time
from typing import Any

import jax
import jax.numpy as jnp

SIDES = (1024, 2048, 4096, 8192, 16384)
LONG = 0.3  # seconds of a product beyond which larger ones show nothing new
PRODUCTS = 8  # in flight, so that starting one is hidden behind the one before
REPEATS = 5


def matmul_ceiling(dtype: Any) -> float:
    """Operations per second of the best of several square products of random matrices, on one device.

    Random, because on zeros a chip draws less power and runs faster. The precision is jax's default for the dtype, as
    in the networks.

    Args:
      dtype: of the factors and of the result.
    """
    product = jax.jit(jnp.matmul)
    best = 0.0
    for side in SIDES:
        keys = jax.random.split(jax.random.key(side))
        left, right = (jax.random.normal(key, (side, side), dtype) for key in keys)
        jax.block_until_ready(product(left, right))  # compiles
        count = PRODUCTS if _seconds(product, left, right, 1) < LONG / PRODUCTS else 1
        seconds = min(_seconds(product, left, right, count) for _ in range(REPEATS))
        best = max(best, 2 * side**3 / seconds)
        if seconds > LONG:
            break
    return best


def _seconds(product: Any, left: jax.Array, right: jax.Array, count: int) -> float:
    start = time.perf_counter()
    jax.block_until_ready([product(left, right) for _ in range(count)])
    return (time.perf_counter() - start) / count
