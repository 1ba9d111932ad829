"""The one place that names devices and mesh axes.

One mesh of two axes: "sweep" holds runs that share nothing (seeds, hyperparameters), "data" the images of
a batch. Training uses all devices of all processes; generation uses those of its own process, since processes
share that work without communicating. The axes are Auto: the compiler propagates shardings from the inputs.
"""

import math
import os
import pathlib
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxcil.errors import InputError

SWEEP, DATA = "sweep", "data"
MOST_CPU_DEVICES = 8
CPU_QUOTA = pathlib.Path("/sys/fs/cgroup/cpu.max")  # microseconds of CPU time (or "max") and of the period


def one_device_per_core() -> None:
    """Gives the CPU a device for each core, up to `MOST_CPU_DEVICES`; to be called before jax computes anything.

    XLA's CPU compiler has kernels for convolutions that take one thread each, so that a training on one device leaves
    the other cores idle: of two cores, one device takes 1.6 times as long for a step of ResNet-32 as two
    (`jaxcil benchmark train` with JAX_NUM_CPU_DEVICES=1 and without). Every device has a copy of what it computes with.
    There must not be more devices than cores, or collectives wait for each other for ever. A number that is set by
    JAX_NUM_CPU_DEVICES or XLA_FLAGS is kept.
    """
    is_set = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not is_set and jax.config.jax_num_cpu_devices < 0:  # type: ignore[attr-defined]
        jax.config.update("jax_num_cpu_devices", min(_cores(), MOST_CPU_DEVICES))


