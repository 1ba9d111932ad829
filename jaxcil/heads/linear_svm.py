"""Linear support vector machines, one class against the rest, solved to the optimum by Newton's method.

For each class c, with y = 1 for its rows and -1 for all others, and x a row ending in a 1 for the intercept,

    f_c(w) = 1/2 |w|^2 + C sum_rows max(0, 1 - y <w, x>)^2                          (1)

This is the problem of scikit-learn's LinearSVC(loss="squared_hinge") and of liblinear (Fan et al., JMLR 9,
2008) with intercept_scaling 1: the intercept is regularised as every weight is. f_c is strictly convex and
piecewise quadratic:

    gradient  w - 2 C sum_active y (1 - y <w, x>) x,    Hessian  I + 2 C sum_active x x^T       (2)

with the rows of y <w, x> < 1 active. A Newton step is exact once the active rows stop changing, so the method
with a line search ends after finitely many steps, about ten (Keerthi and DeCoste, JMLR 6, 2005): the result
is the optimum and not a function of the solver's tolerance, its random order or its start.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import cho_factor, cho_solve

MAX_STEPS = 60
MAX_HALVINGS = 30
SUFFICIENT = 1e-4  # Armijo's share of the decrease that the gradient promises


class _Progress(NamedTuple):
    weights: Array  # [C, K]
    margins: Array  # [C, R] y <w, x>
    gradients: Array  # [C, K]
    done: Array  # [C] bool
    step: Array  # []


def squared_hinge_svm(rows: Array, owners: Array, num_classes: int, regularisation: Array) -> Array:
    """Weights [C, D + 1] at the optimum of (1) for every class, the intercept last.

    Memory: C R for the margins and C D^2 for the Hessians; a Newton step costs R D^2 for each class that is
    not yet solved.

    Args:
      rows: [R, D], of any scale; those that do not count may hold anything finite.
      owners: [R] int32, the class of each row; -1 marks a row that does not count.
      num_classes: C. A class without rows gets weights 0.
      regularisation: C of (1), a scalar > 0 of the dtype of rows; larger fits the rows more closely.
    """
    rows = jnp.concatenate([rows, jnp.ones_like(rows[:, :1])], axis=1)
    positive = owners[None, :] == jnp.arange(num_classes, dtype=owners.dtype)[:, None]
    signs = jnp.where(positive, 1, -1).astype(rows.dtype)
    counted = (owners >= 0)[None, :]
    row_squares = jnp.square(rows).sum(axis=1)
    strength = 2 * regularisation

    def slack_of(margins: Array) -> Array:
        return jnp.where(counted, jnp.maximum(1 - margins, 0), 0)

    def gradient(weights: Array, margins: Array) -> Array:
        return weights - strength * jnp.matmul(signs * slack_of(margins), rows, precision="highest")

    def hessian(item: tuple[Array, Array]) -> Array:
        active, done = item
        eye = jnp.eye(rows.shape[1], dtype=rows.dtype)
        return jax.lax.cond(
            done,
            lambda: eye,
            lambda: eye + strength * jnp.matmul(rows.T, active[:, None] * rows, precision="highest"),
        )

    def line_search(now: _Progress, direction: Array, change: Array) -> Array:
        """The largest of 1, 1/2, 1/4, ... [C] that decreases (1) enough."""
        start = jnp.square(slack_of(now.margins)).sum(axis=1) * regularisation
        linear, square = _dot(now.weights, direction), _dot(direction, direction)
        promise = _dot(now.gradients, direction)
        rounding = 8 * jnp.finfo(rows.dtype).eps * (start + _dot(now.weights, now.weights))

        def too_long(length: Array) -> Array:
            loss = jnp.square(slack_of(now.margins + length[:, None] * change)).sum(axis=1) * regularisation
            rise = loss - start + length * linear + 0.5 * jnp.square(length) * square
            return ~now.done & (rise > SUFFICIENT * length * promise + rounding)

        def halve(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            length, long, halvings = carry
            length = jnp.where(long, length / 2, length)
            return length, too_long(length), halvings + 1

        full = jnp.ones_like(linear)
        return jax.lax.while_loop(
            lambda carry: carry[1].any() & (carry[2] < MAX_HALVINGS),
            halve,
            (full, too_long(full), jnp.zeros((), jnp.int32)),
        )[0]

    def newton_step(now: _Progress) -> _Progress:
        active = (counted & (now.margins < 1)).astype(rows.dtype)
        factors = cho_factor(jax.lax.map(hessian, (active, now.done)))
        direction = jnp.where(now.done[:, None], 0, -cho_solve(factors, now.gradients[:, :, None])[:, :, 0])
        change = signs * jnp.matmul(direction, rows.T, precision="highest")
        length = line_search(now, direction, change)
        weights = now.weights + length[:, None] * direction
        # Anew from the weights: adding up the changes would add up their rounding
        margins = signs * jnp.matmul(weights, rows.T, precision="highest")
        gradients = gradient(weights, margins)
        return _Progress(
            weights, margins, gradients, now.done | solved(gradients, weights, margins), now.step + 1
        )

    def solved(gradients: Array, weights: Array, margins: Array) -> Array:
        """The gradient is below a bound of its rounding, eps |Hessian| |w|; it settles at a tenth of that."""
        active = (counted & (margins < 1)).astype(rows.dtype)
        trace = rows.shape[1] + strength * jnp.matmul(active, row_squares)
        limit = jnp.finfo(rows.dtype).eps * trace * jnp.linalg.norm(weights, axis=1)
        return jnp.linalg.norm(gradients, axis=1) <= limit

    weights = jnp.zeros((num_classes, rows.shape[1]), rows.dtype)
    margins = jnp.zeros(signs.shape, rows.dtype)
    first = _Progress(
        weights, margins, gradient(weights, margins), ~positive.any(axis=1), jnp.zeros((), jnp.int32)
    )
    last = jax.lax.while_loop(lambda now: ~now.done.all() & (now.step < MAX_STEPS), newton_step, first)
    return last.weights


def _dot(a: Array, b: Array) -> Array:
    return (a * b).sum(axis=1)
