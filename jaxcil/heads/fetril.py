"""FeTrIL: old classes as translated features of new ones (Petit et al., WACV 2023, arXiv:2211.13131).

Of an old class only its mean mu_o is kept. In a task, an old class takes the features of one new class, s(o):

    f~ = f - mu_s(o) + mu_o                 for every feature f of class s(o)             (1)

and a linear classifier is trained on the real features of the new classes and on the pseudo-features of all
old ones. Presets differ in the source class alone:

    official   s(o) is the new class whose mean is nearest, by Euclidean distance of the raw means; the code
    pycil      s(o) is the new class whose mean has the largest cosine to mu_o; the paper, and PyCIL's port

The classifier (`linear_models.py`) is one of

    svm     one squared-hinge support vector machine per class with C = 1, on rows scaled to length one after the
            translation. Both codes hand this problem to liblinear, which stops at a tolerance of 1e-4, up to 1.3e-3
            from the optimum in a weight; here it is the optimum
    fc      softmax regression by SGD on rows as they are, as PyCIL trains it: 50 epochs, batches of 128, learning
            rate 0.05, weight decay 5e-4; old classes start from the weights of the task before
    ridge   ridge regression onto one-hot targets, on rows scaled to length one; in neither code

The official script leaves its first 512 training rows unscaled while test rows are scaled, which costs most of the
accuracy on small data; that is not copied.
"""

from typing import Literal, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from jaxcil.errors import InputError, unknown_name
from jaxcil.heads.class_statistics import (
    check_positive,
    check_size,
    class_bound,
    class_means,
    known_classes_only,
    rows_by_class,
    scored_rows,
    task_rows,
)
from jaxcil.heads.linear_models import Ridge, Softmax, SupportVectors, linear_scores
from jaxcil.heads.linear_svm import LARGEST
from jaxcil.losses.unit import unit_rows

SOURCES = {"official": "euclidean", "pycil": "cosine"}
CLASSIFIERS = ("svm", "fc", "ridge")


class FeTrILState(NamedTuple):
    """Class means and the classifier of the latest task."""

    means: Array  # [C, D] of the features as they come
    weights: Array  # [C, D + 1], the intercept last
    counts: Array  # [C] int32; 0 marks a class not seen yet


