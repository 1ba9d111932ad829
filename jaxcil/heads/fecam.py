"""FeCAM: squared Mahalanobis distance with a covariance of each class (Goswami et al., arXiv:2309.14062).

With the Tukey transform g(v) = v^beta, elementwise, and n_c images of class c,

    mu_c = mean of f,   S_c = unbiased covariance of g(f) over the images of class c                    (1)
    S   <- S + gamma1 V1 I + gamma2 V2 (1 - I), twice                                                   (2)
    S_ij <- S_ij / sqrt(S_ii S_jj)                                                                      (3)
    D_c(f) = (u - m_c)^T S_c^-1 (u - m_c),  u = unit(g(unit(f))), m_c = unit(g(mu_c))                   (4)

V1 is the mean of the diagonal of S and V2 the mean of its off-diagonal entries that are not 0. The paper
shrinks once; the code shrinks when a class is learned and once more before the distance, and so does this.
The code's other modes, each with the distance (4):

    per_class   the above
    common      one S for all classes: in the first task the covariance of g(f) over all its images about their
                common mean, as it is; later S <- a S + (1 - a) S', where S' is that of the new task, shrunk once,
                and a is the number of classes known before over the number of all; without (3)
    diagonal    the diagonal of S_c after (2), divided by its norm, in place of (3)
    ncm         S = I

The code inverts every S_c by a pseudo-inverse for every batch that it evaluates. Here a Cholesky factor
S = L L^T, made when the class is learned, gives M = L^-1 and D_c = |M u - M m_c|^2: a sum of squares, safe in
float32.

The official code scores the first task by the weights of the trained cosine classifier, without a covariance,
so the first point of its curves is not FeCAM. `first_task` selects which one a curve starts with.
"""

from typing import Any, ClassVar, Literal, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from jaxcil.errors import InputError, unknown_name
from jaxcil.heads import covariance
from jaxcil.heads.class_statistics import (
    check_positive,
    class_bound,
    class_counts,
    class_means,
    known_classes_only,
    one_hot,
    rows_by_class,
    scored_rows,
    task_rows,
)
from jaxcil.losses.unit import unit_rows

MODES = ("per_class", "common", "diagonal", "ncm")
FIRST_TASKS = ("mahalanobis", "classifier")


class FeCAMState(NamedTuple):
    """Class means and the metric of the mode."""

    means: Array  # [C, D] of the features as they come
    whitening: Any  # M of D_c = |M (u - m)|^2: per_class [C, D, D], common [D, D], diagonal [C, D], ncm None
    covariance: Any  # [D, D] of mode common, before its factor; else None
    counts: Array  # [C] int32; 0 marks a class not seen yet


