"""Nearest class mean (NCM; Mensink et al., IEEE TPAMI 35(11), 2013) on frozen features.

Two distances and two means are in use, and papers that say "NCM" or "NME" differ in them:

    cosine      s_c(f) =  <f, mu_c> / (|f| |mu_c|)                                 (1)
    euclidean   s_c(f) = -|f - mu_c|^2                                             (2)

with mu_c the mean of the raw features (FeCAM's and FeTrIL's prototypes), or the mean of the features scaled
to length one, itself scaled to length one (iCaRL, arXiv:1611.07725, and PyCIL). In the second case the
feature that is scored is scaled too, (2) is 2 (1) - 2, and both distances predict the same.
"""

from typing import ClassVar, Literal, NamedTuple

import flax.struct
import jax.numpy as jnp
from jax import Array

from jaxcil.errors import unknown_name
from jaxcil.heads.class_statistics import (
    class_means,
    known_classes_only,
    scored_rows,
    task_rows,
)
from jaxcil.losses.unit import lengths, unit_rows

METRICS = ("cosine", "euclidean")
MEANS = ("features", "unit_features")


class NCMState(NamedTuple):
    """Class means and how many rows made them."""

    means: Array  # [C, D] of the features, or of the features scaled to length one
    counts: Array  # [C] int32; 0 marks a class not seen yet


@flax.struct.dataclass
class NCM:
    """Nearest class mean; made by `ncm`."""

    metric: str = flax.struct.field(pytree_node=False, default="cosine")
    means: str = flax.struct.field(pytree_node=False, default="features")
    scores_are_logits: ClassVar[bool] = False

    def init(self, num_classes: int, feature_dim: int, key: Array | None = None) -> NCMState:
        """No class seen."""
        return NCMState(jnp.zeros((num_classes, feature_dim)), jnp.zeros(num_classes, jnp.int32))

    def update(self, state: NCMState, features: Array, labels: Array, key: Array | None = None) -> NCMState:
        """Adds a task's features [B, D], labels [B] int32 (-1: padding); a class may come again."""
        features = task_rows(features, labels, like=state.means, masked=False)
        if self.means == "unit_features":
            features = unit_rows(features)
        means, counts = class_means(features, labels, state.counts.shape[0])
        total = state.counts + counts
        share = counts.astype(means.dtype) / jnp.maximum(total, 1).astype(means.dtype)
        return NCMState(state.means + share[:, None] * (means - state.means), total)

    def scores(self, state: NCMState, features: Array) -> Array:
        """Similarity [B, C] by (1) or (2) of features [B, D]; -inf for a class not seen."""
        features, means = scored_rows(features, like=state.means), state.means
        seen = state.counts > 0
        if self.metric == "cosine":
            # the scores are divided, so that no other array of all features is made
            scores = jnp.matmul(features, unit_rows(means).T, precision="highest") / lengths(features)
            return known_classes_only(scores, state.counts)
        if self.means == "unit_features":
            features, means = unit_rows(features), unit_rows(means)
        else:
            # Distances do not change when both move; around 0 the expanded square loses fewer digits
            centre = means.sum(axis=0) / jnp.maximum(seen.sum(), 1).astype(means.dtype)
            features, means = features - centre[None, :], jnp.where(seen[:, None], means - centre[None, :], 0)
        products = jnp.matmul(features, means.T, precision="highest")
        squares = jnp.square(features).sum(axis=1)[:, None] + jnp.square(means).sum(axis=1)[None, :]
        return known_classes_only(2 * products - squares, state.counts)


def ncm(
    metric: Literal["cosine", "euclidean"] = "cosine",
    *,
    means: Literal["features", "unit_features"] = "features",
) -> NCM:
    """Nearest class mean.

    Args:
      metric: "cosine", equation (1) of this module, or "euclidean", equation (2).
      means: "features", the mean of the raw features, or "unit_features", of features scaled to length one.
    """
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    if means not in MEANS:
        raise unknown_name("kind of means", means, MEANS)
    return NCM(metric=metric, means=means)