@flax.struct.dataclass
class FeTrIL:
    """FeTrIL; made by `fetril`."""

    classifier: SupportVectors | Softmax | Ridge
    source: str = flax.struct.field(pytree_node=False, default="euclidean")
    images_per_class: int | None = flax.struct.field(pytree_node=False, default=None)

    @property
    def scores_are_logits(self) -> bool:
        """True of classifier fc; decision values and regressions are none."""
        return isinstance(self.classifier, Softmax)

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
        Memory: C images_per_class training rows, and for svm one margin per class for each of them. Only the
        classifier fc needs the key.
        """
        features = task_rows(features, labels, like=state.means)
        means, counts = class_means(features, labels, state.counts.shape[0])
        new = counts > 0
        means, counts = jnp.where(new[:, None], means, state.means), jnp.where(new, counts, state.counts)
        rows, owners = self.pseudo_features(features, labels, means, new=new, seen=counts > 0)
        weights = self.classifier.fit(rows, owners, state.weights, key)
        return FeTrILState(means, jnp.where(new.any(), weights, state.weights), counts)

    def scores(self, state: FeTrILState, features: Array) -> Array:
        """Decision values or logits [B, C] of features [B, D]; -inf for a class not seen."""
        features = scored_rows(features, like=state.means)
        features = unit_rows(features) if self.classifier.unit else features
        return known_classes_only(linear_scores(state.weights, features), state.counts)

    def source_classes(self, means: Array, new: Array) -> Array:
        """s of equation (1), [C] int32: the new class whose rows a class takes; a new one takes its own.

        Args:
          means: [C, D].
          new: [C] bool, the classes of this task.
        """
        if self.source == "cosine":
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
        """Training rows [C n, D] of the classifier, n a class in order, and their classes [C n] (-1: no row).

        Args:
          features: [B, D] of the task.
          labels: [B] int32; -1 marks padding.
          means: [C, D], this task's included.
          new: [C] bool, the classes of this task.
          seen: [C] bool, the classes of this task and all before.
        """
        size = class_bound(labels, self.images_per_class)
        if size is None:
            raise InputError(
                "FeTrIL's `update` under jit needs a bound on the images of one class.\n"
                "Give it as fetril(images_per_class=...): the size of the largest class of the whole run."
            )
        num_classes = means.shape[0]
        source = self.source_classes(means, new)
        rows = rows_by_class(labels, num_classes, size)[source]  # [C, n]
        shift = jnp.where(new[:, None], 0, means - means[source])
        pseudo = features.at[rows].get(mode="fill", fill_value=0) + shift[:, None, :]
        real = (rows < labels.shape[0]) & seen[:, None]
        owners = jnp.where(real, jnp.arange(num_classes, dtype=jnp.int32)[:, None], -1)
        pseudo = unit_rows(pseudo) if self.classifier.unit else pseudo
        return pseudo.reshape(num_classes * size, -1), owners.reshape(-1)


def fetril(
    preset: Literal["official", "pycil"] = "official",
    *,
    classifier: Literal["svm", "fc", "ridge"] = "svm",
    source: Literal["euclidean", "cosine"] | None = None,
    regularisation: Array | float = 1.0,
    ridge: Array | float = 1.0,
    learning_rate: Array | float = 0.05,
    weight_decay: Array | float = 5e-4,
    epochs: int = 50,
    batch_size: int = 128,
    images_per_class: int | None = None,
) -> FeTrIL:
    """FeTrIL.

    regularisation, ridge, learning_rate and weight_decay are leaves, so that a sweep may vmap over them; checked
    where they are concrete. Those of another classifier than the one chosen are not used.

    Args:
      preset: how the source class is chosen, see above; nothing else differs.
      classifier: see above; "fc" needs a key in `update`.
      source: "euclidean" or "cosine", instead of what the preset says.
      regularisation: C of the support vector machines, > 0. Larger fits the rows more closely. In float32 at most
        1000: above, rounding keeps the machines from their optimum; float64 (`jax_enable_x64`) has no such limit.
      ridge: of the ridge regression, > 0. Larger fits the rows less closely.
      learning_rate: of fc, at the first epoch, > 0.
      weight_decay: of fc, >= 0.
      epochs: of fc, >= 1.
      batch_size: of fc, >= 1.
      images_per_class: bound on the rows of one class. None reads it from the labels, which jit and vmap do not
        allow: there it must be given, and a class's rows beyond it are left out.

    Raises:
      InputError: an unknown name, or a setting out of range.
    """
    if preset not in SOURCES:
        raise unknown_name("FeTrIL preset", preset, SOURCES)
    if classifier not in CLASSIFIERS:
        raise unknown_name("FeTrIL classifier", classifier, CLASSIFIERS)
    distance = source or SOURCES[preset]
    if distance not in SOURCES.values():
        raise unknown_name("source distance", distance, SOURCES.values())
    check_positive("regularisation", regularisation)
    _check_reach(regularisation)
    check_positive("ridge", ridge)
    check_positive("learning_rate", learning_rate)
    check_positive("weight_decay", weight_decay, zero=True)
    check_size("epochs", epochs)
    check_size("batch_size", batch_size)
    chosen = {
        "svm": SupportVectors(regularisation),
        "fc": Softmax(learning_rate, weight_decay, epochs=epochs, batch_size=batch_size),
        "ridge": Ridge(ridge),
    }[classifier]
    return FeTrIL(chosen, source=distance, images_per_class=images_per_class)


def _check_reach(regularisation: Array | float) -> None:
    """Refuses a concrete C of which float32 does not find the optimum."""
    if isinstance(regularisation, Tracer) or jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        return
    if (high := float(np.max(np.asarray(regularisation)))) > LARGEST:
        raise InputError(
            f"regularisation must be at most {LARGEST:g} in float32, got {high:g}: rounding would keep the support "
            "vector machines from their optimum.\nTake a smaller one, or work in float64 with jax_enable_x64."
        )
