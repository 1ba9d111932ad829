"""The UNet of torch diffusers on a CPU, in a separate process: the peer of ours.

Its weights are random: both networks have the same shape, and a time depends on nothing else.
"""

import contextlib
import functools
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from jaxcil.benchmarks.other_process import calling, serve

NEEDS = ("torch", "diffusers")
TRIES = 3  # of each way to run it, before the fastest is chosen


class Peer(NamedTuple):
    """A UNet in another process."""

    way: str  # the fastest of those tried
    call: Callable[[], object]  # returns when the calls are done


def missing() -> list[str]:
    """Packages that the peer needs and that are not installed."""
    return [name for name in NEEDS if importlib.util.find_spec(name) is None]


@contextlib.contextmanager
def torch_unet(
    config: dict[str, Any], latents: Sequence[int], text: Sequence[int], nfe: int
) -> Iterator[Peer]:
    """The UNet of torch diffusers, run in the way that is fastest here, for as long as the context lasts.

    Tried are eager execution with contiguous and with channels-last maps, and torch.compile on the faster of them.

    Args:
      config: of `jaxcil.diffusion.config.config_of`.
      latents: [B, h, w, C].
      text: [B, L, D].
      nfe: successive calls of the network that `Peer.call` makes.

    Raises:
      RuntimeError: the process ended; it prints why on standard error.
    """
    asked = {"config": config, "latents": [*latents], "text": [*text], "nfe": nfe}
    with calling(__name__, asked) as (way, call):
        yield Peer(way, call)


def _fastest(
    config: dict[str, Any], latents: Sequence[int], text: Sequence[int], nfe: int
) -> tuple[str, Callable[[], float]]:
    import torch  # pyright: ignore[reportMissingImports]
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    torch.set_num_threads(len(os.sched_getaffinity(0)))  # equally many as XLA uses
    torch.manual_seed(0)
    with torch.device("meta"):  # drawing the class's own initial values takes a minute
        network: Any = UNet2DConditionModel.from_config(config)
    network = network.to_empty(device="cpu").eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.normal_(std=0.02)
    batch, height, width, channels = latents
    maps, states = torch.randn(batch, channels, height, width), torch.randn(*text)

    def seconds(function: Any, x: Any, count: int = 1) -> float:
        start = time.perf_counter()
        with torch.inference_mode():
            for _ in range(count):
                function(x, torch.tensor(500), states)
        return time.perf_counter() - start

    def best(function: Any, x: Any) -> float:
        seconds(function, x)
        return min(seconds(function, x) for _ in range(TRIES))

    tried = {}
    for name, layout in (("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last)):
        network, x = network.to(memory_format=layout), maps.to(memory_format=layout)
        tried[name] = best(network, x), layout
    name = min(tried, key=lambda key: tried[key][0])
    eager, layout = tried[name]
    network, x = network.to(memory_format=layout), maps.to(memory_format=layout)
    chosen = network
    try:
        compiled = torch.compile(network)
        if best(compiled, x) < eager:
            name, chosen = f"{name}, compiled", compiled
    except RuntimeError as error:  # no compiler for C++, say
        print(f"torch.compile does not work here: {str(error).splitlines()[0]}", file=sys.stderr)
    seconds(chosen, x)
    return name, functools.partial(seconds, chosen, x, nfe)


if __name__ == "__main__":
    serve(_fastest)
