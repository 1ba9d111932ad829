"""Training steps of iCaRL, LUCIR and PODNet in torch on a CPU, teacher included, in a process of its own.

Plain eager code in float32 with channels-last maps, on one thread per core: what `torch_resnet` is for a network alone.
"""

import contextlib
import os
from collections.abc import Callable
from typing import Any

from jaxcil.benchmarks.other_process import calling, serve
from jaxcil.benchmarks.torch_resnet import network

STAGES = (7, 12, 17)  # layers of the network after which a stage ends: a convolution, a ReLU and 15 blocks
PROXIES = 10


def torch_learner(
    name: str, batch: int, steps: int, old: int, new: int
) -> contextlib.AbstractContextManager[Any]:
    """A learner in another process, as long as the context lasts; yields a name and a function that trains.

    Args:
      name: "icarl", "lucir" or "podnet".
      batch: images per step.
      steps: per call of that function.
      old: classes of the past.
      new: classes of the task.
    """
    return calling(__name__, {"name": name, "batch": batch, "steps": steps, "old": old, "new": new})


def _steps(name: str, batch: int, steps: int, old: int, new: int) -> tuple[str, Callable[[], None]]:
    import torch  # pyright: ignore[reportMissingImports]

    functional = torch.nn.functional
    torch.set_num_threads(len(os.sched_getaffinity(0)))  # XLA's number of threads
    torch.manual_seed(0)
    models = [network(torch, 16, (5, 5, 5), name != "icarl")[:17] for _ in range(2)]
    student, teacher = (model.to(memory_format=torch.channels_last) for model in models)
    rows = (old + new) * (PROXIES if name == "podnet" else 1)
    layer, kept = (torch.nn.Linear(64, rows, bias=name == "icarl") for _ in range(2))
    sigma = torch.nn.Parameter(torch.ones(()))
    parameters = [*student.parameters(), *layer.parameters(), sigma]
    optimizer = torch.optim.SGD(parameters, 0.1, momentum=0.9, weight_decay=5e-4)
    images = torch.randn(batch, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.arange(batch) % (old + new)
    is_old = labels < old

    def outputs(model: Any) -> tuple[Any, list[Any]]:
        x, maps = images, []
        for number, part in enumerate(model, 1):
            x = part(x)
            if number in STAGES:
                maps.append(x)
        return x.mean((2, 3)), maps

    def icarl(own: Any, before: Any) -> Any:
        logits, target = layer(own[0]), kept(before[0])[:, :old]
        soft = torch.softmax(target / 2, 1)
        distilled = -(soft * torch.log_softmax(logits[:, :old] / 2, 1)).sum(1).mean()
        return functional.cross_entropy(logits, labels) + distilled

    def lucir(own: Any, before: Any) -> Any:
        cosines = functional.linear(functional.normalize(own[0]), functional.normalize(layer.weight))
        forgotten = (1 - functional.cosine_similarity(own[0], before[0])).mean()
        margin = 0.5 - cosines.gather(1, labels[:, None]) + cosines[:, old:].topk(2, dim=1)[0]
        ranked = functional.relu(margin)[is_old].mean()
        return functional.cross_entropy(sigma * cosines, labels) + 5 * forgotten + ranked

    def pooled(maps: Any) -> Any:
        squares = maps.pow(2)
        return functional.normalize(torch.cat([squares.sum(3).flatten(1), squares.sum(2).flatten(1)], 1))

    def podnet(own: Any, before: Any) -> Any:
        scores = functional.linear(functional.normalize(own[0]), functional.normalize(layer.weight))
        scores = (2 * scores - 2).view(batch, old + new, PROXIES)
        u = sigma * (torch.softmax(scores, 2) * scores).sum(2)
        u = u - u.max(1, keepdim=True)[0]
        right = u.gather(1, labels[:, None])[:, 0]
        others = u.exp().scatter(1, labels[:, None], 0).sum(1)
        flat = (1 - functional.cosine_similarity(own[0], before[0])).mean()
        spatial = sum((pooled(a) - pooled(b)).norm(dim=1).mean() for a, b in zip(own[1], before[1]))
        return (-right + torch.log1p(others)).mean() + flat + spatial

    loss = {"icarl": icarl, "lucir": lucir, "podnet": podnet}[name]
    teacher.eval()

    def call() -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            with torch.no_grad():
                before = outputs(teacher)
            loss(outputs(student), before).backward()
            optimizer.step()

    for _ in range(2):  # the first chooses kernels
        call()
    return "eager", call


if __name__ == "__main__":
    serve(_steps)
