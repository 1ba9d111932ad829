"""What a method of `learners.incremental` may choose, with the usual choices; and a linear output layer."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

from jaxcil.training.learner import Phase


@flax.struct.dataclass
class Method:
    """What is special about a learner with one network.

    Parameters of its output layer are {"rows": {name: [C, ...]}, "shared": {name: ...}}: rows of classes that have not
    come are zero and do not train.

    Attributes:
      has_teacher: whether the state holds the network of the task before.
      has_means: whether exemplars have class means, where there are exemplars.
      epsilon: added to the length of a feature, where public code does so.
      mean_epsilon: added to the length of a class mean.
    """

    has_teacher = False
    has_means = True
    epsilon = 0.0
    mean_epsilon = 0.0

    def empty(self, learner: Any, dim: int) -> dict[str, Any]:
        """Parameters of the output layer before the first task, on features of that dimension."""
        raise NotImplementedError

    def draw(self, key: Array, output: dict[str, Any]) -> dict[str, Array]:
        """Fresh rows for all classes."""
        raise NotImplementedError

    def logits(self, output: dict[str, Any], features: Array, own: Any) -> Array:
        """Logits [B, C] of what `embed` gives."""
        raise NotImplementedError

    def phases(self, learner: Any, task_index: int) -> tuple[Phase, ...]:
        """What is done in a task."""
        raise NotImplementedError

    def first(self, learner: Any, model: Any) -> Any:
        """What the method adds to the state, of the model before the first task: nothing."""
        del learner, model
        return ()

    def embed(self, features: Array, maps: tuple[Array, ...]) -> Array:
        """What the readings see of an image: the network's features."""
        del maps
        return features

    def mean_features(self, features: Array) -> Array:
        """The part of `embed` that herding and class means look at: all."""
        return features


@flax.struct.dataclass
class LinearMethod(Method):
    """A linear layer z = W f + b, whose new rows are drawn as PyCIL draws them.

    Weights are uniform with variance 1 / D (Kaiming's rule without a gain), biases zero.
    """

    epsilon = 1e-8

    def empty(self, learner: Any, dim: int) -> dict[str, Any]:
        """Weights [C, D] and biases [C], all zero."""
        rows = {"weights": jnp.zeros((learner.columns, dim)), "bias": jnp.zeros(learner.columns)}
        return {"rows": rows, "shared": {}}

    def draw(self, key: Array, output: dict[str, Any]) -> dict[str, Array]:
        """Fresh rows for all classes."""
        weights = output["rows"]["weights"]
        bound = (3 / weights.shape[1]) ** 0.5
        fresh = jax.random.uniform(key, weights.shape, weights.dtype, -bound, bound)
        return {"weights": fresh, "bias": jnp.zeros_like(output["rows"]["bias"])}

    def logits(self, output: dict[str, Any], features: Array, own: Any) -> Array:
        """z [B, C] of features [B, D]."""
        del own
        return features @ output["rows"]["weights"].T + output["rows"]["bias"][None]
