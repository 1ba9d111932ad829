"""FeCAM: squared Mahalanobis distance with one covariance a class (Goswami et al., arXiv:2309.14062).

With the Tukey transform g(v) = v^beta, elementwise, and n_c images of class c,

    mu_c = mean of f,   S_c = unbiased covariance of g(f) over the images of class c                    (1)
    S   <- S + gamma1 V1 I + gamma2 V2 (1 - I), twice                                                   (2)
    S_ij <- S_ij / sqrt(S_ii S_jj)                                                                      (3)
    D_c(f) = (u - m_c)^T S_c^-1 (u - m_c),  u = unit(g(unit(f))), m_c = unit(g(mu_c))                   (4)

V1 is the mean of the diagonal of S and V2 the mean of its off-diagonal entries that are not 0. The paper
shrinks once; the code shrinks when a class is learned and once more before the distance, and so does this.

The code inverts every S_c by a pseudo-inverse for every batch that it evaluates. Here a Cholesky factor
S = L L^T, made when the class is learned, gives M = L^-1 and D_c = |M u - M m_c|^2: a sum of squares, safe in
float32.

The official code scores the first task by the weights of the trained cosine classifier, without a covariance,
so the first point of its curves is not FeCAM. This head uses (4) from the first task on.
"""

from typing import Literal, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.scipy.linalg import solve_triangular

from jaxcil.errors import InputError, unknown_name
from jaxcil.heads.class_rows import class_bound, rows_of_class, task_rows, unit_rows


class FeCAMState(NamedTuple):
    """Class means and inverse Cholesky factors."""

    means: Array  # [C, D] of the features as they come
    whitening: Array  # [C, D, D] lower triangular, M of D_c = |M (u - m)|^2
    counts: Array  # [C] int32; 0 marks a class not seen yet


@flax.struct.dataclass
class FeCAM:
    """FeCAM with one covariance a class; made by `fecam`."""

    beta: Array | float
    gamma1: Array | float
    gamma2: Array | float
    correlation: bool = flax.struct.field(pytree_node=False, default=True)
    images_a_class: int | None = flax.struct.field(pytree_node=False, default=None)

    def init(self, num_classes: int, feature_dim: int, key: Array | None = None) -> FeCAMState:
        """No class seen; the metric of every class is the identity."""
        whitening = jnp.broadcast_to(jnp.eye(feature_dim), (num_classes, feature_dim, feature_dim))
        return FeCAMState(jnp.zeros((num_classes, feature_dim)), whitening, jnp.zeros(num_classes, jnp.int32))

    def update(
        self, state: FeCAMState, features: Array, labels: Array, key: Array | None = None
    ) -> FeCAMState:
        """Learns the classes of a task from features [B, D] >= 0, labels [B] int32 (-1: padding).

        A class that comes again replaces what was known of it. Costs images_a_class D^2 and D^3 a new class.
        """
        features = task_rows(features, labels, like=state.means)
        if not isinstance(features, Tracer) and bool((features < 0).any()):
            self._check_signed()
        size = class_bound(labels, self.images_a_class) or labels.shape[0]

        def learn(label: Array, _: FeCAMState) -> FeCAMState:
            rows = rows_of_class(labels, label, size)
            mask = (rows < labels.shape[0])[:, None]
            images = features.at[rows].get(mode="fill", fill_value=0)
            count = jnp.maximum(mask.sum(), 1).astype(features.dtype)  # 0 only where vmap runs both branches
            transformed = self._tukey(images)
            centred = jnp.where(mask, transformed - (transformed.sum(axis=0) / count)[None, :], 0)
            covariance = jnp.matmul(centred.T, centred, precision="highest") / jnp.maximum(count - 1, 1)
            return FeCAMState(
                means=images.sum(axis=0) / count,
                whitening=self.whiten(covariance),
                counts=mask.sum(dtype=jnp.int32),
            )

        def learn_or_keep(item: tuple[Array, FeCAMState]) -> FeCAMState:
            label, known = item
            return jax.lax.cond((labels == label).any(), learn, lambda _, known: known, label, known)

        return jax.lax.map(learn_or_keep, (jnp.arange(state.counts.shape[0], dtype=labels.dtype), state))

    def whiten(self, covariance: Array) -> Array:
        """M [D, D] of equation (4) from a covariance [D, D]: equations (2), (3), Cholesky, inverse.

        A diagonal entry of 0, of a feature that never fired, counts as variance 1 in (3).
        """
        dtype, dim = covariance.dtype, covariance.shape[0]
        eye = jnp.eye(dim, dtype=bool)
        for _ in range(2):
            covariance = self._shrink(covariance)
        diagonal = jnp.diagonal(covariance)
        if self.correlation:
            deviation = jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1))
            covariance = jnp.where(eye, 1, covariance / (deviation[:, None] * deviation[None, :]))
        scale = jnp.diagonal(covariance).mean()
        # The size of the covariance's own rounding; without it a singular one (gamma1 = 0) has no factor
        jitter = dim * jnp.finfo(dtype).eps * jnp.where(scale > 0, scale, 1)
        factor = jnp.linalg.cholesky(covariance + jnp.where(eye, jitter, 0))
        return solve_triangular(factor, jnp.eye(dim, dtype=dtype), lower=True)

    def scores(self, state: FeCAMState, features: Array) -> Array:
        """Minus the distance (4), [B, C], of features [B, D] >= 0; -inf for a class not seen."""
        features = unit_rows(self._tukey(unit_rows(features.astype(state.means.dtype))))
        prototypes = unit_rows(self._tukey(state.means))

        def distance(item: tuple[Array, Array]) -> Array:
            prototype, whitening = item
            difference = features - prototype[None, :]
            return jnp.square(jnp.matmul(difference, whitening.T, precision="highest")).sum(axis=1)

        # A class at a time, without a [B, C, D] array
        distances = jax.lax.map(distance, (prototypes, state.whitening)).T
        return jnp.where((state.counts > 0)[None, :], -distances, -jnp.inf)

    def _tukey(self, x: Array) -> Array:
        return jnp.power(x, jnp.asarray(self.beta, x.dtype))

    def _shrink(self, covariance: Array) -> Array:
        gamma1, gamma2 = (jnp.asarray(gamma, covariance.dtype) for gamma in (self.gamma1, self.gamma2))
        eye = jnp.eye(covariance.shape[0], dtype=bool)
        off_diagonal = jnp.where(eye, 0, covariance)
        entries = jnp.maximum(jnp.count_nonzero(off_diagonal), 1).astype(covariance.dtype)
        on = gamma1 * jnp.diagonal(covariance).mean()
        # Outside these limits the added matrix has a negative eigenvalue
        off = jnp.clip(gamma2 * off_diagonal.sum() / entries, -on / max(covariance.shape[0] - 1, 1), on)
        return covariance + jnp.where(eye, on, off)

    def _check_signed(self) -> None:
        if not isinstance(self.beta, Tracer) and bool(jnp.any(jnp.asarray(self.beta) != 1)):
            raise InputError(
                "FeCAM's Tukey transform needs features >= 0, as they come after a ReLU; some are negative.\n"
                "Take the features after the last ReLU, or switch the transform off with beta=1."
            )


