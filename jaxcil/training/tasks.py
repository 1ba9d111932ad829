"""A learner's phases, task by task, for several runs next to each other, with a checkpoint after each chunk and fit.

One function drives a learner that keeps training, the first training of one that is then frozen, and one reading of
frozen features: they differ in the tasks, in the phases that are run, and in where features come from. What is saved is
one tree {states, train_states, measured} and a cursor (task, phase, steps done); all else follows from the cursor.
"""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil import keys
from jaxcil.data import batches
from jaxcil.parallel import mesh as meshes
from jaxcil.training import loop
from jaxcil.training.learner import Batch, Fit, Part, Phase, Task, Training

SECONDS_PER_STATE = 20.0  # between two saved states of fits, so that fast fits are not slowed by saving


class Data(NamedTuple):
    """The images of a pool, or of batches."""

    images: Array  # uint8 [N, H, W, 3]
    labels: Array  # int32 [N]
    auxiliary: Array  # bool [N]


class Pool(Protocol):
    """Where the images of rows come from."""

    @property
    def nbytes(self) -> int:
        """Bytes that every device holds."""
        ...

    def batches(
        self, task: Task, parts: Sequence[Part], steps: int, mesh: Any, key: Array | None = None
    ) -> Any:
        """What `loop.train` takes as data: all images as `Data`, or a function that reads batches of `Data`.

        `key` is of the batches that are read; None: the same for all trainings, of whatever seed.
        """
        ...

    def features(
        self, learner: Any, state: Any, run: int, rows: np.ndarray, view: Callable[[Array], Array]
    ) -> Array:
        """Features [R', D] of rows of the pool by the state of a run; a padding row of -1 has any features."""
        ...


class Store(Protocol):
    """Where states are kept; `training.checkpoint.Checkpoints` is one."""

    def save(self, number: int, tree: Any, cursor: Any = None) -> None:
        """Keeps a tree of arrays and a cursor of JSON values."""
        ...

    def resume(self, like: Callable[[Any], Any]) -> tuple[int, Any, Any] | None:
        """Number, tree and cursor of the newest state that can be read; `like` gives a cursor's tree of arrays."""
        ...


@contextlib.contextmanager
def _unseen(name: str, total: int, done: int) -> Iterator[Callable[[loop.Report], None]]:
    del name, total, done
    yield lambda report: None


@dataclasses.dataclass
class Surroundings:
    """What a learner's phases are run with, the same for all learners of a call.

    Attributes:
      chunk: steps of a training between two checkpoints.
      watch: (name of a training, its steps, steps done) -> context manager of a function of `loop.Report`.
      pause: called where work may be interrupted: between two phases.
      programs: compiled chunks by the step function of their phase, made once for all tasks, variants and runs.
    """

    chunk: int = 100
    watch: Callable[[str, int, int], Any] = _unseen
    pause: Callable[[], None] = lambda: None
    programs: dict[Callable[..., Any], Callable[..., Any]] = dataclasses.field(default_factory=dict)

    def program(self, phase: Training) -> Callable[..., Any]:
        """The compiled chunk of a training."""
        if phase.step not in self.programs:
            self.programs[phase.step] = loop.program(phase.step, batch=as_batch)
        return self.programs[phase.step]


def learn(
    learner: Any,
    states: list[Any],
    tasks: Sequence[Task],
    pool: Pool,
    run_keys: Sequence[Array],
    surroundings: Surroundings,
    *,
    runs_phase: Callable[[Phase], bool] = lambda phase: True,
    measured: Any = (),
    measure: Callable[[Any, Task, list[Any]], Any] = lambda measured, task, states: measured,
    store: Store | None = None,
) -> tuple[list[Any], Any]:
    """Runs the phases of some tasks for every run.

    Args:
      learner: as `training.learner.Learner` says.
      states: of every run, before the first of these tasks. What is the same at the end is not saved.
      tasks: consecutive.
      pool: where images and features come from.
      run_keys: one root key per run.
      surroundings: programs, progress and the length of a chunk.
      runs_phase: which phases are run.
      measured: pytree of arrays, saved with the states.
      measure: (measured, task, states) -> measured, called after every task.
      store: where states are kept, and resumed from.

    Returns:
      The states after the last task, and what was measured.
    """
    for phase in filter(runs_phase, learner.phases(tasks[0].index)):
        if isinstance(phase, Fit) and phase.start is not None:
            states = [phase.start(learner, state, key) for state, key in zip(states, run_keys)]
    progress = _Progress(store, learner, states, measured)
    progress.resume(tasks, runs_phase, run_keys)
    while progress.task < len(tasks):
        task = tasks[progress.task]
        phases = _keyed(learner, task, run_keys)
        while progress.phase < len(phases):
            phase, phase_keys = phases[progress.phase]
            if runs_phase(phase):
                if isinstance(phase, Training):
                    _train(progress, phase, task, pool, phase_keys, surroundings)
                else:
                    progress.states = [
                        _fit(learner, phase, state, task, pool, run, key)
                        for run, (state, key) in enumerate(zip(progress.states, phase_keys))
                    ]
            progress.advance(progress.task, progress.phase + 1, now=isinstance(phase, Training))
            surroundings.pause()
        progress.measured = measure(progress.measured, task, progress.states)
        progress.advance(progress.task + 1, 0)
        surroundings.pause()
    return progress.states, progress.measured


