"""Herding: the exemplars of a class, picked so that their mean stays near the mean of the class.

With mu the mean of the class's features u, each scaled to length one, and p_1, p_2, ... the picks in order, both
rules in use differ in one vector,

    w_k = k mu - sum_{j<k} u(p_j)                                                   (1)
    argmin | mu - (u + sum_{j<k} u(p_j)) / k |^2   =   argmax <w_k, u> - |u|^2 / 2      (2)

    pycil   (2) over the images that are not picked yet: the paper's rule, and PyCIL's
    icarl   argmax <w_k, u> over all images. One that was picked before is not kept twice, but k and the sum in
            (1) count it again; at most 1000 rounds. The code of iCaRL, LUCIR and PODNet

mu is not scaled to length one again. The two rules share only a part of their lists. Rebuffi et al., iCaRL,
arXiv:1611.07725, algorithm 4; in it the pick of (2) is written over all images.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from jaxcil.errors import InputError, unknown_name
from jaxcil.heads.class_statistics import class_bound, task_rows
from jaxcil.losses.unit import unit_rows

MAX_ROUNDS = 1000
RULES = ("icarl", "pycil")


def herding(
    features: Array,
    labels: Array,
    num_classes: int,
    *,
    exemplars: int,
    rule: Literal["pycil", "icarl"] = "pycil",
    images_per_class: int | None = None,
) -> Array:
    """Row numbers [C, exemplars] int32 of each class's exemplars, best first; -1 where a class has no more.

    The first m of them are what herding with m exemplars gives, so a memory that shrinks is cut.
    Memory: C images_per_class^2.

    Args:
      features: [B, D], of any length; scaled to length one here.
      labels: [B] int32 in [0, C); -1 marks padding.
      num_classes: C. A class without rows gets -1.
      exemplars: at least 1; static.
      rule: which of the two above.
      images_per_class: bound on the rows of one class. None reads it from the labels, or takes B under jit, which
        is right too but costs more.

    Raises:
      InputError: an unknown rule, fewer than one exemplar, shapes or labels that do not fit, or a bound that the
        labels exceed.
    """
    if rule not in RULES:
        raise unknown_name("herding rule", rule, RULES)
    if exemplars < 1:
        raise InputError(f"expected at least 1 exemplar a class, got {exemplars}.")
    like = jax.ShapeDtypeStruct((num_classes, *features.shape[1:]), features.dtype)
    features = task_rows(features, labels, like=like)
    size = class_bound(labels, images_per_class) or labels.shape[0]
    return _picked(features, labels, num_classes, size, exemplars, rule)


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5))  # one program for all tasks
def _picked(features: Array, labels: Array, num_classes: int, size: int, exemplars: int, rule: str) -> Array:
    pick = {"icarl": _with_repeats, "pycil": _without_repeats}[rule]

    def of_class(label: Array) -> Array:
        rows = jnp.nonzero(labels == label, size=size, fill_value=labels.shape[0])[0]
        images = unit_rows(features.at[rows].get(mode="fill", fill_value=0))
        picks = pick(images, rows < labels.shape[0], exemplars)
        return rows.at[picks].get(mode="fill", fill_value=-1).astype(jnp.int32)

    return jax.vmap(of_class)(jnp.arange(num_classes, dtype=labels.dtype))


def _likeness(images: Array, real: Array) -> tuple[Array, Array]:
    """<u, u'> [n, n] of all pairs and <mu, u> [n]: with them, a round costs n instead of n D."""
    pairs = jnp.matmul(images, images.T, precision="highest")
    return pairs, pairs.sum(axis=1) / jnp.maximum(real.sum(), 1).astype(images.dtype)


def _without_repeats(images: Array, real: Array, exemplars: int) -> Array:
    """Places [exemplars] of the picks among the images [n, D]; n, which is none, fills the rest."""
    pairs, mean = _likeness(images, real)

    def pick(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        towards, left = carry
        place = jnp.argmax(jnp.where(left, towards - jnp.diagonal(pairs) / 2, -jnp.inf))
        picked = jnp.where(left.any(), place, real.shape[0])
        return (towards + mean - pairs[:, place], left.at[place].set(False)), picked

    return jax.lax.scan(pick, (mean, real), length=exemplars)[1]


def _with_repeats(images: Array, real: Array, exemplars: int) -> Array:
    """Places [exemplars] of the picks among the images [n, D]; n, which is none, fills the rest."""
    pairs, mean = _likeness(images, real)
    none = real.shape[0]
    quota = jnp.minimum(real.sum(), exemplars)

    def pick(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        towards, picks, count, round_ = carry
        place = jnp.argmax(jnp.where(real, towards, -jnp.inf))
        again = (picks == place).any()
        picks = picks.at[jnp.where(again, exemplars, count)].set(place, mode="drop")
        return towards + mean - pairs[:, place], picks, jnp.where(again, count, count + 1), round_ + 1

    def unfinished(carry: tuple[Array, Array, Array, Array]) -> Array:
        return (carry[2] < quota) & (carry[3] < MAX_ROUNDS)

    start = mean, jnp.full(exemplars, none), jnp.zeros_like(quota), jnp.zeros((), jnp.int32)
    return jax.lax.while_loop(unfinished, pick, start)[1]
