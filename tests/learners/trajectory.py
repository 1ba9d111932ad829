"""Recorded trajectories of public code, and a learner that is led along one.

A file holds the sizes, seeds and hyperparameters of a run of three small tasks in float64 and what happened in it. Here
the same phases are run by the learner's own functions in the driver's order; weights are overwritten by the recorded
rule after each fit that draws some, and batches have the recorded rows, short ones included.
"""

import functools
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np

from jaxcil.training.learner import Batch, Fit, Task

TOLERANCE = 1e-10  # of the largest entry of an array


class Recorded:
    """A file."""

    def __init__(self, path):
        self.name = pathlib.Path(path).stem
        with np.load(path) as file:
            self.arrays = dict(file)
        meta = {
            key.removeprefix("meta/"): value for key, value in self.arrays.items() if key.startswith("meta/")
        }
        self.meta = {key: value.tolist() for key, value in meta.items()}
        self.sizes = tuple(self.meta["classes"])
        self.num_classes = sum(self.sizes)
        self.starts = np.cumsum((0, *self.sizes))
        per_class, side = self.meta["n_train"], self.meta["size"]
        proto = self.random(self.meta["seed_data"], 0).standard_normal((self.num_classes, 3, side, side))
        self.train, self.test = (
            self._images(proto, stream, count) for stream, count in ((1, per_class), (2, self.meta["n_test"]))
        )
        self.labels = np.repeat(np.arange(self.num_classes), per_class)

    @staticmethod
    def random(*numbers):
        return np.random.default_rng(list(numbers))

    def hyper(self, name, default=None):
        return self.meta.get(f"hyper_{name}", default)

    def _images(self, proto, stream, count):
        shape = (len(proto), count, *proto.shape[1:])
        images = 0.6 * proto[:, None] + self.random(self.meta["seed_data"], stream).standard_normal(shape)
        return jnp.asarray(images.reshape(-1, *proto.shape[1:]).transpose(0, 2, 3, 1))

    def head(self, task, number, shape):
        """H(t, k, shape) of the weights that are drawn in a task."""
        draw = self.random(self.meta["seed_weights"], 1000 + 10 * task + number).standard_normal(shape)
        return jnp.asarray(draw / np.sqrt(shape[1]))

    def backbone(self):
        """The first network's state by torch name."""
        state = {}
        for place, name in enumerate(map(str, self.arrays["backbone_state_names"])):
            shape = self.shape_of[name]
            value = self.random(self.meta["seed_weights"], place).standard_normal(shape)
            if len(shape) == 4:
                value *= np.sqrt(2 / (shape[0] * shape[2] * shape[3]))
            elif name.endswith("running_var"):
                value = 1 + 0.1 * np.abs(value)
            elif name.endswith("weight"):
                value = 1 + 0.1 * value
            else:
                value = 0.1 * value
            state[name] = value
        return state

    def task(self, number):
        """A task, padded to the largest."""
        classes = np.arange(self.num_classes)
        seen, new = classes < self.starts[number + 1], classes < self.starts[number + 1]
        new = new & (classes >= self.starts[number])
        rows = np.flatnonzero(new[self.labels])
        room = max(self.sizes) * self.meta["n_train"]
        rows = np.pad(rows, (0, room - len(rows)), constant_values=-1).astype(np.int32)
        return Task(number, rows, np.full(1, -1, np.int32), self.labels.astype(np.int32), seen, new)


NAMES = {
    "weight": "kernel",
    "running_mean": "mean",
    "running_var": "var",
}


def place_of(name):
    """Where flax has what torch calls by a name: collection and path."""
    *modules, last = name.split(".")
    path = ".".join(modules)
    path = re.sub(r"stage_(\d)\.(?:blocks\.)?(\d)", r"stage_\1_\2", path)
    path = re.sub(r"^stage_4(?=\.|$)", "stage_4_0", path)
    path = path.replace("downsample.conv", "shortcut_conv").replace("downsample.bn", "shortcut_bn")
    is_norm = path.split(".")[-1].startswith("bn") or path.endswith("shortcut_bn")
    leaf = {"weight": "scale" if is_norm else "kernel", "bias": "bias"}.get(last, NAMES.get(last))
    collection = "batch_stats" if last.startswith("running") else "params"
    return collection, (*path.split("."), leaf)


