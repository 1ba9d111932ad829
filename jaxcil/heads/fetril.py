"""FeTrIL: old classes as translated features of new ones (Petit et al., WACV 2023, arXiv:2211.13131).

Of an old class only its mean mu_o is kept. In a task, an old class takes the features of one new class, s(o):

    f~ = f - mu_s(o) + mu_o                 for every feature f of class s(o)             (1)

and a linear classifier is trained on the real features of the new classes and on the pseudo-features of all
old ones, each row scaled to length one after the translation:

    official   s(o) is the new class whose mean is nearest, by Euclidean distance of the raw means; the code
    pycil      s(o) is the new class whose mean has the largest cosine to mu_o; the paper, and PyCIL's port

The classifier is one squared-hinge support vector machine a class with C = 1 (`linear_svm.py`). The official
solver stops at a tolerance of 1e-4, up to 1.3e-3 from the optimum in a weight; here it is the optimum. The
official script also leaves its first 512 training rows unscaled while test rows are scaled, which costs most
of the accuracy on small data; that is not copied.
"""

from typing import Literal, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from jaxcil.errors import InputError, unknown_name
from jaxcil.heads.class_rows import class_bound, class_means, rows_of_class, task_rows, unit_rows
from jaxcil.heads.linear_svm import squared_hinge_svm

PRESETS = ("official", "pycil")


class FeTrILState(NamedTuple):
    """Class means and the classifier of the latest task."""

    means: Array  # [C, D] of the features as they come
    weights: Array  # [C, D + 1], the intercept last
    counts: Array  # [C] int32; 0 marks a class not seen yet


@flax.struct.dataclass
class FeTrIL:
    """FeTrIL with linear support vector machines; made by `fetril`."""

    regularisation: Array | float
    preset: str = flax.struct.field(pytree_node=False, default="official")
    images_a_class: int | None = flax.struct.field(pytree_node=False, default=None)

    def init(self, num_classes: int, feature_dim: int, key: Array | None = None) -> FeTrILState:
        """No class seen."""
        return FeTrILState(
            means=jnp.zeros((num_classes, feature_dim)),
            weights=jnp.zeros((num_classes, feature_dim + 1)),
            counts=jnp.zeros(num_classes, jnp.int32),
        )

    def update(
        self, state: FeTrILState, features: Array, labels: Array, key: Array | None = None
    ) -> FeTrILState:
        """Learns a task's features [B, D], labels [B] int32 (-1: padding), and a classifier of all seen.

        A class that comes again counts as new: its rows replace its mean. A task without rows changes nothing.
        Memory: C images_a_class training rows, and for each of them one margin a class.
        """
        features = task_rows(features, labels, like=state.means)
        means, counts = class_means(features, labels, state.counts.shape[0])
        new = counts > 0
        means, counts = jnp.where(new[:, None], means, state.means), jnp.where(new, counts, state.counts)
        rows, owners = self.pseudo_features(features, labels, means, new=new, seen=counts > 0)
        strength = jnp.asarray(self.regularisation, means.dtype)
        weights = squared_hinge_svm(rows, owners, counts.shape[0], strength)
        return FeTrILState(means, jnp.where(new.any(), weights, state.weights), counts)

    def scores(self, state: FeTrILState, features: Array) -> Array:
        """Decision values [B, C] of features [B, D]; -inf for a class not seen."""
        features = unit_rows(features.astype(state.means.dtype))
        scores = (
            jnp.matmul(features, state.weights[:, :-1].T, precision="highest") + state.weights[None, :, -1]
        )
        return jnp.where((state.counts > 0)[None, :], scores, -jnp.inf)

    def source_classes(self, means: Array, new: Array) -> Array:
        """s of equation (1), [C] int32: the new class whose rows a class takes; a new one takes its own.

        Args:
          means: [C, D].
          new: [C] bool, the classes of this task.
        """
        if self.preset == "pycil":
            directions = unit_rows(means)
            likeness = jnp.matmul(directions, directions.T, precision="highest")
        else:
            # A class at a time, without a [C, C, D] array; the expanded square would lose digits
            likeness = -jax.lax.map(lambda mean: jnp.square(means - mean[None, :]).sum(axis=1), means)
        nearest = jnp.argmax(jnp.where(new[None, :], likeness, -jnp.inf), axis=1)
        return jnp.where(new, jnp.arange(new.shape[0], dtype=jnp.int32), nearest.astype(jnp.int32))

    def pseudo_features(
        self, features: Array, labels: Array, means: Array, *, new: Array, seen: Array
    ) -> tuple[Array, Array]:
        """Training rows [C n, D] of length one, n a class in order, and their classes [C n] (-1: no row).

        Args:
          features: [B, D] of the task.
          labels: [B] int32; -1 marks padding.
          means: [C, D], this task's included.
          new: [C] bool, the classes of this task.
          seen: [C] bool, the classes of this task and all before.
        """
        size = class_bound(labels, self.images_a_class)
        if size is None:
            raise InputError(
                "FeTrIL's `update` under jit needs a bound on the images of one class.\n"
                "Give it as fetril(images_a_class=...): the size of the largest class of the whole run."
            )
        num_classes = means.shape[0]
        source = self.source_classes(means, new)
        rows_by_class = jax.vmap(lambda label: rows_of_class(labels, label, size))(
            jnp.arange(num_classes, dtype=labels.dtype)
        )
        rows = rows_by_class[source]  # [C, n]
        shift = jnp.where(new[:, None], 0, means - means[source])
        pseudo = features.at[rows].get(mode="fill", fill_value=0) + shift[:, None, :]
        real = (rows < labels.shape[0]) & seen[:, None]
        owners = jnp.where(real, jnp.arange(num_classes, dtype=jnp.int32)[:, None], -1)
        return unit_rows(pseudo).reshape(num_classes * size, -1), owners.reshape(-1)


def fetril(
    preset: Literal["official", "pycil"] = "official",
    *,
    regularisation: Array | float = 1.0,
    images_a_class: int | None = None,
) -> FeTrIL:
    """FeTrIL.

    Args:
      preset: how the source class is chosen, see above; nothing else differs.
      regularisation: C of the support vector machines, > 0; a leaf, so that a sweep may vmap over it. Larger
        fits the rows more closely. Checked where it is concrete.
      images_a_class: bound on the rows of one class. None reads it from the labels, which jit and vmap do not
        allow: there it must be given, and a class's rows beyond it are left out.
    """
    if preset not in PRESETS:
        raise unknown_name("FeTrIL preset", preset, PRESETS)
    if not isinstance(regularisation, Tracer) and not np.all(np.asarray(regularisation) > 0):
        raise InputError(f"regularisation must be > 0, got {regularisation}.")
    return FeTrIL(regularisation, preset=preset, images_a_class=images_a_class)
