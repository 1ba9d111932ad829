"""How the axis of runs (seeds, hyperparameters) of a training step is executed: the one place that decides.

A step is written for one run. `over_runs` gives it a leading axis on every argument. With the convolution of
`jaxcil.convolution`, vmap runs the convolutions of a CPU one after the other and fuses all else; the three ways
agree to float32 rounding; `jaxcil benchmark convolution` compares the time of vmap with that of separate calls.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

Policy = Literal["loop", "map", "vmap"]


def over_runs(step: Callable[..., Any], policy: Policy = "vmap", shared: Any = None) -> Callable[..., Any]:
    """A function of pytrees with a leading axis of runs on every argument but the first, and on every result.

    Args:
      step: a pure function of pytrees, for one run; its first argument is a learner.
      policy: "vmap" all runs at once (spreads over the sweep axis of a mesh); "map" one after the other in a
        compiled loop, for least memory; "loop" the same unrolled, so that compile time grows with the number of runs.
      shared: which leaves of the learner have an axis of runs: a pytree prefix of 0 and None; None: none of them.
    """
    if policy == "vmap":
        return lambda learner, *arguments: jax.vmap(step, in_axes=(shared, *[0] * len(arguments)))(
            learner, *arguments
        )

    def run(learner: Any, arguments: Any, n: Any) -> Any:
        axes = jax.tree.broadcast(shared, learner, is_leaf=lambda leaf: leaf is None)
        own = jax.tree.map(
            lambda axis, leaf: leaf if axis is None else leaf[n],
            axes,
            learner,
            is_leaf=lambda leaf: leaf is None,
        )
        return step(own, *jax.tree.map(lambda leaf: leaf[n], arguments))

    def over(learner: Any, *arguments: Any) -> Any:
        runs = jax.tree.leaves(arguments)[0].shape[0]
        if policy == "map":
            return jax.lax.map(lambda n: run(learner, arguments, n), jnp.arange(runs))
        outs = [run(learner, arguments, n) for n in range(runs)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *outs)

    return over