@flax.struct.dataclass
class FeCAM:
    """FeCAM; made by `fecam`. A hyperparameter that the mode does not use is None."""

    beta: Array | float
    gamma1: Array | float | None
    gamma2: Array | float | None
    mode: str = flax.struct.field(pytree_node=False, default="per_class")
    correlation: bool = flax.struct.field(pytree_node=False, default=True)
    images_per_class: int | None = flax.struct.field(pytree_node=False, default=None)
    first_task: str = flax.struct.field(pytree_node=False, default="mahalanobis")
    scores_are_logits: ClassVar[bool] = False

    def init(self, num_classes: int, feature_dim: int, key: Array | None = None) -> FeCAMState:
        """No class seen; the metric of every class is the identity. Memory in mode per_class: C D^2."""
        whitening = {
            "per_class": lambda: jnp.broadcast_to(
                jnp.eye(feature_dim), (num_classes, feature_dim, feature_dim)
            ),
            "common": lambda: jnp.eye(feature_dim),
            "diagonal": lambda: jnp.ones((num_classes, feature_dim)),
            "ncm": lambda: None,
        }[self.mode]()
        return FeCAMState(
            means=jnp.zeros((num_classes, feature_dim)),
            whitening=whitening,
            covariance=jnp.eye(feature_dim) if self.mode == "common" else None,
            counts=jnp.zeros(num_classes, jnp.int32),
        )

    def update(
        self, state: FeCAMState, features: Array, labels: Array, key: Array | None = None
    ) -> FeCAMState:
        """Learns the classes of a task from features [B, D] >= 0, labels [B] int32 (-1: padding).

        A class that comes again replaces what was known of it. Costs, in mode per_class, images_per_class D^2
        and D^3 per new class.
        """
        features = task_rows(features, labels, like=state.means)
        self.check_features(features)
        counts = class_counts(labels, state.counts.shape[0])
        if self.mode == "per_class":
            return self._learn_each_class(state, features, labels)
        means, _ = class_means(features, labels, state.counts.shape[0])
        new = counts > 0
        learned = state._replace(
            means=jnp.where(new[:, None], means, state.means), counts=jnp.where(new, counts, state.counts)
        )
        if self.mode == "common":
            return self._mix_common(learned, state, self._tukey(features), labels)
        if self.mode == "diagonal":
            whitening = self._diagonal_whitening(self._tukey(features), labels, state.counts.shape[0])
            return learned._replace(whitening=jnp.where(new[:, None], whitening, state.whitening))
        return learned

    def check_features(self, features: Array) -> None:
        """Refuses concrete features [B, D] with a negative entry where the Tukey transform is on."""
        if isinstance(self.beta, Tracer) or isinstance(features, Tracer):
            return
        with jax.ensure_compile_time_eval():
            negative = bool((features < 0).any())
        if negative and bool(np.any(np.asarray(self.beta) != 1)):
            raise InputError(
                "FeCAM's Tukey transform needs features >= 0, as they come after a ReLU; some are negative.\n"
                "Take the features after the last ReLU, or switch the transform off with beta=1."
            )

    def whiten(self, class_covariance: Array) -> Array:
        """M [D, D] of equation (4) from a covariance [D, D] of mode per_class: (2), (3), Cholesky, inverse."""
        for _ in range(2):
            class_covariance = self._shrink(class_covariance)
        if self.correlation:
            class_covariance = covariance.correlation(class_covariance)
        return covariance.inverse_factor(class_covariance)

    def scores(self, state: FeCAMState, features: Array) -> Array:
        """Minus the distance (4), [B, C], of features [B, D] >= 0; -inf for a class not seen."""
        features = scored_rows(features, like=state.means)
        self.check_features(features)
        features = unit_rows(self._tukey(unit_rows(features)))
        prototypes = unit_rows(self._tukey(state.means))
        if self.mode == "per_class":
            distances = covariance.whitened_distances(features, prototypes, state.whitening)
        elif self.mode == "common":
            features, prototypes = (
                jnp.matmul(x, state.whitening.T, precision="highest") for x in (features, prototypes)
            )
            distances = covariance.weighted_distances(features, prototypes, jnp.ones_like(prototypes))
        elif self.mode == "diagonal":
            distances = covariance.weighted_distances(features, prototypes, state.whitening)
        else:
            distances = covariance.weighted_distances(features, prototypes, jnp.ones_like(prototypes))
        return known_classes_only(-distances, state.counts)

    def _learn_each_class(self, state: FeCAMState, features: Array, labels: Array) -> FeCAMState:
        size = class_bound(labels, self.images_per_class) or labels.shape[0]
        rows_of = rows_by_class(labels, state.counts.shape[0], size)

        def learn(mask: Array, images: Array, _: FeCAMState) -> FeCAMState:
            count = jnp.maximum(mask.sum(), 1).astype(features.dtype)  # 0 only where vmap runs both branches
            transformed = self._tukey(images)
            centred = jnp.where(mask, transformed - (transformed.sum(axis=0) / count)[None, :], 0)
            return FeCAMState(
                means=images.sum(axis=0) / count,
                whitening=self.whiten(_unbiased(centred, count)),
                covariance=None,
                counts=mask.sum(dtype=jnp.int32),
            )

        def learn_or_keep(item: tuple[Array, FeCAMState]) -> FeCAMState:
            rows, known = item
            mask = (rows < labels.shape[0])[:, None]
            images = features.at[rows].get(
                mode="fill", fill_value=0
            )  # inside, `cond` would copy all features
            return jax.lax.cond(mask[0, 0], learn, lambda _mask, _images, known: known, mask, images, known)

        return jax.lax.map(learn_or_keep, (rows_of, state))

    def _mix_common(
        self, learned: FeCAMState, state: FeCAMState, transformed: Array, labels: Array
    ) -> FeCAMState:
        mask = (labels >= 0)[:, None]
        count = jnp.maximum(mask.sum(), 1).astype(transformed.dtype)
        centred = jnp.where(mask, transformed - (transformed.sum(axis=0) / count)[None, :], 0)
        first = _unbiased(centred, count)
        known, total = (jnp.sum(x.counts > 0).astype(transformed.dtype) for x in (state, learned))
        share = known / jnp.maximum(total, 1)
        mixed = share * state.covariance + (1 - share) * self._shrink(first)
        mixed = jnp.where(known > 0, mixed, first)
        whitening = covariance.inverse_factor(mixed)
        empty = ~mask.any()
        return learned._replace(
            whitening=jnp.where(empty, state.whitening, whitening),
            covariance=jnp.where(empty, state.covariance, mixed),
        )

    def _diagonal_whitening(self, transformed: Array, labels: Array, num_classes: int) -> Array:
        """1 / sqrt of the variances [C, D] after (2), whose second term touches no diagonal."""
        transformed = jnp.where((labels >= 0)[:, None], transformed, 0)
        means, counts = class_means(transformed, labels, num_classes)
        centred = jnp.where((labels >= 0)[:, None], transformed - means[labels], 0)
        member = one_hot(labels, num_classes, transformed.dtype)
        variances = jnp.matmul(member.T, jnp.square(centred), precision="highest")
        variances = variances / jnp.maximum(counts - 1, 1).astype(transformed.dtype)[:, None]
        for _ in range(2):
            variances = variances + jnp.asarray(self.gamma1, variances.dtype) * variances.mean(
                axis=1, keepdims=True
            )
        variances = unit_rows(variances)
        return 1 / jnp.sqrt(jnp.where(variances > 0, variances, 1))

    def _tukey(self, x: Array) -> Array:
        return jnp.power(x, jnp.asarray(self.beta, x.dtype))

    def _shrink(self, matrix: Array) -> Array:
        gamma1, gamma2 = (jnp.asarray(gamma, matrix.dtype) for gamma in (self.gamma1, self.gamma2))
        return covariance.shrink(matrix, gamma1, gamma2)


