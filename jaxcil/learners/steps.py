"""Optimiser steps of `learners.incremental`: a loss on images of a task, and on exemplars of past classes."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil.data.augmentation import augmentation
from jaxcil.data.augmentation.augmentation import Augmentation
from jaxcil.learners.incremental import Classes, Incremental, State, TrainState, everywhere, rows_where
from jaxcil.training.learner import Batch, Part, Task, Training

Loss = Callable[
    ..., tuple[Array, dict[str, Array]]
]  # (method, new, old, batch, state) -> loss, terms to report


@dataclasses.dataclass(frozen=True)
class Step:
    """One optimiser step; two with equal attributes are the same program.

    Attributes:
      loss: (method, outputs, the teacher's outputs or None, batch, train_state) -> (loss, terms to report).
      recipe: its name among the learner's.
      trains: the parts of the model that have a gradient.
      taught: whether the teacher looks at the images.
      moving: whether the batch's statistics normalise, and move the running ones.
    """

    loss: Loss
    recipe: str
    trains: tuple[str, ...] = ("network", "output")
    taught: bool = False
    moving: bool = True

    def __call__(
        self, learner: Incremental, state: TrainState, batch: Batch, key: Array
    ) -> tuple[TrainState, dict[str, Array]]:
        """A step on images [B, H, W, 3] of trained classes."""
        gradient, batch_stats, metrics = self.gradient(learner, state, batch, key)
        return self.moved(learner, state, batch, gradient, batch_stats), metrics

    def moved(
        self,
        learner: Incremental,
        state: TrainState,
        batch: Batch,
        gradient: dict[str, Any],
        batch_stats: Any,
    ) -> TrainState:
        """The state after a step against a gradient."""
        recipe = learner.recipes[self.recipe]
        parameters = {name: getattr(state.model, name) for name in self.trains}
        updated, velocity = recipe.optimizer.update(
            gradient, state.velocity, parameters, recipe.factor(batch), state.rates
        )
        model = state.model._replace(batch_stats=batch_stats, **updated)  # type: ignore[arg-type]
        return state._replace(model=model, velocity=velocity)  # type: ignore[return-value]

    def gradient(
        self, learner: Incremental, state: TrainState, batch: Batch, key: Array
    ) -> tuple[dict[str, Any], Any, dict[str, Array]]:
        """The gradient as the optimiser sees it before the weight decay, new running statistics, and what to report."""
        images = prepared(learner.augmentation, batch.images, key)
        old = learner.outputs(state.teacher, images, state.own) if self.taught else None  # type: ignore[arg-type]

        def objective(parameters: dict[str, Any]) -> tuple[Array, Any]:
            model = state.model._replace(**parameters)
            if self.moving:
                new, batch_stats = learner.moving_outputs(model, images, state.own)
            else:
                new, batch_stats = learner.outputs(model, images, state.own), model.batch_stats
            loss, terms = self.loss(learner.method, new, old, batch, state)
            logits = jnp.where(state.classes.trained[None], new.logits, -jnp.inf)
            right = jnp.mean(logits.argmax(-1) == batch.labels)
            return loss, (batch_stats, {"loss": loss, **terms, "accuracy": right})

        parameters = {name: getattr(state.model, name) for name in self.trains}
        (_, (batch_stats, metrics)), gradient = jax.value_and_grad(objective, has_aux=True)(parameters)
        clamp = learner.recipes[self.recipe].clamp
        if clamp is not None:
            gradient = jax.tree.map(lambda g: jnp.clip(g, -clamp, clamp), gradient)
        return gradient, batch_stats, metrics


def training(
    learner: Incremental,
    name: str,
    step: Step,
    parts: Callable[..., np.ndarray] | None = None,
    rates: Callable[[Any, State, Classes], dict[str, Any]] | None = None,
    balanced: bool = False,
) -> Training:
    """A training of the model by a step.

    Args:
      learner: whose recipes give its length.
      name: for people.
      step: what is done.
      parts: (learner, state, task, key) -> rows; None: the task's images and the exemplars, shuffled together.
      rates: (method, state, classes) -> factors of the learning rate of the parts of the model that train, a tree like
        them; None: 0 in rows of the output layer that take no part, 1 elsewhere.
      balanced: whether it is on images that balance the classes.
    """
    recipe = learner.recipes[step.recipe]
    return Training(
        name,
        parts=_Parts(step.recipe, parts),
        begin=_Begin(step.trains, rates),
        step=step,
        end=end,
        epochs=recipe.epochs,
        steps=recipe.steps,
        balanced=balanced,
    )


@dataclasses.dataclass(frozen=True)
class _Parts:
    recipe: str
    rows: Callable[..., np.ndarray] | None

    def __call__(self, learner: Incremental, state: State, task: Task, key: Array) -> tuple[Part, ...]:
        rows = (self.rows or task_and_memory)(learner, state, task, key)
        return (Part(rows, learner.recipes[self.recipe].batch_size),)


@dataclasses.dataclass(frozen=True)
class _Begin:
    trains: tuple[str, ...]
    rates: Callable[..., dict[str, Any]] | None

    def __call__(self, learner: Incremental, state: State, task: Task, key: Array) -> TrainState:
        del key  # weights are drawn by `init` and by fits
        classes = learner.masks(task)
        parameters = {name: getattr(state.model, name) for name in self.trains}
        rates = (self.rates or trained_rows)(learner.method, state, classes)
        return TrainState(
            state.model,
            jax.tree.map(jnp.zeros_like, parameters),
            {name: rates[name] for name in self.trains},
            state.teacher,
            classes,
            state.own,
        )


def end(learner: Incremental, train_state: TrainState, state: State, task: Task) -> State:
    """Keeps the model, and drops the rows of classes that have not come."""
    seen = jnp.pad(jnp.asarray(task.seen), (0, learner.other_classes))
    model = train_state.model
    output = {**model.output, "rows": rows_where(seen, model.output["rows"])}
    return state._replace(model=model._replace(output=output))


def task_and_memory(learner: Incremental, state: State, task: Task, key: Array) -> np.ndarray:
    """Rows of the task's images, and of the exemplars of past classes; padded, so that all tasks have one length."""
    del learner, key
    return np.concatenate([task.rows, np.asarray(state.memory).ravel()])


def memory_alone(learner: Incremental, state: State, task: Task, key: Array) -> np.ndarray:
    """Rows of the exemplars, padded."""
    del learner, task, key
    return np.asarray(state.memory).ravel()


def trained_rows(method: Any, state: State, classes: Classes) -> dict[str, Any]:
    """Factors of the learning rate: 0 in rows of the output layer that take no part, 1 elsewhere."""
    del method
    model = state.model
    return {
        "network": everywhere(1, model.network),
        "output": {
            "rows": rows_where(classes.trained, jax.tree.map(jnp.ones_like, model.output["rows"])),
            "shared": everywhere(1, model.output["shared"]),
        },
    }


def prepared(changes: Augmentation, images: Array, key: Array) -> Array:
    """uint8 images in [-1, 1], changed at random; float images as they are."""
    if images.dtype == jnp.uint8:
        return changes(key, augmentation.to_float(images))
    return images


def mean(losses: Array, weights: Array) -> Array:
    """The mean of losses [B] by weights [B]; 0 where no weight is positive."""
    total = weights.sum()
    return (weights * losses).sum() / jnp.where(total > 0, total, 1)
