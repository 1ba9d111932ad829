"""The training step of torch's ResNets on a CPU, in a process of its own, to compare ours with.

Eager execution in float32 with channels-last maps, SGD with momentum and weight decay, as in class-incremental code on
torch.
"""

import contextlib
import importlib.util
import os
from collections.abc import Callable
from typing import Any

from jaxcil.benchmarks.other_process import calling, serve


def missing() -> bool:
    """Whether torch is not installed."""
    return importlib.util.find_spec("torch") is None


def torch_resnet(name: str, batch: int, steps: int) -> contextlib.AbstractContextManager[Any]:
    """A network in another process, as long as the context lasts; yields a name and a function that trains.

    Args:
      name: "resnet32" or "resnet18".
      batch: images per step.
      steps: per call of that function.
    """
    return calling(__name__, {"name": name, "batch": batch, "steps": steps})


def _steps(name: str, batch: int, steps: int) -> tuple[str, Callable[[], None]]:
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(len(os.sched_getaffinity(0)))  # XLA's number of threads
    torch.manual_seed(0)
    width, blocks, projected = {"resnet32": (16, (5, 5, 5), False), "resnet18": (64, (2, 2, 2, 2), True)}[
        name
    ]
    model = network(torch, width, blocks, projected).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    images = torch.randn(batch, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.arange(batch) % 10

    def call() -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()

    for _ in range(2):  # the first chooses kernels
        call()
    return "eager", call


def network(torch: Any, width: int, blocks: tuple[int, ...], projected: bool) -> Any:
    """A ResNet as a sequence: convolution, ReLU, blocks, the mean of the maps, and a linear layer of 10 classes.

    Args:
      torch: the module.
      width: channels of the first stage, doubled in every further one.
      blocks: of each stage.
      projected: whether shortcuts of other widths are convolutions, rather than pixels left out and zeros.
    """
    nn, functional = torch.nn, torch.nn.functional

    def layer(inputs: int, outputs: int, size: int, stride: int) -> Any:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs)
        )

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int):
            super().__init__()
            self.first, self.second = layer(inputs, outputs, 3, stride), layer(outputs, outputs, 3, 1)
            self.more = outputs - inputs
            self.projection = layer(inputs, outputs, 1, stride) if projected and self.more else None

        def forward(self, x: Any) -> Any:
            y = self.second(functional.relu(self.first(x)))
            if self.projection is not None:
                x = self.projection(x)
            elif self.more:
                x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.more))
            return functional.relu(x + y)

    layers, inputs = [layer(3, width, 3, 1), nn.ReLU()], width
    for stage, count in enumerate(blocks):
        for block in range(count):
            outputs = width * 2**stage
            layers.append(Block(inputs, outputs, 2 if stage and not block else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))


if __name__ == "__main__":
    serve(_steps)
