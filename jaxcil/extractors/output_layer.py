"""The linear layers that an extractor is trained under: features [B, D] -> logits [B, C].

Two are in use: a linear layer with bias, and the cosine layer of LUCIR (Hou et al., CVPR 2019, section 3.2), which
FeCAM trains under too,

    linear   z_c = <w_c, f> + b_c                              (1)
    cosine   z_c = sigma <w_c, f> / (|w_c| |f|)                (2)

with a learned scale sigma. Under (2) the class means of unit features lie where the weights do, so a nearest-mean head
on the frozen features loses less.
"""

from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array


class OutputLayer(Protocol):
    """A training head."""

    def init(self, key: Array, feature_dim: int, num_classes: int) -> Any:
        """Parameters."""
        ...

    def logits(self, parameters: Any, features: Array) -> Array:
        """Logits [B, C] of features [B, D]."""
        ...

    def keep(self, parameters: Any, classes: Array) -> Any:
        """The parameters, with those of classes that a mask [C] leaves out set to zero."""
        ...


@flax.struct.dataclass
class Linear:
    """Equation (1), from zero: the first gradient is that of class means."""

    def init(self, key: Array, feature_dim: int, num_classes: int) -> dict[str, Array]:
        """Weights [C, D] and biases [C], all zero."""
        del key
        return {"weights": jnp.zeros((num_classes, feature_dim)), "bias": jnp.zeros(num_classes)}

    def logits(self, parameters: dict[str, Array], features: Array) -> Array:
        """Logits [B, C] of features [B, D]."""
        return features @ parameters["weights"].T + parameters["bias"][None]

    def keep(self, parameters: dict[str, Array], classes: Array) -> dict[str, Array]:
        """The parameters, with those of classes that a mask [C] leaves out set to zero."""
        kept = classes.astype(parameters["bias"].dtype)
        return {"weights": parameters["weights"] * kept[:, None], "bias": parameters["bias"] * kept}


@flax.struct.dataclass
class Cosine:
    """Equation (2); weights uniform within 1 / sqrt(D) and sigma 1 at the start, as in LUCIR's code."""

    def init(self, key: Array, feature_dim: int, num_classes: int) -> dict[str, Array]:
        """Weights [C, D] and sigma []."""
        bound = feature_dim**-0.5
        weights = jax.random.uniform(key, (num_classes, feature_dim), minval=-bound, maxval=bound)
        return {"weights": weights, "sigma": jnp.ones(())}

    def logits(self, parameters: dict[str, Array], features: Array) -> Array:
        """Logits [B, C] of features [B, D]."""
        return parameters["sigma"] * (_unit(features) @ _unit(parameters["weights"]).T)

    def keep(self, parameters: dict[str, Array], classes: Array) -> dict[str, Array]:
        """The parameters, with the weights of classes that a mask [C] leaves out set to zero."""
        kept = classes.astype(parameters["weights"].dtype)
        return {**parameters, "weights": parameters["weights"] * kept[:, None]}


def _unit(x: Array) -> Array:
    # eps inside the root: the gradient of a row of zeros is zero, not NaN
    return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12)