def as_batch(taken: Data, clock: loop.Clock) -> Batch:
    """Images of a pool as a step takes them, each with weight 1."""
    ones = jnp.ones(len(taken.labels))
    return Batch(*taken, ones, ones, *clock)


def initial_states(learner: Any, run_keys: Sequence[Array], image_shape: tuple[int, int]) -> list[Any]:
    """The states of all runs before the first task, compiled once for all."""
    example = jnp.zeros((1, *image_shape, 3))
    return unstacked(loop.begin(_init, learner, jnp.stack(list(run_keys)), example), len(run_keys))


def stacked(trees: Sequence[Any]) -> Any:
    """Pytrees of the same structure as one, with a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def unstacked(tree: Any, count: int) -> list[Any]:
    """The inverse of `stacked`."""
    return [jax.tree.map(lambda leaf, n=n: leaf[n], tree) for n in range(count)]


class _Progress:
    """How far the phases are, and what is saved of it."""

    def __init__(self, store: Store | None, learner: Any, states: list[Any], measured: Any):
        self.learner, self.states, self.measured = learner, states, measured
        self.task = self.phase = self.steps = 0
        self.train_states: Any = ()  # of a training that is being resumed
        self._store, self._number, self._saved = store, 0, time.monotonic()
        self._given = [_by_path(state) for state in states]

    def resume(self, tasks: Sequence[Task], runs_phase: Callable[[Phase], bool], run_keys: Any) -> None:
        """Goes to where the store is."""

        def like(cursor: Any) -> Any:
            changed = [{path: _empty(of_run[path]) for path in cursor["changed"]} for of_run in self._given]
            train_states: Any = ()
            if cursor["steps"]:
                task = tasks[cursor["task"]]
                phase, _ = _keyed(self.learner, task, run_keys)[cursor["phase"]]
                shapes = jax.eval_shape(
                    _begin(phase.begin),
                    self.learner,
                    stacked(self.states),
                    _arrays(task),
                    jnp.stack(list(run_keys)),
                )
                train_states = jax.tree.map(_empty, shapes)
            return {"states": changed, "train_states": train_states, "measured": self.measured}

        if self._store is None or (stored := self._store.resume(like)) is None:
            return
        self._number, tree, cursor = stored
        self.task, self.phase, self.steps = cursor["task"], cursor["phase"], cursor["steps"]
        self.train_states = tree["train_states"]
        self.measured = jax.tree.map(np.array, tree["measured"])
        self.states = [_replaced(state, changed) for state, changed in zip(self.states, tree["states"])]

    def advance(self, task: int, phase: int, *, now: bool = False) -> None:
        """Notes that all before a phase of a task is done, and saves if it is time, or at once."""
        self.task, self.phase, self.steps, self.train_states = task, phase, 0, ()
        if now or time.monotonic() - self._saved >= SECONDS_PER_STATE:
            self.save()

    def save(self) -> None:
        """Saves what is not as it was given."""
        if self._store is None:
            return
        now = [_by_path(state) for state in self.states]
        changed = [
            path
            for path in now[0]
            if any(of_run[path] is not given.get(path) for of_run, given in zip(now, self._given))
        ]
        tree = {
            "states": [{path: of_run[path] for path in changed} for of_run in now],
            "train_states": self.train_states,
            "measured": self.measured,
        }
        cursor = {"task": self.task, "phase": self.phase, "steps": self.steps, "changed": changed}
        self._number += 1
        self._store.save(self._number, tree, cursor)
        self._saved = time.monotonic()


class _InTraining:
    """The checkpoints of one training, as `loop.train` calls them."""

    def __init__(self, progress: _Progress):
        self._progress = progress

    def restore(self, like: Any) -> tuple[int, Any] | None:
        del like
        progress = self._progress
        return (progress.steps, progress.train_states) if progress.steps else None

    def save(self, step: int, tree: Any) -> None:
        self._progress.steps, self._progress.train_states = step, tree
        self._progress.save()


def _train(
    progress: _Progress,
    phase: Training,
    task: Task,
    pool: Pool,
    phase_keys: list[Array],
    surroundings: Surroundings,
) -> None:
    learner, states = progress.learner, progress.states
    parts = [phase.parts(learner, state, task, key) for state, key in zip(states, phase_keys)]
    steps = phase.steps
    if steps is None:
        first = parts[0][0]
        steps = (phase.epochs or 0) * batches.steps_per_epoch(np.asarray(first.rows), first.size)
    if steps == 0:
        return
    batch_size = sum(part.size for part in parts[0])
    mesh = meshes.training_mesh(len(states), batch_size=batch_size, resident=pool.nbytes)
    all_keys = jnp.stack(phase_keys)
    before = stacked(states)
    name = f"{phase.name} of task {task.index}" if task.index else phase.name
    with surroundings.watch(name, steps, progress.steps) as notify:
        trained = loop.train(
            surroundings.program(phase),
            learner,
            loop.begin(_begin(phase.begin), learner, before, _arrays(task), all_keys),
            # a frozen learner's only training has the batches of any seed, so that seeds can share them
            pool.batches(
                task, parts[0], steps, mesh, phase_keys[0] if learner.frozen_after is None else None
            ),
            parts,
            all_keys,
            steps=steps,
            chunk=surroundings.chunk,
            mesh=mesh,
            checkpoints=_InTraining(progress),
            notify=notify,
        )
    trained = jax.tree.map(jnp.asarray, meshes.on_host(trained))  # on one device, whatever it was trained on
    ends = unstacked(trained, len(states))
    progress.states = [
        phase.end(learner, train_state, state, task) for train_state, state in zip(ends, states)
    ]


def _init(learner: Any, run_keys: Array, example: Array) -> Any:
    return jax.vmap(lambda key: learner.init(key, example))(run_keys)


@functools.lru_cache(maxsize=256)
def _begin(begin: Callable[..., Any]) -> Callable[..., Any]:
    """A phase's `begin` for all runs; one object for each function, so that it compiles once for all tasks."""

    def of_runs(learner: Any, states: Any, task: Task, run_keys: Array) -> Any:
        return jax.vmap(lambda state, key: begin(learner, state, task, key))(states, run_keys)

    return of_runs


