"""A training step of iCaRL, LUCIR and PODNet in a later task, teacher included, and torch's in the same run.

    jaxcil benchmark learners
    jaxcil benchmark learners --only=lucir --batch=64

A ResNet-32 (with 1x1 shortcuts but for iCaRL) on 32x32 images with 50 old classes and 10 new ones. Ours is the program
that a run compiles; torch's runs eagerly, on one thread per core, in float32 with channels-last maps. A ratio below 1
means that ours is faster.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcil import convolution, keys
from jaxcil.benchmarks import torch_resnet
from jaxcil.benchmarks.timing import rounds_for, smallest_seconds
from jaxcil.benchmarks.torch_learners import torch_learner
from jaxcil.data.augmentation.augmentation import Augmentation
from jaxcil.errors import InputError, unknown_name
from jaxcil.experiment.fields import LaterTrainingSettings, MemorySettings
from jaxcil.extractors.by_name import make_network
from jaxcil.extractors.output_layer import Linear
from jaxcil.learners.icarl import icarl
from jaxcil.learners.lucir import lucir
from jaxcil.learners.podnet import podnet
from jaxcil.parallel import mesh
from jaxcil.training import loop, tasks
from jaxcil.training.learner import Setup, Task, Training
from jaxcil.training.optimizer import sgd

OLD, NEW, SIDE, STEPS = 50, 10, 32, 2
LEARNERS: dict[str, tuple[Callable[..., Any], str]] = {
    "icarl": (icarl, "resnet32"),
    "lucir": (lucir, "resnet32_lucir"),
    "podnet": (podnet, "resnet32_lucir"),
}


def run(only: tuple[str, ...] = (), batch: int = 128) -> dict[str, Any]:
    """Times both libraries in turn, several times, and takes the smallest time of each.

    Args:
      only: names of `LEARNERS`; empty: all.
      batch: images per step.

    Returns:
      By learner: seconds per step, and the time of our step divided by that of torch's (None where torch is not
      installed, or the device is no CPU).

    Raises:
      InputError: no such learner, or no images.
    """
    for name in only:
        if name not in LEARNERS:
            raise unknown_name("learner", name, LEARNERS)
    if batch < 1:
        raise InputError(f"--batch is the number of images per step, at least 1, got {batch}")
    mesh.one_device_per_core()
    result: dict[str, Any] = {"device": mesh.device_kind(), "jax": jax.__version__, "batch": batch}
    return result | {name: _figures(name, batch) for name in only or LEARNERS}


def _figures(name: str, batch: int) -> dict[str, Any]:
    ways: dict[str, Callable[[], object]] = {"step": _step(name, batch)}
    with ExitStack() as stack:
        if jax.default_backend() == "cpu" and not torch_resnet.missing():
            _, ways["torch"] = stack.enter_context(torch_learner(name, batch, STEPS, OLD, NEW))
        best = smallest_seconds(ways, rounds_for(ways))
    step, torch = best["step"], best.get("torch")
    return {
        "step_seconds": step / STEPS,
        "torch_step_seconds": torch and torch / STEPS,
        "step_over_torch": torch and step / torch,
    }


def _step(name: str, batch: int) -> Callable[[], object]:
    """The chunk of `STEPS` steps of the second task's training."""
    maker, network = LEARNERS[name]
    learner = maker(_setup(network))
    labels = np.arange(batch, dtype=np.int32) % (OLD + NEW)
    seen = np.ones(OLD + NEW, bool)
    rows = np.arange(batch, dtype=np.int32)
    task = Task(1, rows, np.full(1, -1, np.int32), labels, seen, np.arange(OLD + NEW) >= OLD)
    key = keys.root_key(0)
    (state,) = tasks.initial_states(learner, [key], (SIDE, SIDE))
    phases = learner.phases(1)
    state = phases[0].fit(learner, state, {}, {}, task._replace(index=0, new=seen), key)
    training = next(phase for phase in phases if isinstance(phase, Training))
    images = jax.random.randint(key, (batch, SIDE, SIDE, 3), 0, 256).astype(jnp.uint8)
    data = tasks.Data(images, jnp.asarray(labels), jnp.zeros(batch, bool))
    on = mesh.training_mesh(batch_size=batch)
    begun = tasks.stacked([training.begin(learner, state, task, key)])
    states = mesh.place(begun, mesh.per_run(on))
    data = mesh.place(data, mesh.everywhere(on))
    schedule = mesh.place(np.broadcast_to(rows, (STEPS, 1, batch)), mesh.per_step_run_and_image(on))
    run_keys = mesh.place(jnp.stack([key]), mesh.per_run(on))
    program = loop.program(training.step, batch=tasks.as_batch)
    clock = np.int32(0), np.int32(1000), np.int32(10)

    def call() -> object:
        nonlocal states
        states, metrics = program(learner, states, data, schedule, run_keys, *clock)
        states = mesh.place(states, mesh.per_run(on))
        return jax.block_until_ready((states, metrics))

    return call


def _setup(network: str) -> Setup:
    return Setup(
        num_classes=OLD + NEW,
        other_classes=0,
        task_sizes=(OLD, NEW),
        image_shape=(SIDE, SIDE),
        images_per_class=500,
        network=make_network(network, "float32", convolution.conv_general_dilated),
        output_layer=Linear(),
        optimizer=sgd(0.1, 5e-4),
        steps=STEPS,
        batch_size=128,
        augmentation=Augmentation(),
        label_smoothing=None,
        average_decay=None,
        heads={},
        later_training=LaterTrainingSettings(),
        memory=MemorySettings(),
    )
