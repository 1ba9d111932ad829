"""Floating-point operations of a function: its convolutions and matrix products, counted without running it.

The rule is that of torch's FlopCounterMode: two for each multiplication and its addition, nothing for all else, and a
convolution over padding counts as one over pixels. XLA's own count (`cost_analysis`) knows neither the length of a
loop nor what a library call inside a compiled program does.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core


def flops(function: Callable[..., Any], *arguments: Any) -> int:
    """Operations of one call.

    Args:
      function: traced, not run; of the branches of a `cond` the dearest counts.
      *arguments: arrays, or `jax.ShapeDtypeStruct`s in their place.

    Raises:
      ValueError: a loop whose length is known only when it runs, or a kernel written by hand, does work.
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: core.Jaxpr) -> int:
    return sum(_equation(equation) for equation in jaxpr.eqns)


def _equation(equation: Any) -> int:
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
        ((contracted, _), _) = parameters["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2 * equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel, out_axis = equation.invars[1].aval, parameters["dimension_numbers"].rhs_spec[0]
        return 2 * equation.outvars[0].aval.size * kernel.size // kernel.shape[out_axis]
    inner = [_count(jaxpr) for jaxpr in _inside(parameters)]
    if name == "cond":
        return max(inner)
    if name in ("while", "pallas_call") and sum(inner):
        raise ValueError(f"how often a {name} does its work cannot be read off the program")
    return sum(inner) * parameters.get("length", 1)  # of a scan


def _inside(parameters: dict[str, Any]) -> Iterator[core.Jaxpr]:
    """The programs that an operation holds."""
    for value in parameters.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, core.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, core.Jaxpr):
                yield item
