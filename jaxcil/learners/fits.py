"""What `learners.incremental` does between two trainings: new classes, exemplars and their means, the teacher."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil.learners.incremental import OF_MEMORY, Incremental, State, rows_where
from jaxcil.memory import exemplars as memories
from jaxcil.training.learner import AS_THEY_ARE, Fit, Task


def no_rows(learner: Any, state: Any, task: Task, key: Array) -> dict[str, np.ndarray]:
    """Of a fit that looks at no image."""
    del learner, state, task, key
    return {}


def _grow(learner: Incremental, state: State, features: Any, labels: Any, task: Task, key: Array) -> State:
    del features, labels
    classes, output = learner.masks(task), state.model.output
    fresh = learner.method.draw(key, output)
    drawn = rows_where(classes.trained & ~classes.old, fresh)
    kept = rows_where(classes.old, output["rows"])
    output = {**output, "rows": jax.tree.map(jnp.add, drawn, kept)}
    task_of_class = jnp.where(jnp.asarray(task.new), task.index, state.task_of_class)
    return state._replace(model=state.model._replace(output=output), task_of_class=task_of_class)


def task_rows(learner: Incremental, state: State, task: Task, key: Array) -> dict[str, np.ndarray]:
    """Of a fit that looks at the task's images."""
    del learner, state, key
    return {"task": np.asarray(task.rows)}


def remember(
    learner: Incremental,
    state: State,
    features: Any,
    labels: Any,
    task: Task,
    key: Array,
    sharing: int | None = None,
) -> State:
    """Chooses exemplars of the new classes, and cuts the lists of old ones.

    `sharing` classes have a fixed total among them; None: those that have been seen.
    """
    kind, room = learner.exemplars, state.memory.shape[1]
    if kind is None or room == 0:
        return state
    first, count, most = int(np.argmax(task.new)), int(np.sum(task.new)), max(learner.task_sizes)
    relative = jnp.where(labels["task"] < 0, -1, labels["task"] - first)
    rows = learner.method.mean_features(features["task"]["images"])
    places = kind.choose(rows, relative, most, room, key, learner.images_per_class)
    rows = jnp.where(places < 0, -1, jnp.asarray(task.rows)[places])
    quota = kind.quota(int(np.sum(task.seen)) if sharing is None else sharing)
    rows, old = memories.cut(rows, quota), memories.cut(state.memory, quota)
    numbers = np.where(np.arange(most) < count, first + np.arange(most), learner.num_classes)
    return state._replace(memory=old.at[numbers].set(rows, mode="drop"))


def _means_rows(learner: Incremental, state: State, task: Task, key: Array) -> dict[str, np.ndarray]:
    del learner, task, key
    return {"memory": np.asarray(state.memory).ravel()}


def means(learner: Incremental, state: State, features: Any, labels: Any, task: Task, key: Array) -> State:
    """The means of all exemplars with the network as it is now, over the method's views of them."""
    del labels, task, key
    kept = state.memory >= 0
    epsilon = learner.method.epsilon
    views = map(learner.method.mean_features, features["memory"].values())
    of_views = [memories.mean_of_units(rows.reshape(*kept.shape, -1), kept, epsilon) for rows in views]
    average = jnp.stack(of_views).mean(0)
    return state._replace(means=memories.unit(average, learner.method.mean_epsilon))


def _teach(learner: Incremental, state: State, features: Any, labels: Any, task: Task, key: Array) -> State:
    del learner, features, labels, task, key
    return state._replace(teacher=state.model)


GROW = Fit("new classes", no_rows, _grow)
TEACHER = Fit("teacher", no_rows, _teach)
EXEMPLARS = Fit(OF_MEMORY[0], task_rows, remember)


def mirrored(images: Array) -> Array:
    """Images [B, H, W, 3] with left and right exchanged."""
    return images[:, :, ::-1]


MIRRORED = {**AS_THEY_ARE, "mirrored": mirrored}


def means_over(views: Mapping[str, Callable[[Array], Array]] = AS_THEY_ARE) -> Fit:
    """The fit of the means of exemplars, over some views of them."""
    return Fit(OF_MEMORY[1], _means_rows, means, views=views)
