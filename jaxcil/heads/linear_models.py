"""Linear classifiers of given rows: support vector machines, ridge regression, softmax regression by SGD.

Each is a frozen pytree with

    fit(rows [R, K], owners [R] int32 (-1: no row), weights [C, K + 1], key) -> weights [C, K + 1]

where the last column is the intercept and the weights handed in are those of the task before, 0 for a class
without any. `unit` says whether rows, in training and when scored, are scaled to length one.
"""

from typing import ClassVar

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

from jaxcil.errors import InputError
from jaxcil.heads.class_statistics import class_counts, one_hot
from jaxcil.heads.linear_svm import squared_hinge_svm
from jaxcil.heads.ridge import gram_sums, ridge_weights
from jaxcil.losses.unit import unit_rows

MOMENTUM = 0.9


@flax.struct.dataclass
class SupportVectors:
    """One squared-hinge support vector machine per class, at its optimum (`linear_svm.py`)."""

    regularisation: Array | float
    unit: ClassVar[bool] = True

    def fit(self, rows: Array, owners: Array, weights: Array, key: Array | None) -> Array:
        """Weights that do not depend on those of the task before."""
        regularisation = jnp.asarray(self.regularisation, rows.dtype)
        return squared_hinge_svm(rows, owners, weights.shape[0], regularisation)


@flax.struct.dataclass
class Ridge:
    """Ridge regression onto one-hot targets; the intercept is regularised as every weight is."""

    ridge: Array | float
    unit: ClassVar[bool] = True

    def fit(self, rows: Array, owners: Array, weights: Array, key: Array | None) -> Array:
        """Weights that do not depend on those of the task before."""
        real = (owners >= 0)[:, None].astype(rows.dtype)
        targets = one_hot(owners, weights.shape[0], rows.dtype)
        sums = gram_sums(lambda *problem: problem, real * with_ones(rows), targets)
        return ridge_weights(*sums, jnp.asarray(self.ridge, rows.dtype)).T


@flax.struct.dataclass
class Softmax:
    """Softmax regression by stochastic gradient descent, as PyCIL trains FeTrIL's linear layer.

    Cross-entropy over the classes that own a row or have weights already, momentum 0.9, the learning rate on half
    a cosine from its value to 0, epoch by epoch, and weight decay on weights and intercepts. A class without
    weights starts uniform in [-sqrt(3 / K), sqrt(3 / K)] with intercept 0.
    """

    learning_rate: Array | float
    weight_decay: Array | float
    scale: Array | float | None = None  # None: logits <x, w> + b; else scale times the cosine of x and w
    epochs: int = flax.struct.field(pytree_node=False, default=50)
    batch_size: int = flax.struct.field(pytree_node=False, default=128)
    unit: ClassVar[bool] = False

    def fit(self, rows: Array, owners: Array, weights: Array, key: Array | None) -> Array:
        """Weights after all epochs. The key draws new weights and the order of the rows."""
        if key is None:
            raise InputError("softmax regression draws its weights and batches: give `update` a key.")
        order_key, weights_key = jax.random.split(key)
        started = (weights != 0).any(axis=1)
        fresh = (class_counts(owners, weights.shape[0]) > 0) & ~started
        trained = started | fresh
        weights = jnp.where(fresh[:, None], _new_weights(weights_key, weights.shape, rows.dtype), weights)
        count = (owners >= 0).sum(dtype=jnp.int32)
        base_rate, weight_decay = (
            jnp.asarray(x, rows.dtype) for x in (self.learning_rate, self.weight_decay)
        )

        def loss(weights: Array, batch: Array, targets: Array, real: Array) -> Array:
            logits = jnp.where(trained[None, :], self.logits(weights, batch), -jnp.inf)
            picked = jnp.where(targets > 0, jax.nn.log_softmax(logits, axis=1), 0).sum(axis=1)
            return -jnp.where(real, picked, 0).sum() / jnp.maximum(real.sum(), 1).astype(rows.dtype)

        def epoch(number: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            order = _shuffled(jax.random.fold_in(order_key, number), owners >= 0, self.batch_size)
            turn = jnp.pi * number.astype(rows.dtype) / self.epochs
            rate = base_rate * 0.5 * (1 + jnp.cos(turn))

            def step(number: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
                weights, velocity = carry
                picked = jax.lax.dynamic_slice(order, (number * self.batch_size,), (self.batch_size,))
                real = picked < owners.shape[0]
                batch = rows.at[picked].get(mode="fill", fill_value=0)
                targets = one_hot(
                    owners.at[picked].get(mode="fill", fill_value=-1), weights.shape[0], rows.dtype
                )
                gradient = jax.grad(loss)(weights, batch, targets, real)
                velocity = MOMENTUM * velocity + gradient + weight_decay * weights
                return weights - jnp.where(trained[:, None], rate * velocity, 0), velocity

            return jax.lax.fori_loop(0, (count + self.batch_size - 1) // self.batch_size, step, carry)

        return jax.lax.fori_loop(0, self.epochs, epoch, (weights, jnp.zeros_like(weights)))[0]

    def logits(self, weights: Array, rows: Array) -> Array:
        """[B, C] of weights [C, K + 1] and rows [B, K]."""
        if self.scale is None:
            return linear_scores(weights, rows)
        return jnp.asarray(self.scale, rows.dtype) * cosine_scores(weights, rows)


def linear_scores(weights: Array, rows: Array) -> Array:
    """<x, w> + b, [B, C], of rows x [B, K] and weights [C, K + 1] with the intercept last."""
    return jnp.matmul(rows, weights[:, :-1].T, precision="highest") + weights[None, :, -1]


def cosine_scores(weights: Array, rows: Array) -> Array:
    """<x, w> / (|x| |w|), [B, C]; the intercept counts for nothing."""
    return jnp.matmul(unit_rows(rows), unit_rows(weights[:, :-1]).T, precision="highest")


def with_ones(rows: Array) -> Array:
    """Rows [R, K + 1] that end in a 1."""
    return jnp.concatenate([rows, jnp.ones_like(rows[:, :1])], axis=1)


def _new_weights(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    bound = (3 / (shape[1] - 1)) ** 0.5
    weights = jax.random.uniform(key, (shape[0], shape[1] - 1), dtype, -bound, bound)
    return jnp.concatenate([weights, jnp.zeros_like(weights[:, :1])], axis=1)


def _shuffled(key: Array, real: Array, batch_size: int) -> Array:
    """Row numbers in random order, the real ones first; R, which is no row, in all other places."""
    # The number that a row draws depends on the real rows before it, not on the padding
    draws = jax.random.uniform(key, real.shape)[jnp.maximum(jnp.cumsum(real, dtype=jnp.int32) - 1, 0)]
    order = jnp.argsort(jnp.where(real, draws, 2)).astype(jnp.int32)
    place = jnp.arange(real.shape[0], dtype=jnp.int32)
    order = jnp.where(place < real.sum(dtype=jnp.int32), order, real.shape[0])
    return jnp.pad(order, (0, -real.shape[0] % batch_size), constant_values=real.shape[0])