def _unbiased(centred: Array, count: Array) -> Array:
    return jnp.matmul(centred.T, centred, precision="highest") / jnp.maximum(count - 1, 1)


def fecam(
    preset: Literal["official"] = "official",
    *,
    mode: Literal["per_class", "common", "diagonal", "ncm"] = "per_class",
    beta: Array | float = 0.5,
    gamma1: Array | float = 1.0,
    gamma2: Array | float = 1.0,
    correlation: bool = True,
    images_per_class: int | None = None,
    first_task: Literal["mahalanobis", "classifier"] = "mahalanobis",
) -> FeCAM:
    """FeCAM on features >= 0.

    beta, gamma1 and gamma2 are leaves, so that a sweep may vmap over them; checked where they are concrete. One
    that the mode does not use is dropped: it is None in what is returned.

    Args:
      preset: "official", the conventions of the authors' code listed above.
      mode: which covariance, see above.
      beta: power of the Tukey transform, > 0; 1 switches it off.
      gamma1: shrinkage of the diagonal, >= 0, of all modes but ncm. Without it a class needs more images than
        features; with fewer, its covariance is singular and only a jitter of D eps holds the factor together:
        distances are then arbitrary.
      gamma2: shrinkage of the off-diagonal, >= 0, of modes per_class and common; 0 is the authors' choice for
        signed features. Where gamma2 V2 leaves 0.9 [-gamma1 V1 / (D - 1), gamma1 V1], as it can for a handful of
        images, dead features or gamma2 far above gamma1, it is clipped: beyond, (2) may be singular or indefinite,
        and the code's "distances" negative.
      correlation: equation (3) of mode per_class; False keeps the variances, as the ablation of the code does.
      images_per_class: bound on the rows of one class, of mode per_class. None reads it from the labels, or takes B
        under jit, which is right too but costs up to B / images_per_class times as much.
      first_task: who scores after the first task of a run: "mahalanobis", this head; "classifier", the one that the
        extractor was trained under, as in the authors' curves. The driver then takes its scores; `scores`
        is this head's in any case.

    Raises:
      InputError: an unknown preset, mode or first_task, or a hyperparameter out of range.
    """
    if preset != "official":
        raise unknown_name("FeCAM preset", preset, ("official",))
    if mode not in MODES:
        raise unknown_name("FeCAM mode", mode, MODES)
    if first_task not in FIRST_TASKS:
        raise unknown_name("first_task", first_task, FIRST_TASKS)
    check_positive("beta", beta)
    check_positive("gamma1", gamma1, zero=True)
    check_positive("gamma2", gamma2, zero=True)
    return FeCAM(
        beta,
        gamma1 if mode != "ncm" else None,
        gamma2 if mode in ("per_class", "common") else None,
        mode=mode,
        correlation=correlation,
        images_per_class=images_per_class,
        first_task=first_task,
    )