def as_flax(state):
    """Variables of the network of a torch state."""
    variables = {"params": {}, "batch_stats": {}}
    for name, value in state.items():
        collection, path = place_of(name)
        branch = variables[collection]
        for part in path[:-1]:
            branch = branch.setdefault(part, {})
        branch[path[-1]] = jnp.asarray(value.transpose(2, 3, 1, 0) if value.ndim == 4 else value)
    return variables


def leaf_of(variables, name):
    """A tensor of the network by its torch name, in torch's layout."""
    collection, path = place_of(name)
    value = variables[collection]
    for part in path:
        value = value[part]
    return np.asarray(value).transpose(3, 2, 0, 1) if np.ndim(value) == 4 else np.asarray(value)


class Differences:
    """The largest error of every kind of array, relative to the array's largest entry."""

    def __init__(self):
        self.compared, self.wrong = {}, {}

    def compare(self, name, ours, recorded):
        recorded = np.asarray(recorded)
        ours = np.asarray(ours)
        assert ours.shape == recorded.shape, f"{name}: {ours.shape} for {recorded.shape}"
        if recorded.dtype.kind in "iu":
            error = float(not np.array_equal(ours, recorded))
        else:
            error = (
                float(np.abs(ours - recorded).max() / max(np.abs(recorded).max(), 1e-300))
                if recorded.size
                else 0.0
            )
        self.compared[name] = error
        if not error <= (0 if recorded.dtype.kind in "iu" else TOLERANCE):
            self.wrong[name] = error

    def check(self):
        first = list(self.wrong.items())[:8]
        assert not self.wrong, f"{len(self.wrong)} of {len(self.compared)} arrays differ, first {first}"


def batch_of(recorded, rows, clock):
    """The images of some rows as floats, each of weight 1."""
    rows = rows[rows >= 0]
    ones = jnp.ones(len(rows))
    images, labels = recorded.train[rows], jnp.asarray(recorded.labels[rows], jnp.int32)
    return Batch(images, labels, jnp.zeros(len(rows), bool), ones, ones, *map(jnp.int32, clock))


def run_fit(recorded, learner, phase, state, task, key=None):
    """A fit, with features of the rows that it asks for."""
    key = jax.random.key(0) if key is None else key
    rows = phase.rows(learner, state, task, key)
    embed = jax.jit(lambda state, images: learner.features(state, images))
    features = {
        name: {
            view: embed(state, change(recorded.train[np.maximum(of_set, 0)]))
            for view, change in phase.views.items()
        }
        for name, of_set in rows.items()
    }
    labels = {
        name: jnp.asarray(np.where(of_set < 0, -1, recorded.labels[of_set]), jnp.int32)
        for name, of_set in rows.items()
    }
    return phase.fit(learner, state, features, labels, task, key)


def is_fit(phase):
    return isinstance(phase, Fit)


def convolution(x, kernel, window_strides, padding, **others):
    """A convolution as one product for each place of its kernel: in float64 XLA's own takes a hundred times as long."""
    del others
    return _convolution(x, kernel, tuple(window_strides), tuple(map(tuple, padding)))


@functools.partial(jax.jit, static_argnums=(2, 3))  # traced once for each shape
def _convolution(x, kernel, window_strides, padding):
    height, width = kernel.shape[:2]
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    rows, columns = (
        range(0, size - side + 1, stride)
        for size, side, stride in zip(x.shape[1:3], (height, width), window_strides)
    )
    shifted = [
        x[:, i : i + rows[-1] + 1 : rows.step, j : j + columns[-1] + 1 : columns.step]
        for i in range(height)
        for j in range(width)
    ]
    return jnp.concatenate(shifted, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])