def fecam(
    preset: Literal["official"] = "official",
    *,
    beta: Array | float = 0.5,
    gamma1: Array | float = 1.0,
    gamma2: Array | float = 1.0,
    correlation: bool = True,
    images_a_class: int | None = None,
) -> FeCAM:
    """FeCAM with one covariance a class, on features >= 0.

    beta, gamma1 and gamma2 are leaves, so that a sweep may vmap over them; checked where they are concrete.

    Args:
      preset: "official", the conventions of the authors' code listed above.
      beta: power of the Tukey transform, > 0; 1 switches it off.
      gamma1: shrinkage of the diagonal, >= 0. Without it a class needs more images than features; with fewer,
        its covariance is singular and only a jitter of D eps holds the factor together: distances are then
        arbitrary.
      gamma2: shrinkage of the off-diagonal, >= 0; 0 is the authors' choice for signed features. Where
        gamma2 V2 leaves [-gamma1 V1 / (D - 1), gamma1 V1], as it can for a handful of images or gamma2 far
        above gamma1, it is clipped: beyond, (2) may be indefinite, and the code's "distances" negative.
      correlation: equation (3); False keeps the variances, as the ablation of the code does.
      images_a_class: bound on the rows of one class. None reads it from the labels, or takes B under jit,
        which is right too but costs up to B / images_a_class times as much.
    """
    if preset != "official":
        raise unknown_name("FeCAM preset", preset, ("official",))
    for name, value in (("beta", beta), ("gamma1", gamma1), ("gamma2", gamma2)):
        if not isinstance(value, Tracer):
            low = float(np.min(np.asarray(value)))
            if low < 0 or (name == "beta" and low == 0):
                raise InputError(f"{name} must be {'> 0' if name == 'beta' else '>= 0'}, got {low}.")
    return FeCAM(beta, gamma1, gamma2, correlation=correlation, images_a_class=images_a_class)
