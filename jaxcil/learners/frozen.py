"""A feature extractor that is frozen after the first task, with exemplar-free heads on its features.

    1. task 0 trains a network on its real images (and on those that a variant adds: see `fpcil`),
    2. the network is frozen; the output layer's columns of classes that have not come are dropped,
    3. in every task each head learns the features of the task's real images.

A head never sees an image twice, and heads know nothing of each other, so each is a reading of its own.
"""

import functools
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil import keys
from jaxcil.learners.supervised import NetworkState, Supervised, TrainState
from jaxcil.training.learner import Batch, Fit, Part, Phase, Setup, Task, Training, whole


class HeadState(NamedTuple):
    """A head between two tasks."""

    head: Any
    tasks: Array  # int32 [], that it has learned


class FrozenState(NamedTuple):
    """The network, and the heads that are in use."""

    network: NetworkState
    heads: dict[str, HeadState]


@flax.struct.dataclass
class Frozen:
    """A network trained on the first task, then frozen, and heads on its features.

    Attributes:
      training: the network and its training.
      heads: heads of `jaxcil.heads`, by the names of their readings. One with `first_task` "classifier" is read by the
        network's own output layer after task 0 (FeCAM's official first point).
    """

    training: Supervised
    heads: dict[str, Any]

    frozen_after = 0

    @property
    def reading_names(self) -> tuple[str, ...]:
        """The names of the heads."""
        return tuple(self.heads)

    @property
    def logit_readings(self) -> tuple[str, ...]:
        """Heads whose scores are logits."""
        return tuple(name for name, head in self.heads.items() if head.scores_are_logits)

    def init(self, key: Array, example_images: Array) -> FrozenState:
        """Random weights; a head begins with the first fit of its reading."""
        return FrozenState(self.training.init(key, example_images), {})

    def phases(self, task_index: int) -> tuple[Phase, ...]:
        """Task 0 trains the network; every task fits the heads."""
        fits = tuple(_fit(name) for name in self.heads)
        if task_index:
            return fits
        extractor = Training(
            "extractor",
            parts=Frozen.parts,
            begin=Frozen.begin,
            step=Frozen.step,
            end=Frozen.end,
            steps=self.training.steps,
        )
        return (extractor, *fits)

    def features(self, state: FrozenState, images: Array) -> Array:
        """Features [B, D] float32 of images [B, H, W, 3] in [-1, 1]."""
        return self.training.features(state.network, images)

    def readings(self, state: FrozenState, features: Array) -> dict[str, Array]:
        """Scores [B, C] by every head that the state holds; -inf for classes not seen."""
        scores = {}
        for name, (head_state, tasks) in state.heads.items():
            head = self.heads[name]
            scores[name] = _programs(head).scores(head_state, features)
            if _first_by_output_layer(head):
                own = self.training.readings(state.network, features)["cnn"]
                scores[name] = jnp.where(tasks <= 1, own, scores[name])
        return scores

    def scores(self, state: FrozenState, images: Array) -> Array:
        """Scores [B, C] of images [B, H, W, 3] in [-1, 1] by the first head that the state holds."""
        return next(iter(self.readings(state, self.features(state, images)).values()))

    def parts(self, state: FrozenState, task: Task, key: Array) -> tuple[Part, ...]:
        """Those of the training."""
        return self.training.parts(state.network, task, key)

    def begin(self, state: FrozenState, task: Task, key: Array) -> TrainState:
        """The network's state before its first step."""
        return self.training.begin(state.network, task, key)

    def step(self, state: TrainState, batch: Batch, key: Array) -> tuple[TrainState, dict[str, Array]]:
        """One step of the network's training."""
        return self.training.step(state, batch, key)

    def end(self, train_state: TrainState, state: FrozenState, task: Task) -> FrozenState:
        """Freezes the network."""
        return state._replace(network=self.training.end(train_state, state.network, task))


def frozen(setup: Setup) -> Frozen:
    """An extractor trained on the first task, frozen, with the run's heads on it."""
    return Frozen(training=supervised(setup), heads=setup.heads)


def supervised(setup: Setup) -> Supervised:
    """The network and the training that a run's settings describe."""
    return Supervised(
        optimizer=setup.optimizer,
        num_classes=setup.num_classes,
        network=setup.network,
        steps=setup.steps,
        batch_size=setup.batch_size,
        augmentation=setup.augmentation,
        label_smoothing=setup.label_smoothing,
        average_decay=setup.average_decay,
        output_layer=setup.output_layer,
        other_classes=setup.other_classes,
    )


class _Programs(NamedTuple):
    update: Callable[..., Any]
    scores: Callable[..., Array]


@functools.lru_cache(maxsize=256)
def _compiled(head: Hashable) -> _Programs:
    return _Programs(jax.jit(head.update), jax.jit(head.scores))  # type: ignore[attr-defined]


def _programs(head: Any) -> _Programs:
    """A head's two functions, compiled once for all seeds, tasks and networks.

    Hyperparameters are constants in them, which XLA makes use of (a square root in place of a power); where they are
    arrays, as in a sweep, the caller's jit decides.
    """
    try:
        return _compiled(head)
    except TypeError:
        return _Programs(head.update, head.scores)


def _first_by_output_layer(head: Any) -> bool:
    return getattr(head, "first_task", None) == "classifier"


@functools.lru_cache(maxsize=256)
def _fit(name: str) -> Fit:
    """The phase in which one head learns a task."""

    def start(learner: Frozen, state: FrozenState, key: Array) -> FrozenState:
        dim = state.network.output["weights"].shape[-1]
        head = learner.heads[name].init(learner.training.num_classes, dim, keys.purpose_key(key, "head"))
        return state._replace(heads={**state.heads, name: HeadState(head, jnp.int32(0))})

    def rows(learner: Frozen, state: FrozenState, task: Task, key: Array) -> dict[str, np.ndarray]:
        del learner, state
        # in random order: streaming heads, and those that hold out the last rows, ask for it
        order = keys.purpose_key(_task_key(key, task), "order")
        shuffled = np.asarray(jax.random.permutation(order, whole(task.rows)))
        padding = len(task.rows) - len(shuffled)
        return {"task": np.pad(shuffled, (0, padding), constant_values=-1)}

    def fit(
        learner: Frozen,
        state: FrozenState,
        features: dict[str, dict[str, Array]],
        labels: dict[str, Array],
        task: Task,
        key: Array,
    ) -> FrozenState:
        head, before = learner.heads[name], state.heads[name]
        rows = features["task"]["images"]
        if hasattr(head, "check_features"):
            head.check_features(rows)
        after = _programs(head).update(before.head, rows, labels["task"], _task_key(key, task))
        return state._replace(heads={**state.heads, name: HeadState(after, before.tasks + 1)})

    return Fit(f"head {name}", rows, fit, reading=name, start=start)


def _task_key(key: Array, task: Task) -> Array:
    return keys.fold(keys.purpose_key(key, "head tasks"), task.index)
