"""How the axis of runs (seeds, hyperparameters) of a training step is executed: the one place that decides.

A step is written for one run. `over_runs` gives it a leading axis on every argument. With the convolution of
`jaxcil.convolution`, vmap runs the convolutions of a CPU one after the other and fuses all else; the three ways
agree to float32 rounding; `jaxcil benchmark convolution` prints what vmap costs beside calls one by one.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

Policy = Literal["loop", "map", "vmap"]


def over_runs(step: Callable[..., Any], policy: Policy = "vmap") -> Callable[..., Any]:
    """A function of pytrees with a leading axis of runs on every argument and result.

    Args:
      step: a pure function of pytrees, for one run.
      policy: "vmap" all runs at once (spreads over the sweep axis of a mesh); "map" one after the other in a
        compiled loop, for least memory; "loop" the same written out, which compiles as often as there are runs.
    """
    if policy == "vmap":
        return jax.vmap(step)
    if policy == "map":
        return lambda *arguments: jax.lax.map(lambda one: step(*one), arguments)

    def loop(*arguments: Any) -> Any:
        runs = jax.tree.leaves(arguments)[0].shape[0]
        outs = [step(*jax.tree.map(lambda leaf, n=n: leaf[n], arguments)) for n in range(runs)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *outs)

    return loop
