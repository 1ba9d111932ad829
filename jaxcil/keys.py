"""Every random key of the project is folded here: by purpose, class, index, task, epoch.

One root seed a run. A key is `fold_in(fold_in(root, purpose), ...)`, so that image (class, index) has
the same noise on 1 or 256 chips, in any batch and after any restart, and no purpose shares its stream
with another.
"""

import zlib

import jax
from jax import Array


def root_key(seed: int) -> Array:
    """The root key of a run."""
    # named, whatever jax_default_prng_impl says: other kinds draw other numbers in other batches
    return jax.random.key(seed, impl="threefry2x32")


def purpose_key(root: Array, purpose: str) -> Array:
    """The key of one purpose ("images", "initial weights", "batches"), by the checksum of its name."""
    return jax.random.fold_in(root, zlib.crc32(purpose.encode()))


def fold(key: Array, *numbers: Array | int) -> Array:
    """Folds numbers (class, index; task, epoch; step) into a key, one after the other."""
    for number in numbers:
        key = jax.random.fold_in(key, number)
    return key


def image_keys(root: Array, classes: Array, indices: Array) -> Array:
    """One key per image of a synthetic data set.

    Args:
      root: the root key of the data set.
      classes: [B] position of each image's class in the data set's append-only class list.
      indices: [B] number of the image within its class.

    Returns:
      Keys [B], each a function of (root, class, index) alone.
    """
    key = purpose_key(root, "images")
    return jax.vmap(lambda c, i: fold(key, c, i))(classes, indices)
