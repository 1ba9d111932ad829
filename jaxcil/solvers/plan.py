"""A solver is a table of coefficients.

In x = alpha x0 + sigma z every sampler of this package is the recurrence

    D_i     = denoiser(x_i, node_i)                                                     (1)
    x_{i+1} = keep_i x_i + sum_k history_{i,k} D_{i-k} + noise_i z_i,    z ~ N(0, I)    (2)

with D the x0 prediction and k = 0 .. K-1. Samplers differ in the numbers alone, so that one loop runs them
all and a sweep over samplers is a vmap over stacked tables.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil.solvers.grid import Grid, is_concrete


class Node(NamedTuple):
    """Where a denoiser is called: three scalars."""

    time: Array
    alpha: Array
    sigma: Array


@flax.struct.dataclass
class Plan:
    """Equation (2) for N rows, each of which costs one denoiser call; all leaves."""

    time: Array  # [N + 1] the nodes visited, the last included
    alpha: Array  # [N + 1]
    sigma: Array  # [N + 1]
    keep: Array  # [N]
    history: Array  # [N, K]
    noise: Array  # [N]

    @property
    def rows(self) -> int:
        """N, the number of denoiser calls."""
        return self.keep.shape[-1]

    def node(self, i: Array | int) -> Node:
        """Node i, a number or a traced one."""
        return Node(self.time[i], self.alpha[i], self.sigma[i])


def plan_from_lam(grid: Grid, share: Array, history: Array, noise: Array) -> Plan:
    """A table in y = x / alpha, turned into one in x.

    Args:
      grid: N + 1 nodes.
      share: [N], the coefficient of y divided by lam_t / lam_s: how much of the noise that is in y stays.
        1 without new noise; sqrt(share^2 + (noise / lam_t)^2) = 1 where a step keeps the marginals.
      history: [N, K], weights of the x0 predictions in y.
      noise: [N], standard deviation of the new noise in y, in units of lam.

    Raises:
      ValueError: the first node has alpha = 0 and the first step draws noise (where values are concrete).
    """
    if is_concrete(grid.alpha, noise) and np.asarray(grid.alpha)[0] == 0 and np.asarray(noise)[0] > 0:
        raise noisy_start()
    keep = (
        grid.sigma[1:] / grid.sigma[:-1] * share
    )  # = alpha_t lam_t share / (alpha_s lam_s), also for alpha_s = 0
    return Plan(
        grid.time, grid.alpha, grid.sigma, keep, grid.alpha[1:, None] * history, grid.alpha[1:] * noise
    )


def noisy_start() -> ValueError:
    """The error for a noisy first step from alpha = 0, where a solver's coefficients have no limit to take."""
    return ValueError(
        "the first node has alpha = 0 (lam infinite), where a first step with noise is not defined. "
        "Take a deterministic solver, or start a little below: the first-sigma rule puts sigma[0] of a flow "
        "model of shift s at s t / (1 + (s - 1) t) with t = 0.9999."
    )


def stack(plans: Sequence[Plan]) -> Plan:
    """Plans of equally many rows as one with a leading axis on every leaf, for a vmap over solvers.

    Shorter histories are filled up with zeros, at the price of K multiplications a row. Equal rows are equal
    denoiser calls, the fair comparison; `pad` brings plans of fewer rows to the same number, with calls that are
    not used.

    Raises:
      ValueError: no plan, or plans of different numbers of rows.
    """
    rows = [plan.rows for plan in plans]
    if not rows or min(rows) < max(rows):
        raise ValueError(f"stack needs plans of equally many rows (denoiser calls), got {rows}. Use pad.")
    longest = max(plan.history.shape[-1] for plan in plans)

    def widened(plan: Plan) -> Plan:
        missing = longest - plan.history.shape[-1]
        return dataclasses.replace(plan, history=jnp.pad(plan.history, ((0, 0), (0, missing))))

    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(widened, plans))


def pad(plan: Plan, rows: int) -> Plan:
    """The same plan with more rows, so that one compiled program serves all numbers of steps up to `rows`.

    Rows added keep x and draw no noise. Each costs a denoiser call, at the last node that the plan calls, whose
    result is not used; so a program for at most `rows` calls always takes the time of `rows` calls.

    Raises:
      ValueError: the plan has more rows already.
    """
    if jnp.ndim(plan.keep) != 1:
        raise ValueError(
            f"pad takes one plan, got a stack of shape {jnp.shape(plan.keep)}: pad before stack."
        )
    added = rows - plan.rows
    if added < 0:
        raise ValueError(f"pad to at least the plan's own {plan.rows} rows, got {rows}.")

    def nodes(leaf: Array) -> Array:
        # the call is at row N - 1's node: the last node may have sigma = 0, where a denoiser need not be finite
        return jnp.concatenate([leaf[:-1], jnp.repeat(leaf[-2:-1], added), leaf[-1:]])

    return Plan(
        nodes(plan.time),
        nodes(plan.alpha),
        nodes(plan.sigma),
        keep=jnp.pad(plan.keep, (0, added), constant_values=1),
        history=jnp.pad(plan.history, ((0, added), (0, 0))),
        noise=jnp.pad(plan.noise, (0, added)),
    )
