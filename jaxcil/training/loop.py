"""The one training loop: steps in chunks, one compiled scan a chunk, a checkpoint after each.

A phase's step is written for one run. Here it gets an axis of runs (seeds), batches drawn by row number from
a data set that lies on the device, or read from the disk by each process for its devices, and a scan over a
fixed number of steps; the steps by which the last chunk is too long are masked, so a phase of any length
compiles once. What is saved after a chunk is the whole training state and the number of steps done; batches
and keys follow from that number, so going on gives the same bits.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil import keys
from jaxcil.data import batches
from jaxcil.errors import InputError
from jaxcil.parallel import mesh as meshes
from jaxcil.parallel import sweep


class Checkpoints(Protocol):
    """Where states are kept between chunks; `training.checkpoint.Checkpoints` is one."""

    def save(self, step: int, tree: Any) -> None:
        """Keeps the state after that many steps."""
        ...

    def restore(self, like: Any) -> tuple[int, Any] | None:
        """The newest state and its number of steps, or None."""
        ...


class Report(NamedTuple):
    """What the loop tells after a chunk."""

    done: int  # steps done, of
    total: int
    metrics: dict[str, np.ndarray]  # mean over the chunk's steps, a number a run

    @property
    def means(self) -> dict[str, float]:
        """The metrics as means over the runs."""
        return {name: float(value.mean()) for name, value in self.metrics.items()}

    @property
    def note(self) -> str:
        """Those means in a few words."""
        return ", ".join(f"{name} {value:.4f}" for name, value in self.means.items())


def begin(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function that makes initial states, compiled without optimisation.

    It runs once, and optimising the drawing of some dozens of kernels takes ten times as long as all the rest; the
    values agree to rounding.
    """
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})(*arguments)


def program(step: Callable[..., Any], policy: sweep.Policy = "vmap") -> Callable[..., Any]:
    """Compiles a phase's step for chunks of several runs; made once and used for every training of this step.

    Args:
      step: of a Phase: (train_state, batch, key) -> (train_state, metrics), for one run.
      policy: how the axis of runs is executed.

    Returns:
      A jitted function (train_states, data, rows, keys [runs], first, total) -> (train_states, metrics [S, runs])
      that does steps first ... first + S - 1 as far as they lie below total. Rows [S, runs, B] are of data [N, ...];
      where they are None, data [S, B, ...] are the batches themselves, the same for all runs.
    """
    steps = sweep.over_runs(step, policy)

    @functools.partial(jax.jit, donate_argnums=0)
    def chunk(states: Any, data: Any, rows: Array | None, run_keys: Array, first: Array, total: Array) -> Any:
        def body(states: Any, numbered: tuple[Array, Any]) -> tuple[Any, Any]:
            number, given = numbered
            step_keys = jax.vmap(lambda key: keys.fold(key, number))(run_keys)
            if rows is None:
                batch = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(run_keys), *leaf.shape)), given)
            else:
                batch = batches.take(data, given)
            new, metrics = steps(states, batch, step_keys)
            return jax.tree.map(lambda a, b: jnp.where(number < total, a, b), new, states), metrics

        given = data if rows is None else rows
        count = len(jax.tree.leaves(given)[0])
        return jax.lax.scan(body, states, (first + jnp.arange(count), given))

    return chunk


def _resident(
    rows: np.ndarray | Sequence[batches.Part], runs: int, batch_size: int
) -> Callable[..., np.ndarray]:
    """A function (batch keys, first, count) -> rows [S, runs, B] of a resident data set."""
    parts = [batches.Part(rows, batch_size)] if isinstance(rows, np.ndarray) else list(rows)
    if sum(part.size for part in parts) != batch_size:
        raise ValueError(f"parts of {[part.size for part in parts]} rows do not make a batch of {batch_size}")
    every = [np.broadcast_to(np.asarray(rows, np.int32), (runs, np.shape(rows)[-1])) for rows, _ in parts]
    sizes = [part.size for part in parts]

    def draw(batch_keys: Sequence[Array], first: int, count: int) -> np.ndarray:
        of_runs = [
            batches.mixed_schedule(key, [rows[run] for rows in every], sizes, first, count)
            for run, key in enumerate(batch_keys)
        ]
        return np.stack(of_runs, axis=1)

    return draw


def train(
    chunk_program: Callable[..., Any],
    states: Any,
    data: Any,
    rows: np.ndarray | Sequence[batches.Part],
    run_keys: Array,
    *,
    steps: int,
    batch_size: int,
    chunk: int,
    mesh: jax.sharding.Mesh | None = None,
    checkpoints: Checkpoints | None = None,
    tell: Callable[[Report], None] = lambda report: None,
) -> Any:
    """Trains all runs side by side and gives their states after the last step.

    Args:
      chunk_program: from `program`.
      states: training states with a leading axis of runs; they are donated.
      data: pytree of arrays [N, ...], the resident data set; or a function (first, count) that gives the batches of
        those steps, the same for all runs: a pytree [count, B', ...] on the host, of the places that
        `mesh.places_here` names.
      rows: int32 [R] or [runs, R], the rows to train on; -1 pads. Or parts that fill a fixed share of each batch.
        A data set that is a function has none: its batches are what it gives.
      run_keys: [runs], one key a run: for its batches and its steps.
      steps: optimiser steps.
      batch_size: B of every run.
      chunk: steps between two checkpoints.
      mesh: None takes `training_mesh` for this batch.
      checkpoints: where to keep states, and to go on from.
      tell: called after every chunk, once its state is kept.

    Raises:
      InputError: when the batch does not divide over the devices.
      FloatingPointError: when a metric stops being finite.
    """
    runs = len(run_keys)
    mesh = meshes.training_mesh(runs, batch_size=batch_size) if mesh is None else mesh
    if batch_size % meshes.data_devices(mesh):
        raise InputError(
            f"a batch of {batch_size} images does not divide over {meshes.data_devices(mesh)} devices; "
            "take a multiple"
        )
    done, states = (checkpoints.restore(states) if checkpoints else None) or (0, states)
    states = meshes.place(states, meshes.per_run(mesh))
    draw = None
    if not callable(data):
        data = meshes.place(data, meshes.everywhere(mesh))
        draw = _resident(rows, runs, batch_size)
    batch_keys = [keys.purpose_key(key, "batches") for key in run_keys]
    step_keys = jax.vmap(lambda key: keys.purpose_key(key, "steps"))(run_keys)
    step_keys = meshes.place(step_keys, meshes.per_run(mesh))
    while done < steps:
        if draw is None:
            given = meshes.place_here(data(done, chunk), mesh, batch_size), None
        else:
            given = data, meshes.place(draw(batch_keys, done, chunk), meshes.per_step_run_and_image(mesh))
        states, metrics = chunk_program(states, *given, step_keys, np.int32(done), np.int32(steps))
        del given  # or the next chunk would stand beside this one
        states = meshes.place(
            states, meshes.per_run(mesh)
        )  # or the next chunk would compile for another sharding
        valid = min(chunk, steps - done)
        means = {name: values[:valid].mean(0) for name, values in meshes.on_host(metrics).items()}
        for name, values in means.items():
            if not np.isfinite(values).all():
                raise FloatingPointError(
                    f"{name} is {values.tolist()} between steps {done} and {done + valid}; "
                    "lower the learning rate"
                )
        done += valid
        if checkpoints:
            checkpoints.save(done, states)
        tell(Report(done, steps, means))
    return states