def _cores() -> int:
    """Cores that this process may use: those that it sees, at most as many as its container's quota of CPU time."""
    seen = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CPU_QUOTA.read_text().split()
        return seen if quota == "max" else min(seen, max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # no control groups, or of another version
        return seen


def training_mesh(
    runs: int = 1,
    devices: list[Any] | None = None,
    batch_size: int | None = None,
    resident: int = 0,
) -> Mesh:
    """A mesh over all devices for `runs` trainings side by side.

    Runs are spread first, since they need no communication: the sweep axis is the greatest common divisor
    of the number of runs and of devices, the data axis takes the rest.

    Args:
      runs: length of the leading axis of the training state.
      devices: those to use; None takes all of all processes.
      batch_size: of a run. CPU devices that do not divide it are left idle; on accelerators this is an error.
      resident: bytes that every device holds. CPU devices are dropped until the copies fit in half of the memory.

    Raises:
      InputError: the batch does not divide over the devices.
    """
    devices = jax.devices() if devices is None else devices
    if _may_be_idle(devices):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        devices = devices[: max(1, memory // 2 // max(resident, 1))]
        if batch_size is not None:
            fitting = (n for n in range(len(devices), 0, -1) if batch_size % (n // math.gcd(runs, n)) == 0)
            devices = devices[: next(fitting)]
    elif batch_size is not None:
        _check_divides(batch_size, runs, devices)
    sweep = math.gcd(runs, len(devices))
    shape = (sweep, len(devices) // sweep)
    return jax.make_mesh(shape, (SWEEP, DATA), axis_types=(AxisType.Auto,) * 2, devices=devices)


def check_batch(runs: int, batch_size: int) -> None:
    """Refuses a batch that `training_mesh` would refuse for this number of runs on all devices.

    Raises:
      InputError: the batch does not divide over the devices.
    """
    if not _may_be_idle(jax.devices()):
        _check_divides(batch_size, runs, jax.devices())


def _may_be_idle(devices: list[Any]) -> bool:
    """Whether some devices may be left out: those of one process on a CPU, where they are cores."""
    return jax.process_count() == 1 and devices[0].platform == "cpu"


def _check_divides(batch_size: int, runs: int, devices: list[Any]) -> None:
    shared = len(devices) // math.gcd(runs, len(devices))
    if batch_size % shared:
        raise InputError(
            f"a batch of {batch_size} images does not divide over {shared} devices; take a multiple"
        )


def generation_mesh(devices: list[Any] | None = None) -> Mesh:
    """A mesh over the process's own devices, all of them along the images of a batch."""
    devices = jax.local_devices() if devices is None else devices
    return jax.make_mesh((1, len(devices)), (SWEEP, DATA), axis_types=(AxisType.Auto,) * 2, devices=devices)


def per_run(mesh: Mesh) -> NamedSharding:
    """For arrays [runs, ...]: states of several trainings."""
    return NamedSharding(mesh, PartitionSpec(SWEEP))


def per_image(mesh: Mesh) -> NamedSharding:
    """For arrays [B, ...]: one batch."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def per_step_run_and_image(mesh: Mesh) -> NamedSharding:
    """For arrays [steps, runs, B, ...]: the batches of a chunk of steps."""
    return NamedSharding(mesh, PartitionSpec(None, SWEEP, DATA))


def per_step_and_image(mesh: Mesh) -> NamedSharding:
    """For arrays [steps, B, ...]: the batches of a chunk of steps, the same for all runs."""
    return NamedSharding(mesh, PartitionSpec(None, DATA))


def everywhere(mesh: Mesh) -> NamedSharding:
    """For arrays that every device holds whole: data sets, parameters that are only read."""
    return NamedSharding(mesh, PartitionSpec())


def place(tree: Any, sharding: NamedSharding) -> Any:
    """Places every array of a pytree by a sharding; each of several processes passes the same arrays."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def put(leaf: Any) -> Array:
        if isinstance(leaf, Array) and not leaf.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(put, tree)


def on_host(tree: Any) -> Any:
    """Every array of a pytree as a NumPy array; if devices of several processes hold it, all of them must call this."""

    def get(leaf: Any) -> np.ndarray:
        if isinstance(leaf, Array) and not leaf.is_fully_addressable:
            leaf = jax.device_put(leaf, everywhere(leaf.sharding.mesh)).addressable_data(0)  # type: ignore[attr-defined]
        return np.asarray(leaf)

    return jax.tree.map(get, tree)


def device_kind() -> str:
    """Platform and model of the devices of this process, for records."""
    device = jax.local_devices()[0]
    return (
        f"{device.platform}: {device.device_kind}, {jax.device_count()} in {jax.process_count()} process(es)"
    )


def platform(mesh: Mesh) -> str:
    """The platform of a mesh: "cpu", "gpu" or "tpu"."""
    return mesh.devices.flat[0].platform


def compute_capability(mesh: Mesh) -> float:
    """The compute capability of a mesh of NVIDIA GPUs (8.0 is Ampere, 9.0 Hopper); 0 for all other devices."""
    version = str(getattr(mesh.devices.flat[0], "compute_capability", ""))
    return float(version) if re.fullmatch(r"\d+\.\d+", version) else 0.0  # AMD's has letters, if any


def places_here(mesh: Mesh, batch_size: int) -> range:
    """The places of every batch that the devices of this process hold, so that it reads no other images.

    The devices of several runs may hold places that are not adjacent; the places between them are read too.

    Args:
      mesh: of a training.
      batch_size: a multiple of `data_devices`.
    """
    here = jax.process_index()
    mine = [place for (_, place), device in np.ndenumerate(mesh.devices) if device.process_index == here]
    size = batch_size // data_devices(mesh)
    return range(size * min(mine), size * (max(mine) + 1))


def place_here(tree: Any, mesh: Mesh, batch_size: int) -> Any:
    """Places the batches of a chunk of steps as `per_step_and_image` does, each process those that it has read.

    Args:
      tree: pytree of arrays [steps, B', ...] on the host, of the places that `places_here` names.
      mesh: of a training.
      batch_size: B.

    Returns:
      Global arrays [steps, B, ...].
    """
    first, sharding = places_here(mesh, batch_size).start, per_step_and_image(mesh)

    def put(leaf: np.ndarray) -> Array:
        def part(index: Any) -> np.ndarray:
            start, stop, _ = index[1].indices(batch_size)
            return leaf[:, start - first : stop - first]

        shape = (len(leaf), batch_size, *leaf.shape[2:])
        return jax.make_array_from_callback(shape, sharding, part)

    return jax.tree.map(put, tree)


def data_devices(mesh: Mesh) -> int:
    """Number of devices that share a batch; its size must be a multiple."""
    return mesh.shape[DATA]


def shard_batch(mesh: Mesh, batch: Array | Any) -> Any:
    """Places one batch [B, ...] along the data axis."""
    return place(batch, per_image(mesh))


def over_images(mesh: Mesh, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of arrays [B, ...] that each device calls with its own images, for kernels that no compiler splits.

    The compiler partitions only operations that it knows; for a Pallas kernel it would gather the batch. B must be a
    multiple of `data_devices`.
    """
    devices = data_devices(mesh)

    def run(*batch: Array) -> Any:
        if batch[0].shape[0] % devices:
            raise InputError(
                f"a batch of {batch[0].shape[0]} cannot be spread over {devices} devices: make it a multiple."
            )
        images = PartitionSpec(DATA)
        spread = jax.shard_map(function, mesh=mesh, in_specs=images, out_specs=images, check_vma=False)
        return spread(*batch)

    return run
