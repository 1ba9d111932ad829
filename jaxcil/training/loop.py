"""The one training loop: steps in chunks, one compiled scan per chunk, a checkpoint after each.

A phase's step is written for one run. Here it gets an axis of runs (seeds), batches drawn by row number from a pool of
images on the device, or read from the disk by each process for its devices, and a scan over a fixed number of steps;
the steps by which the last chunk is too long are masked, so a phase of any length compiles once. The learner is an
argument of the compiled chunk: another value of one of its leaves compiles nothing. What is saved after a chunk is the
whole training state and the number of steps done; batches and keys follow from that number, so a resumed training
gives the same bits.
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
from jaxcil.training.learner import Part


class Checkpoints(Protocol):
    """Where states are kept between chunks; `training.checkpoint.Checkpoints` is one."""

    def save(self, step: int, tree: Any, /) -> None:
        """Keeps the state after that many steps."""
        ...

    def restore(self, like: Any) -> tuple[int, Any] | None:
        """The newest state and its number of steps, or None."""
        ...


class Clock(NamedTuple):
    """Where a step is in its training; all int32 []."""

    step: Array  # steps before this one
    steps: Array  # of the whole training
    epoch: Array  # passes over the first part before this step
    epochs: Array  # of the whole training, the last one perhaps not whole


class Report(NamedTuple):
    """What the loop reports after a chunk."""

    done: int  # steps done, of
    total: int
    metrics: dict[str, np.ndarray]  # mean over the chunk's steps, a number per run

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


def program(
    step: Callable[..., Any],
    policy: sweep.Policy = "vmap",
    shared: Any = None,
    batch: Callable[[Any, Clock], Any] = lambda taken, clock: taken,
) -> Callable[..., Any]:
    """Compiles a step for chunks of several runs; made once and used for every training with this step.

    Args:
      step: (learner, train_state, batch, key) -> (train_state, metrics), for one run.
      policy: how the axis of runs is executed.
      shared: as in `sweep.over_runs`: which leaves of the learner have an axis of runs; by default no leaf has one.
      batch: what a step gets, of the rows [B] of the data and of the clock.

    Returns:
      A jitted function (learner, train_states, data, rows, keys [runs], first, total, steps_per_epoch) ->
      (train_states, metrics [S, runs]) that does steps first ... first + S - 1 as far as they are below total. Rows
      [S, runs, B] are of data [N, ...]; where they are None, data [S, B, ...] are the batches themselves, the same for
      all runs.
    """

    @functools.partial(jax.jit, donate_argnums=1)
    def chunk(
        learner: Any,
        states: Any,
        data: Any,
        rows: Array | None,
        run_keys: Array,
        first: Array,
        total: Array,
        per_epoch: Array,
    ) -> Any:
        def body(states: Any, numbered: tuple[Array, Any]) -> tuple[Any, Any]:
            number, given = numbered
            clock = Clock(number, total, number // per_epoch, -(-total // per_epoch))
            step_keys = jax.vmap(lambda key: keys.fold(key, number))(run_keys)
            if rows is None:
                taken = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(run_keys), *leaf.shape)), given)
            else:
                taken = batches.take(data, given)

            def one(learner: Any, state: Any, taken: Any, key: Array) -> Any:
                return step(learner, state, batch(taken, clock), key)

            new, metrics = sweep.over_runs(one, policy, shared)(learner, states, taken, step_keys)
            return jax.tree.map(lambda a, b: jnp.where(number < total, a, b), new, states), metrics

        given = data if rows is None else rows
        count = len(jax.tree.leaves(given)[0])
        return jax.lax.scan(body, states, (first + jnp.arange(count), given))

    return chunk


def train(
    chunk_program: Callable[..., Any],
    learner: Any,
    states: Any,
    data: Any,
    parts: Sequence[Sequence[Part]],
    run_keys: Array,
    *,
    steps: int,
    chunk: int,
    mesh: jax.sharding.Mesh | None = None,
    checkpoints: Checkpoints | None = None,
    notify: Callable[[Report], None] = lambda report: None,
) -> Any:
    """Trains all runs next to each other and gives their states after the last step.

    Args:
      chunk_program: from `program`.
      learner: first argument of the step.
      states: training states with a leading axis of runs; they are donated.
      data: pytree of arrays [N, ...], the resident data set; or a function (first, count) that gives the batches of
        those steps, the same for all runs: a pytree [count, B', ...] on the host, of the places that
        `mesh.places_here` names.
      parts: of each run, what a batch is made of; sizes are alike in all runs. Where data is a function, only the sizes
        count, and the number of the first part's rows, which is an epoch.
      run_keys: [runs], one key per run: for its batches and its steps.
      steps: optimiser steps.
      chunk: steps between two checkpoints.
      mesh: None takes `training_mesh` for this batch.
      checkpoints: where states are kept, and resumed from.
      notify: called after every chunk, once its state is kept.

    Raises:
      InputError: the batch does not divide over the devices.
      FloatingPointError: a metric is not finite.
    """
    runs, batch_size = len(run_keys), sum(part.size for part in parts[0])
    mesh = meshes.training_mesh(runs, batch_size=batch_size) if mesh is None else mesh
    if batch_size % meshes.data_devices(mesh):
        raise InputError(
            f"a batch of {batch_size} images does not divide over {meshes.data_devices(mesh)} devices; "
            "take a multiple"
        )
    done, states = (checkpoints.restore(states) if checkpoints else None) or (0, states)
    states = meshes.place(states, meshes.per_run(mesh))
    resident = not callable(data)
    if resident:
        data = meshes.place(data, meshes.everywhere(mesh))
    per_epoch = batches.steps_per_epoch(np.asarray(parts[0][0].rows), parts[0][0].size)
    batch_keys = [keys.purpose_key(key, "batches") for key in run_keys]
    step_keys = jax.vmap(lambda key: keys.purpose_key(key, "steps"))(run_keys)
    step_keys = meshes.place(step_keys, meshes.per_run(mesh))
    while done < steps:
        if resident:
            rows = _schedules(batch_keys, parts, done, chunk)
            given = data, meshes.place(rows, meshes.per_step_run_and_image(mesh))
        else:
            given = meshes.place_here(data(done, chunk), mesh, batch_size), None  # pyright: ignore[reportCallIssue]
        clock = (np.int32(number) for number in (done, steps, per_epoch))
        states, metrics = chunk_program(learner, states, *given, step_keys, *clock)
        del given  # or the next chunk would be in memory at the same time
        # or the next chunk would compile for another sharding
        states = meshes.place(states, meshes.per_run(mesh))
        valid = min(chunk, steps - done)
        means = {name: values[:valid].mean(0) for name, values in meshes.on_host(metrics).items()}
        for name, values in means.items():
            if not np.isfinite(values).all():
                raise FloatingPointError(
                    f"{name} is {values.tolist()} between steps {done} and {done + valid}; lower the learning rate"
                )
        done += valid
        if checkpoints:
            checkpoints.save(done, states)
        notify(Report(done, steps, means))
    return states


def _schedules(
    batch_keys: Sequence[Array], parts: Sequence[Sequence[Part]], first: int, count: int
) -> np.ndarray:
    """Rows of the data set [S, runs, B] of steps first ... first + S - 1."""
    of_runs = [
        batches.mixed_schedule(
            key, [part.rows for part in of_run], [part.size for part in of_run], first, count
        )
        for key, of_run in zip(batch_keys, parts)
    ]
    return np.stack(of_runs, axis=1)
