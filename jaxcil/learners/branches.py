"""Networks next to each other that see the same image: the older ones keep still, the newest one trains.

The feature of an image is f = (f_0, ..., f_{N-1}), a block of D numbers for each of the N networks in the order in
which they came; blocks of networks that have not come are zero. DER (`learners.der`) has a network per task, FOSTER
(`learners.foster`) two. Under `learners.incremental` a model of branches is

    network        parameters of the newest branch: what has a gradient
    batch_stats    newest: its running statistics
                   older: a tuple of N - 1 branches {"params", "batch_stats"}, zero until they come
                   number: int32 [], of the branches there are; None: all of these, so that no other is computed

Older branches run with their running statistics.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil.learners import steps
from jaxcil.learners.incremental import Classes, Incremental, Model, Outputs, State, TrainState
from jaxcil.learners.steps import Step
from jaxcil.training.learner import Task, Training

Branch = dict[str, Any]  # {"params", "batch_stats"}


@dataclasses.dataclass(frozen=True)
class Branches:
    """As a module: images [B, H, W, 3] -> features [B, N D].

    Attributes:
      network: of every branch.
      count: N.
    """

    network: nn.Module
    count: int

    def init(self, key: Array, images: Array) -> dict[str, Any]:
        """The variables of one branch, and room for the others."""
        variables = self.network.init(key, images)
        stats = variables.get("batch_stats", {})
        empty = jax.tree.map(jnp.zeros_like, {"params": variables["params"], "batch_stats": stats})
        return {
            "params": variables["params"],
            "batch_stats": {
                "newest": stats,
                "older": (empty,) * (self.count - 1),
                "number": jnp.ones((), jnp.int32),
            },
        }

    def apply(
        self, variables: dict[str, Any], images: Array, train: bool = False, mutable: Any = False
    ) -> Any:
        """Features, and what changed if anything is mutable; with train=True, the newest branch's statistics."""
        stats = variables["batch_stats"]
        own = {"params": variables["params"], "batch_stats": stats["newest"]}
        if train:
            newest, changed = self.network.apply(own, images, train=True, mutable=["batch_stats"])
            stats = {**stats, "newest": changed["batch_stats"]}
        else:
            newest = self.network.apply(own, images)
        features = self._together(stats, images, newest)
        return (features, {"batch_stats": stats}) if mutable else features

    def _together(self, stats: dict[str, Any], images: Array, newest: Any) -> Array:
        older, number, nothing = stats["older"], stats["number"], jnp.zeros_like(newest)
        if number is None:
            blocks = [self.network.apply(branch, images) for branch in older]
            return jnp.concatenate(
                [*blocks, newest, *[nothing] * (self.count - 1 - len(older))],  # type: ignore[list-item]
                axis=-1,
            )
        # One program for any number; a branch that has not come costs nothing, except under vmap
        blocks = [
            jax.lax.cond(
                place < number - 1,
                lambda branch: self.network.apply(branch, images),
                lambda branch: nothing,
                branch,
            )
            for place, branch in enumerate(older)
        ]
        together = jnp.stack([*blocks, nothing], axis=1)
        last = jnp.arange(self.count) == number - 1
        together = jnp.where(last[None, :, None], newest[:, None], together)
        return together.reshape(len(images), -1)


def newest_branch(model: Model) -> Branch:
    """The branch that trains."""
    return {"params": model.network, "batch_stats": model.batch_stats["newest"]}


def alone(branch: Branch, output: Any) -> Model:
    """A model of one branch, whose further blocks are zero."""
    stats = {"newest": branch["batch_stats"], "older": (), "number": None}
    return Model(branch["params"], stats, output)


def grown(model: Model, place: int, branch: Branch) -> Model:
    """A model in which a branch keeps still at a place, and a copy of it, behind, is the newest."""
    stats = model.batch_stats
    older = (*stats["older"][:place], branch, *stats["older"][place + 1 :])
    stats = {"newest": branch["batch_stats"], "older": older, "number": jnp.int32(place + 2)}
    return model._replace(network=branch["params"], batch_stats=stats)


def only(model: Model, number: int) -> Model:
    """A model of the branches that have come, for a program that computes no other."""
    stats = model.batch_stats
    return model._replace(batch_stats={**stats, "older": stats["older"][: number - 1], "number": None})


def newest_features(new: Outputs, model: Model, dim: int) -> Array:
    """The newest branch's block [B, D] of the features of a model made by `only`."""
    first = dim * len(model.batch_stats["older"])
    return new.features[:, first : first + dim]


def fresh_weights(key: Array, like: Array, width: int, *, normal: bool = False) -> Array:
    """Random weights like an array [C, N D] on its first `width` columns, of variance 1 / width; zero behind them.

    Args:
      key: of the draw.
      like: gives shape and dtype.
      width: columns of the branches that there are.
      normal: normally distributed, rather than uniformly.
    """
    shape = (len(like), width)
    if normal:
        drawn = jax.random.normal(key, shape, like.dtype) * width**-0.5
    else:
        bound = (3 / width) ** 0.5
        drawn = jax.random.uniform(key, shape, like.dtype, -bound, bound)
    return jnp.pad(drawn, ((0, 0), (0, like.shape[1] - width)))


def grown_weights(old: Array, fresh: Array, classes: Classes, width: int) -> Array:
    """Weights [C, N D]: the old ones of old classes on the first `width` columns, fresh ones elsewhere."""
    kept = classes.old[:, None] & (jnp.arange(old.shape[1]) < width)[None]
    return jnp.where(kept, old, jnp.where(classes.trained[:, None], fresh, 0))


def training(
    learner: Incremental,
    name: str,
    step: Step,
    number: int,
    *,
    parts: Callable[..., np.ndarray] | None = None,
    rates: Callable[[Any, State, Classes], dict[str, Any]] | None = None,
    change: Callable[..., TrainState] | None = None,
    balanced: bool = False,
) -> Training:
    """A training of the newest of some branches.

    Args:
      learner: as `steps.training` has it; and so are name, step, parts, rates and balanced.
      name: for people.
      step: compiles once for each number.
      number: of branches.
      parts: (learner, state, task, key) -> rows.
      rates: factors of the learning rate.
      change: (learner, state, train_state, task) -> train_state, made before the first step.
      balanced: whether it is on images that balance the classes.
    """
    made = steps.training(learner, name, step, parts, rates, balanced)
    return made._replace(begin=_Begin(made.begin, number, change), end=end)


@dataclasses.dataclass(frozen=True)
class _Begin:
    inner: Callable[..., TrainState]
    number: int
    change: Callable[..., TrainState] | None

    def __call__(self, learner: Incremental, state: State, task: Task, key: Array) -> TrainState:
        begun = self.inner(learner, state, task, key)
        begun = begun._replace(model=only(begun.model, self.number))
        return begun if self.change is None else self.change(learner, state, begun, task)


def end(learner: Incremental, train_state: TrainState, state: State, task: Task) -> State:
    """Keeps the newest branch and the output layer; the older branches are those of before."""
    ended = steps.end(learner, train_state, state, task)
    stats = {**state.model.batch_stats, "newest": ended.model.batch_stats["newest"]}
    return ended._replace(model=ended.model._replace(batch_stats=stats))
