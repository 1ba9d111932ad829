"""The quickstart's training step: in a scan, and vmapped over seeds, each against the same step called from Python.

    jaxcil benchmark convolution

Both ratios measure what `jaxcil.convolution` is for: 1 means that a loop or a vmap costs nothing. The ratios of the
stock convolution show the cliff that it removes on a CPU.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcil import convolution
from jaxcil.benchmarks.timing import smallest_seconds
from jaxcil.extractors.resnet_cifar import ResNetCIFAR
from jaxcil.learners.supervised import Supervised
from jaxcil.parallel import mesh
from jaxcil.training import loop
from jaxcil.training.learner import Task
from jaxcil.training.optimizer import sgd
from jaxcil.training.tasks import Data, as_batch

BATCH, CLASSES, SIDE = 64, 10, 16
STEPS, SEEDS = 8, 4


def run() -> dict[str, Any]:
    """Times all ways in turn, several times, and takes the smallest time of each.

    Returns:
      Seconds per step and ratios, for this convolution and for jax's own.
    """
    result: dict[str, Any] = {"device": mesh.device_kind(), "jax": jax.__version__}
    for kind, (function, rounds) in {
        "jaxcil": (convolution.conv_general_dilated, 7),
        "stock": (jax.lax.conv_general_dilated, 2),  # in a scan on a CPU it takes seconds a round
    }.items():
        best = smallest_seconds(_ways(function), rounds)
        result[kind] = {
            "step_seconds": best["calls"] / STEPS,
            "scan_over_calls": best["scan"] / best["calls"],
            "vmap_over_calls": best["vmap"] / best["calls of all seeds"],
        }
    return result


def _ways(function: Callable[..., Any]) -> dict[str, Callable[[], None]]:
    """Every way to run the step, compiled and run once."""
    images = jax.random.randint(jax.random.key(0), (BATCH, SIDE, SIDE, 3), 0, 256).astype(jnp.uint8)
    labels = np.arange(BATCH) % CLASSES
    clock = loop.Clock(*map(jnp.int32, (0, 1000, 0, 1000)))
    batch = as_batch(Data(images, jnp.asarray(labels), jnp.zeros(BATCH, bool)), clock)
    learner = Supervised(
        optimizer=sgd(0.1, 5e-4),
        num_classes=CLASSES,
        network=ResNetCIFAR(blocks=1, convolution=function),
        steps=1000,
        batch_size=BATCH,
    )
    key = jax.random.key(1)
    rows, every = np.arange(BATCH), np.ones(CLASSES, bool)
    task = Task(0, rows, rows[:0], labels, every, every)
    state = jax.jit(lambda key: learner.begin(learner.init(key, jnp.zeros((1, SIDE, SIDE, 3))), task, key))(
        key
    )
    states = jax.tree.map(lambda leaf: jnp.stack([leaf] * SEEDS), state)
    step = jax.jit(learner.step)
    scan = jax.jit(
        lambda s: jax.lax.scan(lambda s, _: (learner.step(s, batch, key)[0], None), s, length=STEPS)[0]
    )
    vmapped = jax.jit(jax.vmap(lambda s: learner.step(s, batch, key)[0]))

    def calls(count: int) -> Callable[[], None]:
        def run() -> None:
            s = state
            for _ in range(count):
                s, _ = step(s, batch, key)
            jax.block_until_ready(s)

        return run

    ways: dict[str, Callable[[], None]] = {
        "calls": calls(STEPS),
        "scan": lambda: jax.block_until_ready(scan(state)),
        "calls of all seeds": calls(SEEDS),
        "vmap": lambda: jax.block_until_ready(vmapped(states)),
    }
    for call in ways.values():
        call()
    return ways
