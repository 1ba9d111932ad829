"""Streaming linear discriminant analysis (Hayes and Kanan, arXiv:1909.01520; their code, Deep SLDA).

One covariance for all classes. The first task gives class means mu, the oracle-approximating shrinkage (OAS;
Chen et al., IEEE Trans. Signal Processing 58(10), 2010, equation 23) of the covariance of its centred features,
and n, its number of images. Each later image x of class y, in the order in which it comes:

    Sigma <- (n Sigma + n / (n + 1) (x - mu_y)(x - mu_y)^T) / (n + 1),  n <- n + 1                      (1)
    mu_y  <- mu_y + (x - mu_y) / (c_y + 1),                             c_y <- c_y + 1                  (2)

    s_k(f) = <f, w_k> - <mu_k, w_k> / 2,   w_k = ((1 - e) Sigma + e I)^-1 mu_k                          (3)

n counts the images of all classes, c_y those of one. A new class starts at mean 0, so that its first image adds
x x^T: that is the authors' code. No class has a prior.

Unrolled, (1) is one product. With d_i = x_i - mu_y before image i, i = 0 .. N - 1,

    (n + N) Sigma_N = n Sigma_0 + sum_i (n + i) / (n + i + 1) d_i d_i^T                                 (4)

and the means before each image are running means within its class, so no loop over images is left.
"""

from typing import ClassVar, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import cho_factor, cho_solve

from jaxcil.heads.class_statistics import (
    check_fraction,
    class_counts,
    class_means,
    known_classes_only,
    scored_rows,
    task_rows,
)


class SLDAState(NamedTuple):
    """Class means, the covariance of all classes and the weights that follow from them."""

    means: Array  # [C, D]
    covariance: Array  # [D, D]
    weights: Array  # [C, D] w of equation (3)
    counts: Array  # [C] int32; 0 marks a class not seen yet


@flax.struct.dataclass
class SLDA:
    """Streaming linear discriminant analysis; made by `slda`."""

    shrinkage: Array | float
    scores_are_logits: ClassVar[bool] = False

    def init(self, num_classes: int, feature_dim: int, key: Array | None = None) -> SLDAState:
        """No class seen."""
        zeros = jnp.zeros((num_classes, feature_dim))
        return SLDAState(zeros, jnp.eye(feature_dim), zeros, jnp.zeros(num_classes, jnp.int32))

    def update(self, state: SLDAState, features: Array, labels: Array, key: Array | None = None) -> SLDAState:
        """Learns a task's features [B, D], labels [B] int32 (-1: padding); a class may come again.

        The first task with rows is the base of the stream. From then on the order of the rows matters, as
        it does in (1): by O(1 / n) of the covariance.
        """
        features = task_rows(features, labels, like=state.means, masked=False)
        real = labels >= 0
        batch_means, batch_counts = class_means(features, labels, state.counts.shape[0])
        counts = state.counts + batch_counts
        known = state.counts.sum(dtype=jnp.int32)
        base = known == 0
        share = batch_counts.astype(features.dtype) / jnp.maximum(counts, 1).astype(features.dtype)

        # branches that are functions of the module: called one by one, outside jit, they compile once
        products = jax.lax.cond(base, _base_products, _later_products, state, features, labels, batch_means)
        known, total = (x.astype(features.dtype) for x in (known, jnp.maximum(counts.sum(), 1)))
        covariance = jnp.where(
            base, _oas(products / total, total), (known * state.covariance + products) / total
        )
        means = state.means + share[:, None] * (batch_means - state.means)
        learned = SLDAState(means, covariance, self._weights(means, covariance), counts)
        return jax.tree.map(lambda new, old: jnp.where(real.any(), new, old), learned, state)

    def scores(self, state: SLDAState, features: Array) -> Array:
        """Scores (3), [B, C], of features [B, D]; -inf for a class not seen."""
        features = scored_rows(features, like=state.means)
        offsets = 0.5 * (state.means * state.weights).sum(axis=1)
        scores = jnp.matmul(features, state.weights.T, precision="highest") - offsets[None, :]
        return known_classes_only(scores, state.counts)

    def _weights(self, means: Array, covariance: Array) -> Array:
        shrinkage = jnp.asarray(self.shrinkage, covariance.dtype)
        regular = (1 - shrinkage) * covariance + shrinkage * jnp.eye(
            covariance.shape[0], dtype=covariance.dtype
        )
        return cho_solve(cho_factor(regular, lower=True), means.T).T


def _base_products(state: SLDAState, features: Array, labels: Array, batch_means: Array) -> Array:
    """Sums over the rows [D, D] of the first task."""
    return _products(features - batch_means[labels], labels)


def _later_products(state: SLDAState, features: Array, labels: Array, batch_means: Array) -> Array:
    """The sum of equation (4), [D, D]."""
    known = state.counts.sum(dtype=jnp.int32)
    images = known + jnp.maximum(jnp.cumsum(labels >= 0, dtype=jnp.int32) - 1, 0)  # before each row
    images = images.astype(features.dtype)
    before = _means_before(state, features, labels, batch_means)
    return _products(jnp.sqrt(images / (images + 1))[:, None] * (features - before), labels)


def _products(differences: Array, labels: Array) -> Array:
    differences = jnp.where((labels >= 0)[:, None], differences, 0)
    return jnp.matmul(differences.T, differences, precision="highest")


def _means_before(state: SLDAState, features: Array, labels: Array, batch_means: Array) -> Array:
    """mu_y of equation (2) before each row, [B, D]."""
    order = jnp.argsort(labels, stable=True)
    sorted_labels = labels[order]
    counts = class_counts(labels, state.counts.shape[0])
    # Centred, the sum of a class is 0: sums that run on through all classes keep their digits
    centred = jnp.where((sorted_labels >= 0)[:, None], features[order] - batch_means[sorted_labels], 0)
    running = jnp.cumsum(centred, axis=0) - centred
    starts = labels.shape[0] - jnp.cumsum(counts[::-1])[::-1]  # padding rows, of label -1, come first
    place = jnp.arange(labels.shape[0], dtype=jnp.int32) - starts.astype(jnp.int32)[sorted_labels]
    place = jnp.maximum(place, 0).astype(features.dtype)[:, None]
    seen = state.counts[sorted_labels].astype(features.dtype)[:, None]
    total = seen * state.means[sorted_labels] + place * batch_means[sorted_labels] + running
    before = total / jnp.maximum(seen + place, 1)
    return jnp.zeros_like(features).at[order].set(before, unique_indices=True)


def _oas(covariance: Array, count: Array) -> Array:
    """OAS of a covariance [D, D] that divides by the number of images."""
    dim = covariance.shape[0]
    mean = jnp.diagonal(covariance).mean()
    square = jnp.square(covariance).mean()
    denominator = (count + 1) * (square - jnp.square(mean) / dim)
    shrinkage = jnp.where(
        denominator > 0,
        jnp.minimum((square + jnp.square(mean)) / jnp.where(denominator > 0, denominator, 1), 1),
        1,
    )
    return (1 - shrinkage) * covariance + shrinkage * mean * jnp.eye(dim, dtype=covariance.dtype)


def slda(*, shrinkage: Array | float = 1e-4) -> SLDA:
    """Streaming linear discriminant analysis, as its authors' code has it.

    Args:
      shrinkage: e of equation (3), in (0, 1]; a leaf, so that a sweep may vmap over it. Checked where it is
        concrete.

    Raises:
      InputError: shrinkage out of range.
    """
    check_fraction("shrinkage", shrinkage)
    return SLDA(shrinkage)
