"""Twenty steps of `sample` in one program, against twenty calls of the same network from Python.

    jaxcil benchmark sample

The ratio is the cost of the loop, the plan's arithmetic and its noise: 1 is nothing. It is measured for the small
UNet of the embedded digits and for one of Stable Diffusion 1.5's shape, whose 860 million parameters (3.4 GB) a
loop must read in place; their values are made up, which does not change the times.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import Array

from jaxcil.benchmarks.timing import smallest_seconds
from jaxcil.diffusion import released
from jaxcil.diffusion.unet import UNet2DCondition
from jaxcil.parallel import mesh
from jaxcil.solvers import Node, er_sde, from_epsilon, sample, scheduler_grid
from jaxcil.synthesis.drawing.models import load_model

STEPS = 20


class Case(NamedTuple):
    """A network and its arguments."""

    network: UNet2DCondition
    parameters: Any
    x: Array  # [B, h, w, 4]
    text: Array  # [B, L, D]
    rounds: int


def run() -> dict[str, Any]:
    """Times both ways in turn, several times, and takes the smallest time of each.

    Returns:
      Seconds of one call from Python, and the time of `sample` divided by that of the calls.
    """
    result: dict[str, Any] = {"device": mesh.device_kind(), "jax": jax.__version__}
    for name, make in (("digits", _digits), ("stable_diffusion_1_5", _stable_diffusion)):
        case = make()
        best = smallest_seconds(_ways(case), case.rounds)
        result[name] = {
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(case.parameters)),
            "latents": list(case.x.shape),
            "call_seconds": best["calls"] / STEPS,
            "sample_over_calls": best["sample"] / best["calls"],
        }
    return result


def _ways(case: Case) -> dict[str, Callable[[], None]]:
    """Both ways, compiled and run once."""
    plan = er_sde(scheduler_grid(released.RELEASED["sd15"]["scheduler"], STEPS, final="zero"))
    key = jax.random.key(0)

    @jax.jit
    def network(parameters: Any, x: Array, at: Array, text: Array) -> Array:
        return case.network.apply({"params": parameters}, x, at, text)  # type: ignore[return-value]

    @jax.jit
    def whole(parameters: Any, x: Array, text: Array) -> Array:
        def epsilon(x: Array, node: Node) -> Array:
            return network(parameters, x, node.time, text)

        return sample(plan, from_epsilon(epsilon), x, key)

    def calls() -> None:
        x = case.x
        for at in plan.time[:-1]:  # each depends on the one before, as in the loop
            x = network(case.parameters, x, at, case.text)
        jax.block_until_ready(x)

    ways: dict[str, Callable[[], None]] = {
        "calls": calls,
        "sample": lambda: jax.block_until_ready(whole(case.parameters, case.x, case.text)),
    }
    for call in ways.values():
        call()
    return ways


def _digits() -> Case:
    model = load_model("digits")
    return _case(model.unet, model.parameters["unet"], batch=64, side=4, text=(16, 64), rounds=15)


def _stable_diffusion() -> Case:
    model = released.abstract(released.RELEASED["sd15"])
    parameters = released.made_up_parameters(model.parameters["unet"])
    return _case(model.unet, parameters, batch=1, side=8, text=(77, 768), rounds=3)


def _case(
    network: UNet2DCondition, parameters: Any, *, batch: int, side: int, text: tuple[int, int], rounds: int
) -> Case:
    keys = jax.random.split(jax.random.key(1))
    return Case(
        network,
        parameters,
        jax.random.normal(keys[0], (batch, side, side, network.in_channels)),
        jax.random.normal(keys[1], (batch, *text)),
        rounds,
    )
