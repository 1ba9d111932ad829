"""The training step of ResNet-32 and ResNet-18 on 32x32 images, and torch's in the same run.

    jaxcil benchmark train
    jaxcil benchmark train --network=resnet32 --batch=64

Ours runs as in the training loop: several steps in one scan, a batch spread over the devices, which on a CPU are its
cores. Torch's runs eagerly, on one thread per core, in float32 with channels-last maps. A ratio below 1 means that ours
is faster. The step's parts are measured by omission: the forward pass alone, and the step with running statistics, in
which batch normalisation costs no more than a bias.
"""

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxcil import convolution
from jaxcil.benchmarks import torch_resnet
from jaxcil.benchmarks.timing import rounds_for, smallest_seconds
from jaxcil.errors import InputError, unknown_name
from jaxcil.extractors.resnet import ResNet18
from jaxcil.extractors.resnet_cifar import ResNetCIFAR
from jaxcil.parallel import mesh
from jaxcil.training.optimizer import SGD

CLASSES, SIDE, STEPS = 10, 32, 2
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet32": lambda: ResNetCIFAR(convolution=convolution.conv_general_dilated),
    "resnet18": lambda: ResNet18(convolution=convolution.conv_general_dilated),
}


def run(network: str | None = None, batch: int = 128) -> dict[str, Any]:
    """Times both libraries in turn, several times, and takes the smallest time of each.

    Args:
      network: a name of `NETWORKS`; None: all.
      batch: images per step.

    Returns:
      By network: seconds per step, fractions of its parts, and the time of our step divided by that of torch's (None
      where torch is not installed, or the device is no CPU).

    Raises:
      InputError: no such network, or no images.
    """
    if network is not None and network not in NETWORKS:
        raise unknown_name("network", network, NETWORKS)
    if batch < 1:
        raise InputError(f"--batch is the number of images per step, at least 1, got {batch}")
    mesh.one_device_per_core()
    result: dict[str, Any] = {"device": mesh.device_kind(), "jax": jax.__version__, "batch": batch}
    for name in [network] if network else NETWORKS:
        result[name] = _figures(name, batch)
    return result


def _figures(name: str, batch: int) -> dict[str, Any]:
    on = mesh.training_mesh(batch_size=batch)
    ways = _ways(NETWORKS[name](), batch, on)
    with ExitStack() as stack:
        if jax.default_backend() == "cpu" and not torch_resnet.missing():
            _, ways["torch"] = stack.enter_context(torch_resnet.torch_resnet(name, batch, STEPS))
        best = smallest_seconds(ways, rounds_for(ways))
    step, forward, torch = best["step"], best["forward"], best.get("torch")
    return {
        "devices": mesh.data_devices(on),
        "step_seconds": step / STEPS,
        "forward_fraction": forward / step,
        "backward_fraction": 1 - forward / step,
        "batch_statistics_fraction": 1 - best["running statistics"] / step,
        "torch_step_seconds": torch and torch / STEPS,
        "step_over_torch": torch and step / torch,
    }


def _ways(network: nn.Module, batch: int, on: jax.sharding.Mesh) -> dict[str, Callable[[], object]]:
    """The step, its forward pass alone and the step without batch statistics, each `STEPS` times in one program."""
    images = jax.random.normal(jax.random.key(0), (batch, SIDE, SIDE, 3))
    shown = mesh.shard_batch(on, (images, jnp.arange(batch) % CLASSES))
    optimizer = SGD(0.1, 5e-4).build(1000)
    variables = jax.jit(network.init)(jax.random.key(1), images[:1])
    features = jax.eval_shape(network.apply, variables, images)
    parameters = (variables["params"], jnp.zeros((features.shape[-1], CLASSES)))  # type: ignore[union-attr]

    def loss(parameters: Any, statistics: Any, shown: tuple[Array, Array], train: bool) -> Any:
        images, labels = shown
        features, changed = network.apply(
            {"params": parameters[0], "batch_stats": statistics}, images, train=train, mutable=["batch_stats"]
        )
        logits = features @ parameters[1]
        value = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return value, changed.get("batch_stats", statistics)

    def step(train: bool, shown: tuple[Array, Array], state: Any) -> Any:
        parameters, statistics, moments = state
        gradient, statistics = jax.grad(loss, has_aux=True)(parameters, statistics, shown, train)
        updates, moments = optimizer.update(gradient, moments, parameters)
        return optax.apply_updates(parameters, updates), statistics, moments

    def forward(shown: tuple[Array, Array], state: Any) -> Any:
        parameters, statistics, moments = state
        value, statistics = loss(parameters, statistics, shown, True)
        # each step depends on the one before, as in training
        return (jax.tree.map(lambda leaf: leaf + 1e-9 * value, parameters), statistics, moments)

    bodies = {
        "step": functools.partial(step, True),
        "forward": forward,
        "running statistics": functools.partial(step, False),
    }
    state = (parameters, variables["batch_stats"], optimizer.init(parameters))
    state = mesh.place(state, mesh.everywhere(on))
    return {name: _several(body, state, shown) for name, body in bodies.items()}


def _several(body: Callable[..., Any], state: Any, shown: Any) -> Callable[[], object]:
    @jax.jit
    def program(state: Any, shown: Any) -> Any:
        return jax.lax.scan(lambda state, _: (body(shown, state), None), state, length=STEPS)

    return lambda: jax.block_until_ready(program(state, shown))