def _fit(learner: Any, phase: Fit, state: Any, task: Task, pool: Pool, run: int, key: Array) -> Any:
    rows = phase.rows(learner, state, task, key)
    features = {
        name: {
            view: pool.features(learner, state, run, of_set, change) for view, change in phase.views.items()
        }
        for name, of_set in rows.items()
    }
    labels = {
        name: jnp.asarray(np.where(of_set < 0, -1, task.labels[of_set]), jnp.int32)
        for name, of_set in rows.items()
    }
    return phase.fit(learner, state, features, labels, task, key)


def _keyed(learner: Any, task: Task, run_keys: Sequence[Array]) -> list[tuple[Phase, list[Array]]]:
    """The phases of a task, each with a key per run.

    The very first training has the run's own key, and so has a fit that serves one reading, which thereby does not
    depend on what else there is; all others fold task and phase into it.
    """
    phases, place, trained = [], 0, task.index > 0
    for phase in learner.phases(task.index):
        if isinstance(phase, Fit) and phase.reading is not None:
            phases.append((phase, list(run_keys)))
            continue
        own = isinstance(phase, Training) and not trained
        trained |= own
        folded = [
            key if own else keys.fold(keys.purpose_key(key, "phases"), task.index, place) for key in run_keys
        ]
        phases.append((phase, folded))
        place += 1
    return phases


def _arrays(task: Task) -> Task:
    """A task as an argument of a compiled function."""
    return jax.tree.map(jnp.asarray, task)


def _by_path(tree: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _replaced(tree: Any, leaves: dict[str, Any]) -> Any:
    """A tree with other leaves at some paths."""

    def own(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path)
        return jnp.asarray(leaves[name]) if name in leaves else leaf

    return jax.tree_util.tree_map_with_path(own, tree)


def _empty(leaf: Any) -> np.ndarray:
    return np.empty(leaf.shape, leaf.dtype)
