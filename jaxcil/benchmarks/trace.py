"""A trace of a program, summarised: the time by network and by kind of operation.

Operations of the trace are joined to the compiled program's text by their names; the text gives the module that each
came from. The folder opens in xprof or TensorBoard, which show more.
"""

import pathlib
import re
from collections import Counter
from typing import Any

import jax
from jax.profiler import ProfileData

from jaxcil.benchmarks.drawing import Part

TOP = 20
# Names of modules in an operation's origin -> part of the model.
NETWORKS = {"UNet2DCondition": "unet", "AutoencoderKL": "vae_decoder"}
# Kind of operation -> pattern of its origin or, failing that, of its name; the first match counts.
KINDS = {
    "attention": r"(attn\d?|attentions_\d+)/vmap\(|dot_product_attention|fmha|sdpa|flash",
    "convolution": r"conv_general_dilated|cudnn-conv|convolution",
    "matrix product": r"dot_general|gemm|cublas|nvjet|\bdot\b",
    "normalisation": r"norm",
}
# also of an operation's layout
COPY = re.compile(r"(wrapped_)?(copy|transpose|reverse|concatenate|pad)\b|Memcpy")
# hold operations that have events of their own
CONTAINERS = re.compile(r"(while|call|conditional|async-\w+)[.\d]*$")
ORIGIN = re.compile(r'^\s*(?:ROOT )?%?([\w.\-]+) = .*?op_name="([^"]*)"', re.MULTILINE)


def traced(program: Part, directory: str) -> dict[str, Any]:
    """Runs a compiled program once under jax's profiler.

    Args:
      program: called before.
      directory: for the trace; made if absent.

    Returns:
      Seconds of operations: total, by network, by kind, and the `TOP` longest with their origin. On a GPU `busy` is the
      fraction of the time between the first and the last in which one ran; on a CPU several run at a time, and seconds
      are those of all threads.
    """
    program.call()
    with jax.profiler.trace(directory):
        program.call()
    traces = pathlib.Path(directory).rglob("*.xplane.pb")
    newest = max(traces, key=lambda path: path.stat().st_mtime_ns)
    events = _events(ProfileData.from_file(str(newest)))
    origins = dict(ORIGIN.findall(program.text()))
    total = sum(duration for _, _, duration in events)
    by_network: Counter[str] = Counter()
    by_kind: Counter[str] = Counter()
    by_name: Counter[str] = Counter()
    for name, _, duration in events:
        origin = origins.get(name, "")
        by_network[_network(origin)] += duration
        by_kind[_kind(name, origin)] += duration
        by_name[f"{name} {origin}"] += duration
    start = min(start for _, start, _ in events)
    end = max(start + duration for _, start, duration in events)
    return {
        "directory": directory,
        "seconds": total / 1e9,
        "busy": total / (end - start),
        "by_network": _fractions(by_network, total),
        "by_kind": _fractions(by_kind, total),
        "longest": _fractions(Counter(dict(by_name.most_common(TOP))), total),
    }


def _events(data: Any) -> list[tuple[str, int, int]]:
    """Operations of the compiled programs: name, start and duration in nanoseconds."""
    planes = list(data.planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:")]
    events = []
    for plane in devices or planes:
        for line in plane.lines:
            of_device = bool(devices) and line.name.startswith(("Stream", "XLA Ops"))
            for event in line.events:
                # device time without an operation's name counts as well
                name = dict(event.stats).get("hlo_op") or (event.name if of_device else None)
                if name and not event.name.startswith("end:") and not CONTAINERS.match(str(name)):
                    events.append((str(name), int(event.start_ns), int(event.duration_ns)))
    return events


def _network(origin: str) -> str:
    otherwise = "solver" if origin else "unknown"
    return next((part for module, part in NETWORKS.items() if module in origin), otherwise)


def _kind(name: str, origin: str) -> str:
    if COPY.match(name):
        return "copy"
    for words in (origin, name):
        for kind, pattern in KINDS.items():
            if re.search(pattern, words):
                return kind
    return "other"


def _fractions(counted: Counter[str], total: float) -> dict[str, float]:
    return {name: value / total for name, value in counted.most_common()}
