"""Ahead-of-time compilation for a TPU pod with the real compiler, on a machine without a TPU; FLOPs of a function.

libtpu (the extra "tpu") describes a pod's chips and compiles for them. The memory, work and collectives that it reports
are those of the program on a pod; the time is known only where it runs. Set before jax starts (`jaxcil plan-pod` does
so): JAX_PLATFORMS=cpu, or jax looks for a TPU, and TPU_SKIP_MDS_QUERY=1, or libtpu asks the network for one, for
minutes.
"""

import collections
import importlib.metadata
import importlib.util
import math
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies
from jax.extend import core
from jax.sharding import Mesh, NamedSharding

from jaxcil.errors import InputError, unknown_name
from jaxcil.parallel import mesh

GIB = 2**30
_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBIC = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16")


class Chip(NamedTuple):
    """One kind of TPU."""

    peak: float  # bf16 FLOP/s
    memory: int  # bytes that programs may use
    slices: tuple[str, ...]  # topologies


# Peaks: cloud.google.com/tpu/docs, the page of each version. Memory: what the compiler (libtpu 0.0.42) reports as
# available when a program exceeds it, of 16, 32 and 95 GB. v4 is absent: this libtpu describes each of its chips as
# two devices, of which jax makes no mesh.
CHIPS = {
    "v5e": Chip(197e12, int(15.75 * GIB), _FLAT),
    "v5p": Chip(459e12, int(95.74 * GIB), _CUBIC),
    "v6e": Chip(918e12, int(31.25 * GIB), _FLAT),
}
COLLECTIVE = re.compile(
    r" (all-reduce|all-gather|all-to-all|ragged-all-to-all|reduce-scatter|collective-\w+)(?:-start)?\("
)
EXHAUSTED = "RESOURCE_EXHAUSTED"


class Program(NamedTuple):
    """The compiler's figures for a program, per chip."""

    arguments: int  # bytes, as are the next three
    temporaries: int
    output: int
    code: int
    flops: float  # by XLA's count, with the body of a loop once: see `flops`
    collectives: dict[str, int]  # number of each by name
    seconds: float  # compile time

    @property
    def memory(self) -> int:
        """Total bytes."""
        return self.arguments + self.temporaries + self.output + self.code


class OutOfMemory(InputError):
    """A program does not fit into a chip's memory."""


def pod(topology: str) -> tuple[Chip, Mesh]:
    """The chip and the mesh of a pod, all devices along the data axis.

    Args:
      topology: kind and shape, such as "v5e:4x8"; those of `CHIPS`.

    Raises:
      InputError: there is no such topology, or libtpu is not installed.
    """
    kind, _, shape = topology.partition(":")
    if kind not in CHIPS:
        raise unknown_name("kind of TPU", kind, CHIPS)
    if shape not in CHIPS[kind].slices:
        raise unknown_name("topology", topology, [f"{kind}:{known}" for known in CHIPS[kind].slices])
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(
            'compiling for a TPU needs libtpu, which is not installed: pip install "jaxcil[tpu]"'
        )
    sides = [int(side) for side in shape.split("x")]
    # libtpu assumes hosts of 2 x 2 chips by default
    bounds = {"chips_per_host_bounds": (1, 1, 1)} if max(sides) == 1 else {}
    described = topologies.get_topology_desc(platform="tpu", topology_name=topology, **bounds)
    return CHIPS[kind], mesh.generation_mesh(list(described.devices))


def abstract(tree: Any, sharding: NamedSharding) -> Any:
    """The shapes of a pytree of arrays (or of shapes), with a sharding."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)


def compile_ahead(function: Callable[..., Any], *arguments: Any) -> Program:
    """Compiles a function for the devices that its arguments are placed on.

    Arguments that it does not read count too: a chip that is given a model holds all of it.

    Args:
      function: of pytrees.
      *arguments: of `abstract`, on the mesh of `pod`.

    Raises:
      OutOfMemory: the program does not fit.
    """
    program = jax.jit(function, keep_unused=True)
    lowered = program.trace(*arguments).lower(lowering_platforms=("tpu",))
    start = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if EXHAUSTED not in str(error):
            raise
        first = str(error).partition(f"{EXHAUSTED}: ")[2].splitlines()[0]
        raise OutOfMemory(first) from None
    seconds = time.perf_counter() - start
    return _described(compiled, seconds)


def largest_batch(memory: dict[int, int], available: int) -> int:
    """The batch at which a line through the memory of two others reaches the available memory.

    The compiler trades work for memory when memory is scarce, so the true one may be larger.

    Args:
      memory: bytes by batch, for two batches.
      available: bytes.
    """
    (small, least), (large, most) = sorted(memory.items())
    if most <= least:  # images so small that padding and the program itself outweigh them
        return large
    return max(large, int(large + (available - most) * (large - small) / (most - least)))


def collectives(text: str) -> dict[str, int]:
    """The number of each collective in the text of a compiled program."""
    return dict(collections.Counter(COLLECTIVE.findall(text)))


def compiler() -> dict[str, str]:
    """Versions of the compiler's packages."""
    return {name: importlib.metadata.version(name) for name in ("jax", "libtpu")}


def flops(function: Callable[..., Any], *arguments: Any) -> int:
    """Floating-point operations of one call: its convolutions and matrix products, counted without running it.

    The rule is that of torch's FlopCounterMode: two per multiplication and its addition, nothing for anything else, and
    a convolution over padding counts like one over pixels. XLA's own count (`cost_analysis`) knows neither the length
    of a loop nor the work of a library call inside a compiled program.

    Args:
      function: traced, not run; of the branches of a `cond` the most expensive counts.
      *arguments: arrays, or `jax.ShapeDtypeStruct`s in their place.

    Raises:
      ValueError: work is done in a loop whose length is known only when it runs, or in a handwritten kernel.
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _described(compiled: Any, seconds: float) -> Program:
    memory = compiled.memory_analysis()
    return Program(
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        output=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
        flops=compiled.cost_analysis()["flops"],
        collectives=collectives(compiled.as_text()),
        seconds=seconds,
    )


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
        raise ValueError(f"the program does not say how often a {name} does its work")
    return sum(inner) * parameters.get("length", 1)  # of a scan


def _inside(parameters: dict[str, Any]) -> Iterator[core.Jaxpr]:
    """The programs that an operation holds."""
    for value in parameters.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, core.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, core.Jaxpr):
                yield item
