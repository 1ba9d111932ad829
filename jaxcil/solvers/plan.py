"""A solver is a table of coefficients.

In x = alpha x0 + sigma z every sampler of this package is the recurrence

    D_i     = denoiser(x_i, node_i)                                                     (1)
    x_{i+1} = keep_i x_i + sum_k history_{i,k} D_{i-k} + noise_i z_i,    z ~ N(0, I)    (2)

with D the x0 prediction and k = 0 .. K-1. Samplers differ in the numbers alone, so that one loop runs them
all and a sweep over samplers is a vmap over stacked tables.
"""

from typing import NamedTuple

import flax.struct
from jax import Array


class Node(NamedTuple):
    """Where a denoiser is called: three scalars."""

    time: Array
    alpha: Array
    sigma: Array


@flax.struct.dataclass
class Plan:
    """Equation (2) for N rows, each of which costs one denoiser call; all leaves."""

    time: Array  # [N + 1] the nodes visited, the last included
    alpha: Array  # [N + 1]
    sigma: Array  # [N + 1]
    keep: Array  # [N]
    history: Array  # [N, K]
    noise: Array  # [N]

    @property
    def rows(self) -> int:
        """N, the number of denoiser calls."""
        return self.keep.shape[-1]

    def node(self, i: Array | int) -> Node:
        """Node i, a number or a traced one."""
        return Node(self.time[i], self.alpha[i], self.sigma[i])
