"""Exemplars: the real images of past classes that a learner may keep, as row numbers of the pool.

The memory is int32 [C, M], a list per class in the order in which its images were picked, -1 behind. A list that must
shrink, because a total is shared by more classes, is cut to its first entries. (The codes of LUCIR and DER store a list
in the order of its rows, but they too keep the images of the first picks.)
"""

import functools
from typing import Literal

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil.heads.class_statistics import rows_by_class
from jaxcil.losses.unit import unit_rows
from jaxcil.memory.herding import herding

RULES = ("icarl", "pycil", "random", "all")


@flax.struct.dataclass
class Exemplars:
    """How many images are kept, and which. All of it is static.

    Attributes:
      per_class: images of each class; or
      total: images of all classes seen together: each class has total // seen of them.
      rule: herding by one of `herding.RULES`; "random"; or "all", in the order of the rows.
    """

    per_class: int | None = flax.struct.field(pytree_node=False, default=None)
    total: int | None = flax.struct.field(pytree_node=False, default=None)
    rule: Literal["icarl", "pycil", "random", "all"] = flax.struct.field(pytree_node=False, default="pycil")

    def quota(self, seen: int) -> int:
        """Images of each class when that many classes have been seen."""
        return self.per_class if self.per_class is not None else (self.total or 0) // max(1, seen)

    def choose(
        self,
        features: Array,
        labels: Array,
        num_classes: int,
        count: int,
        key: Array,
        images_per_class: int | None = None,
    ) -> Array:
        """Places [C, count] of each class's exemplars among the rows, best first; -1 where a class has no more.

        Args:
          features: [R, D]; only herding looks at them.
          labels: int32 [R] in [0, C); -1 marks padding.
          num_classes: C.
          count: at least 1.
          key: of the random rule.
          images_per_class: bound on the rows of one class; None reads it from the labels, so that tasks whose largest
            class differs compile anew.
        """
        size = images_per_class or max(1, int(np.bincount(np.asarray(labels) + 1)[1:].max(initial=1)))
        if self.rule == "all":
            rows = rows_by_class(labels, num_classes, count)
            return jnp.where(rows == labels.shape[0], -1, rows).astype(jnp.int32)
        if self.rule == "random":
            return _at_random(labels, num_classes, size, count, key)
        return herding(features, labels, num_classes, exemplars=count, rule=self.rule, images_per_class=size)


def cut(memory: Array, count: int) -> Array:
    """A memory [C, M] whose lists keep their first entries."""
    return jnp.where(jnp.arange(memory.shape[1]) < count, memory, -1)


def mean_of_units(features: Array, kept: Array, epsilon: float = 0.0) -> Array:
    """Means [C, D] of the unit features of exemplars [C, M, D]; zero for a class without any.

    Scaled to length one they are iCaRL's means of exemplars (Rebuffi et al., CVPR 2017, algorithm 1).

    Args:
      features: [C, M, D].
      kept: bool [C, M].
      epsilon: added to every length, as public codes do.
    """
    rows = jnp.where(kept[..., None], unit(features, epsilon), 0)
    return rows.sum(1) / jnp.maximum(kept.sum(1), 1)[:, None].astype(features.dtype)


def unit(x: Array, epsilon: float = 0.0) -> Array:
    """x [..., D] over its length plus epsilon; with epsilon 0, zero stays zero."""
    if not epsilon:
        return unit_rows(x)
    return x / (jnp.sqrt(jnp.square(x).sum(-1, keepdims=True)) + epsilon)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _at_random(labels: Array, num_classes: int, size: int, count: int, key: Array) -> Array:
    rows = rows_by_class(labels, num_classes, size)
    draws = jax.random.uniform(key, rows.shape) + (rows == labels.shape[0])
    order = jnp.argsort(draws, axis=1)[:, :count]
    picked = jnp.take_along_axis(rows, order, axis=1)
    picked = jnp.pad(picked, ((0, 0), (0, max(0, count - size))), constant_values=labels.shape[0])
    return jnp.where(picked == labels.shape[0], -1, picked).astype(jnp.int32)
