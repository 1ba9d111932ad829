"""Linear support vector machines, one class against the rest, all classes solved together to the optimum.

For each class c, with y = 1 for its rows and -1 for all others, and x a row ending in a 1 for the intercept,

    f_c(w) = 1/2 |w|^2 + C sum_rows max(0, 1 - y <w, x>)^2                          (1)

This is the problem of scikit-learn's LinearSVC(loss="squared_hinge") and of liblinear (Fan et al., JMLR 9,
2008) with intercept_scaling 1: the intercept is regularised as every weight is. f_c is strictly convex and
piecewise quadratic:

    gradient  w - 2 C sum_active y (1 - y <w, x>) x,    Hessian  I + 2 C sum_active x x^T       (2)

with the rows of y <w, x> < 1 active. A Newton step is exact once the active rows stop changing, so the method
with a line search ends after finitely many steps, about ten (Keerthi and DeCoste, JMLR 6, 2005): the result
is the optimum and not a function of the solver's tolerance, its random order or its start, as far as the dtype
reaches: the condition number of (2) grows with C times the number of rows (`LARGEST`).

At first most rows are active, and one Hessian per class would be most of the work; near the optimum hardly any is,
for most rows are separated with room to spare. So directions come from conjugate gradients (Lin, Weng and
Keerthi, JMLR 9, 2008), whose products with the Hessians of all classes are two matrix products. The
preconditioner of a class with n active rows of R is

    I + 2 C (n / R) sum_rows x x^T                                                  (3)

from one eigendecomposition for all classes, while many rows are active, and then (2) itself: the first sum over
few rows, and later ones by the rows that have become active or inactive. One product is then enough.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import cho_solve

# Regularisation C at which float32 still finds the optimum for rows of length one: 2,000 and 50,000 rows of 128
# features end within 3e-6 of its objective. The 2,000 rows are 4e-4 above it at 3e3, 7e-3 at 1e4 and twice it at 1e5
LARGEST = 1e3
MAX_STEPS = 100
MAX_PRODUCTS = 60  # with the Hessians, per step
# Share of the gradient that a direction may leave; closer costs more products than it saves steps
LEFT = 0.25
MAX_TRIALS = 12  # lengths of a step
SLOPE = 0.1  # share of the slope at its start that a step may leave at its end
AFFORDABLE = 40  # rows that are summed for (2), a class, in units of R / D: they cost as much as 20 products
BLOCK = 256  # rows that are summed at a time


class _Hessian(NamedTuple):
    """sum x x^T over some rows of each class, as it was last known."""

    sums: Array  # [C, K, K]
    summed: Array  # [R, C] bool, the rows that it holds


class _Progress(NamedTuple):
    weights: Array  # [K, C]
    slacks: Array  # [R, C] 1 - y <w, x>; 0 for rows that do not count
    gradients: Array  # [K, C]
    hessian: _Hessian
    done: Array  # [C] bool
    step: Array  # []


def squared_hinge_svm(rows: Array, owners: Array, num_classes: int, regularisation: Array) -> Array:
    """Weights [C, D + 1] at the optimum of (1) for every class, the intercept last.

    A class stops short of it, at its last finite weights, after `MAX_STEPS` steps or where the factor of its Hessian
    fails in rounding. In float32 expect neither up to a regularisation of `LARGEST`.

    Memory: some arrays of C R numbers and two of C D^2. A product with the Hessians of all classes costs
    4 C R D operations, of which a few dozen are needed.

    Args:
      rows: [R, D], of any scale; those that do not count may hold anything finite.
      owners: [R] int32, the class of each row; -1 marks a row that does not count.
      num_classes: C. A class without rows gets weights 0.
      regularisation: C of (1), a scalar > 0 of the dtype of rows; larger fits the rows more closely.
    """
    counted = (owners >= 0)[:, None]
    rows = jnp.where(counted, jnp.concatenate([rows, jnp.ones_like(rows[:, :1])], axis=1), 0)
    positive = owners[:, None] == jnp.arange(num_classes, dtype=owners.dtype)[None, :]
    signs = jnp.where(counted, jnp.where(positive, 1, -1), 0).astype(rows.dtype)
    values, vectors = jnp.linalg.eigh(_product(rows.T, rows))
    values = jnp.maximum(values, 0)
    row_squares = jnp.square(rows).sum(axis=1)
    strength = 2 * regularisation
    eye = jnp.eye(rows.shape[1], dtype=rows.dtype)

    def gradient(weights: Array, slacks: Array) -> Array:
        return weights - strength * _product(rows.T, signs * jnp.maximum(slacks, 0))

    def preconditioner(
        known: _Hessian, active: Array, done: Array
    ) -> tuple[_Hessian, Callable[[Array], Array]]:
        """What is known of the Hessians now, and what divides [K, C] by the preconditioners."""
        changed = active ^ known.summed
        anew = active.sum(axis=0) <= changed.sum(axis=0)
        pending = jnp.where(anew[None, :], active, changed) & ~done[None, :]
        few = AFFORDABLE * rows.shape[0] // rows.shape[1] * (~done).sum(dtype=jnp.int32)
        exact = pending.sum(dtype=jnp.int32) <= few

        def factor(item: tuple[Array, ...]) -> tuple[Array, Array]:
            sums, pending, active, anew, done = item
            sums = _add_rows(jnp.where(anew & ~done, 0, sums), rows, pending, active)
            return sums, jax.lax.cond(done, lambda: eye, lambda: jnp.linalg.cholesky(eye + strength * sums))

        def learn() -> tuple[_Hessian, Array]:
            sums, factors = jax.lax.map(factor, (known.sums, pending.T, active.T, anew, done))
            return _Hessian(sums, jnp.where(done[None, :], known.summed, active)), factors

        hessian, factors = jax.lax.cond(exact, learn, lambda: (known, jnp.zeros_like(known.sums)))
        share = active.sum(axis=0).astype(rows.dtype) / jnp.maximum(counted.sum(), 1).astype(rows.dtype)
        shared = 1 + strength * share[None, :] * values[:, None]

        def divide(x: Array) -> Array:
            return jax.lax.cond(
                exact,
                lambda: cho_solve((factors, True), x.T[:, :, None])[:, :, 0].T,
                lambda: _product(vectors, _product(vectors.T, x) / shared),
            )

        return hessian, divide

    def newton_step(now: _Progress) -> _Progress:
        active = now.slacks > 0
        hessian, divide = preconditioner(now.hessian, active, now.done)

        def product(direction: Array) -> tuple[Array, Array]:
            change = _product(rows, direction)
            return direction + strength * _product(rows.T, jnp.where(active, change, 0)), change

        direction, change = _conjugate_gradients(product, divide, -now.gradients, now.done)
        change = signs * change
        length = _line_search(now, direction, change, strength)
        weights = now.weights + length[None, :] * direction
        slacks = now.slacks - length[None, :] * change
        gradients = gradient(weights, slacks)
        finite = jnp.isfinite(gradients).all(axis=0)
        weights, slacks, gradients = (
            jnp.where(finite[None, :], new, old)
            for new, old in ((weights, now.weights), (slacks, now.slacks), (gradients, now.gradients))
        )
        done = now.done | ~finite | solved(gradients, weights, slacks)
        return _Progress(weights, slacks, gradients, hessian, done, now.step + 1)

    def solved(gradients: Array, weights: Array, slacks: Array) -> Array:
        """The gradient is below a bound of its rounding, eps |Hessian| |w|; it settles at a tenth of that."""
        trace = rows.shape[1] + strength * _product(row_squares, (slacks > 0).astype(rows.dtype))
        limit = jnp.finfo(rows.dtype).eps * trace * jnp.linalg.norm(weights, axis=0)
        return jnp.linalg.norm(gradients, axis=0) <= limit

    weights = jnp.zeros((rows.shape[1], num_classes), rows.dtype)
    slacks = jnp.square(signs)
    gradients = gradient(weights, slacks)
    nothing = _Hessian(jnp.zeros((num_classes, *eye.shape), rows.dtype), jnp.zeros(signs.shape, bool))
    first = _Progress(weights, slacks, gradients, nothing, ~positive.any(axis=0), jnp.zeros((), jnp.int32))
    last = jax.lax.while_loop(lambda now: ~now.done.all() & (now.step < MAX_STEPS), newton_step, first)
    return last.weights.T


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision="highest")


def _dot(a: Array, b: Array) -> Array:
    return (a * b).sum(axis=0)


def _add_rows(sums: Array, rows: Array, pending: Array, active: Array) -> Array:
    """sums [K, K] with x x^T of the pending rows [R] added, or taken away where they are not active."""
    blocks = -(-rows.shape[0] // BLOCK)
    places = jnp.nonzero(pending, size=blocks * BLOCK, fill_value=rows.shape[0])[0]

    def add(block: Array, sums: Array) -> Array:
        at = jax.lax.dynamic_slice_in_dim(places, block * BLOCK, BLOCK)
        x = rows.at[at].get(mode="fill", fill_value=0)
        sign = jnp.where(active.at[at].get(mode="fill", fill_value=False), 1, -1).astype(rows.dtype)
        return sums + _product(x.T, sign[:, None] * x)

    return jax.lax.fori_loop(0, (pending.sum() + BLOCK - 1) // BLOCK, add, sums)


class _Residual(NamedTuple):
    """Conjugate gradients on their way."""

    direction: Array  # [K, C]
    change: Array  # [R, C], rows times direction
    residual: Array  # [K, C]
    search: Array  # [K, C]
    square: Array  # [C], of the residual, in the metric of the preconditioner
    open: Array  # [C] bool
    products: Array  # []


def _conjugate_gradients(
    product: Callable[[Array], tuple[Array, Array]],
    divide: Callable[[Array], Array],
    target: Array,
    done: Array,
) -> tuple[Array, Array]:
    """Directions [K, C] with |target - Hessian direction| <= `LEFT` |target|, and rows times them [R, C].

    Args:
      product: of [K, C] with the Hessians, and with the rows, [R, C].
      divide: [K, C] by the preconditioners.
      target: [K, C].
      done: [C] bool; these directions are 0.
    """
    enough = LEFT * jnp.linalg.norm(target, axis=0)

    def iterate(now: _Residual) -> _Residual:
        towards = divide(now.residual)
        square = _dot(now.residual, towards)
        share = jnp.where(now.square > 0, square / jnp.where(now.square > 0, now.square, 1), 0)
        search = towards + share[None, :] * now.search
        curved, turn = product(search)
        curvature = _dot(search, curved)
        going = now.open & (curvature > 0)
        length = jnp.where(going, square / jnp.where(going, curvature, 1), 0)[None, :]
        residual = now.residual - length * curved
        return _Residual(
            now.direction + length * search,
            now.change + length * turn,
            residual,
            search,
            square,
            going & (jnp.linalg.norm(residual, axis=0) > enough),
            now.products + 1,
        )

    zero = jnp.zeros_like(target)
    first = _Residual(
        zero,
        jnp.zeros_like(jax.eval_shape(product, target)[1]),
        target,
        zero,
        jnp.zeros_like(enough),
        ~done,
        jnp.zeros((), jnp.int32),
    )
    last = jax.lax.while_loop(lambda now: now.open.any() & (now.products < MAX_PRODUCTS), iterate, first)
    return last.direction, last.change


class _Trial(NamedTuple):
    """A search for lengths, [C] each, on its way."""

    length: Array
    low: Array  # the slope is negative here
    high: Array  # and positive here
    open: Array  # bool
    trials: Array  # []


def _line_search(now: _Progress, direction: Array, change: Array, strength: Array) -> Array:
    """Lengths [C] at which (1) along the direction is nearly smallest, by Newton's method and bisection.

    Args:
      now: the start.
      direction: [K, C].
      change: [R, C] of y <w, x> for a length of 1.
      strength: 2 C of (1).
    """
    linear, square = _dot(now.weights, direction), _dot(direction, direction)
    steepest = jnp.abs(_dot(now.gradients, direction))

    def trial(at: _Trial) -> _Trial:
        slacks = now.slacks - at.length[None, :] * change
        slope = linear + at.length * square - strength * _dot(jnp.maximum(slacks, 0), change)
        curvature = square + strength * _dot(jnp.where(slacks > 0, change, 0), change)
        low, high = jnp.where(slope < 0, at.length, at.low), jnp.where(slope > 0, at.length, at.high)
        newton = at.length - slope / jnp.where(curvature > 0, curvature, 1)
        between = jnp.where(jnp.isfinite(high), (low + high) / 2, 2 * at.length)
        moved = jnp.where((newton > low) & (newton < high), newton, between)
        open_ = at.open & (jnp.abs(slope) > SLOPE * steepest)
        return _Trial(jnp.where(open_, moved, at.length), low, high, open_, at.trials + 1)

    one = jnp.ones_like(linear)
    first = _Trial(one, 0 * one, jnp.full_like(one, jnp.inf), ~now.done, jnp.zeros((), jnp.int32))
    last = jax.lax.while_loop(lambda at: at.open.any() & (at.trials < MAX_TRIALS), trial, first)
    return jnp.where(now.done, 0, last.length)
