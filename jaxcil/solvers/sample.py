"""The one loop that runs every plan.

    key = jax.random.key(0)
    x = prior(plan, key, (16, 32, 32, 3))
    images = sample(plan, denoiser, x, key)

Keys. Sample b has a key of its own: one of B keys given, or fold_in(key, b) of a single one. Row i of
the plan draws normal(fold_in(key_b, i)), and the prior draws from fold_in(key_b, 2^32 - 1), a number that
no row reaches. So a sample depends on its own key alone: not on its place, its batch or the devices. That holds
for keys of jax's default kind, threefry2x32; others (rbg) give other numbers in other batches and are refused.

`sample` compiles whenever it is called outside jit. Call it inside a jitted function of the plan and the key, which
compiles once for all plans of one shape.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil.solvers.denoiser import Denoiser
from jaxcil.solvers.grid import is_concrete
from jaxcil.solvers.plan import Plan

# What the prior folds into a sample's key; rows fold in 0, 1, ..., N - 1.
PRIOR_STREAM = 2**32 - 1


class SamplerState(NamedTuple):
    """The state between two rows of a plan."""

    x: Array  # [B, ...]
    past: Array  # [K, B, ...] the x0 predictions, newest first; zeros before the first rows


def prior(plan: Plan, key: Array, shape: tuple[int, ...]) -> Array:
    """x at the first node for data of zero mean and unit variance: sqrt(alpha^2 + sigma^2) z.

    Args:
      plan: only its first node is read.
      key: one key or B keys, as `sample` takes them; the same key may serve both.
      shape: (B, ...).
    """
    keys = jax.vmap(lambda key: jax.random.fold_in(key, np.uint32(PRIOR_STREAM)))(_sample_keys(key, shape[0]))
    z = jax.vmap(lambda key: jax.random.normal(key, shape[1:], plan.sigma.dtype))(keys)
    return jnp.hypot(plan.alpha[0], plan.sigma[0]) * z


def sample(
    plan: Plan,
    denoiser: Denoiser,
    x: Array,
    key: Array | None = None,
    noises: Array | None = None,
    trajectory: bool = False,
) -> Any:
    """Runs a plan from x at its first node to its last; N denoiser calls in one `lax.scan`.

    Args:
      plan: the table of a solver.
      denoiser: (x [B, ...], node) -> x0 prediction, node = Node(time, alpha, sigma) of scalars.
      x: [B, ...] at the plan's first node; the result has its dtype.
      key: one typed key or B keys. May be None where the plan draws no noise. Where it does, and cannot be seen to
        under jit, None gives NaN.
      noises: [N, B, ...] standard normal, in place of a key.
      trajectory: return all states too.

    Returns:
      x at the last node; with trajectory (x, states [N + 1, B, ...], x0 predictions [N, B, ...]).

    Raises:
      ValueError: key and noises both given, noises of another shape, or neither of them though the
        plan (where its values are concrete) draws noise; a plan that is stacked or whose leaves do not fit
        one another; x that is not of floating point.
    """
    _check_plan(plan)
    _check_state(x)
    keys = None if key is None else _sample_keys(key, x.shape[0])
    _check_noise(plan, x, key, noises)
    silent = keys is None and noises is None
    plan = jax.tree.map(jnp.asarray, plan)  # rows of numpy arrays cannot be taken by a traced number

    def row(state: SamplerState, inputs: tuple[Array, Array | None]) -> tuple[SamplerState, tuple]:
        i, noise = inputs
        if keys is not None:
            noise = _row_noise(keys, i, x)
        elif silent:  # a noisy plan must not pass for an ODE where it is traced
            noise = jnp.where(plan.noise[i] == 0, jnp.zeros_like(x), jnp.nan)
        new = step(plan, i, state, denoiser, noise)
        return new, (new.x, new.past[0]) if trajectory else ()

    state, outputs = jax.lax.scan(row, init(plan, x), (jnp.arange(plan.rows), noises))
    if not trajectory:
        return state.x
    states, predictions = outputs
    return state.x, jnp.concatenate([x[None], states]), predictions


def init(plan: Plan, x: Array) -> SamplerState:
    """The state before row 0, for a loop of one's own; x [B, ...] at the plan's first node."""
    _check_plan(plan)
    _check_state(x)
    return SamplerState(x=x, past=jnp.zeros((plan.history.shape[-1], *x.shape), x.dtype))


def step(
    plan: Plan, i: Array | int, state: SamplerState, denoiser: Denoiser, noise: Array | None = None
) -> SamplerState:
    """Row i of a plan: one denoiser call.

    Args:
      plan: the table.
      i: row in [0, N), a number or a traced one.
      state: from `init` or the row before.
      denoiser: as in `sample`.
      noise: [B, ...] standard normal; None adds none.

    Returns:
      The state at node i + 1; its `past[0]` is the x0 prediction made at node i.

    Raises:
      ValueError: i outside [0, N) where it is concrete, or noise of another shape than x.
    """
    if is_concrete(i) and not 0 <= int(i) < plan.rows:
        raise ValueError(f"a plan of {plan.rows} rows has rows 0 to {plan.rows - 1}, got {i}.")
    if noise is not None and jnp.shape(noise) != state.x.shape:
        raise ValueError(f"noise must have the shape of x, {state.x.shape}, got {jnp.shape(noise)}.")
    dtype = state.x.dtype
    prediction = denoiser(state.x, plan.node(i)).astype(dtype)
    past = jnp.concatenate([prediction[None], state.past[:-1]])
    x = plan.keep[i].astype(dtype) * state.x
    for k in range(past.shape[0]):  # term by term: a tensordot drifts under vmap and may drop to TF32
        x = x + plan.history[i, k].astype(dtype) * past[k]
    if noise is not None:
        x = x + plan.noise[i].astype(dtype) * noise.astype(dtype)
    return SamplerState(x, past)


def _sample_keys(key: Array, batch: int) -> Array:
    """B keys from one or from B."""
    if not jnp.issubdtype(jnp.result_type(key), jax.dtypes.prng_key):
        raise ValueError(
            f"key must be a typed key, got {type(key).__name__} of {jnp.result_type(key)}. "
            "Make it with jax.random.key(seed)."
        )
    if str(jax.random.key_impl(key)) != "threefry2x32":
        raise ValueError(
            f"key must be of the kind threefry2x32, got {jax.random.key_impl(key)}, whose numbers depend on the batch. "
            'Make it with jax.random.key(seed, impl="threefry2x32").'
        )
    if key.shape == ():
        return jax.vmap(lambda b: jax.random.fold_in(key, b))(jnp.arange(batch))
    if key.shape != (batch,):
        raise ValueError(f"key must be one key or one per sample, {batch} in all, got shape {key.shape}.")
    return key


def _row_noise(keys: Array, i: Array, x: Array) -> Array:
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, i), x.shape[1:], x.dtype))(keys)


def _check_plan(plan: Plan) -> None:
    """Shapes, which are known under tracing too."""
    shapes = {name: jnp.shape(getattr(plan, name)) for name in Plan.__dataclass_fields__}
    if len(shapes["keep"]) != 1:
        raise ValueError(
            f"a plan's keep must have shape [N], got {shapes['keep']}. A plan out of `stack` runs under "
            "jax.vmap, one solver at a time: jax.vmap(lambda plan: sample(plan, ...))(stacked)."
        )
    rows, width = shapes["keep"][0], shapes["history"][-1:]
    nodes = (rows + 1,)
    expected = {"time": nodes, "alpha": nodes, "sigma": nodes}
    expected |= {"keep": (rows,), "history": (rows, *width), "noise": (rows,)}
    wrong = {name: shape for name, shape in shapes.items() if shape != expected[name]}
    if wrong:
        raise ValueError(
            f"the leaves of a plan of {rows} rows do not fit one another: expected "
            f"{ {name: expected[name] for name in wrong} }, got {wrong}. Is it made of parts of two plans?"
        )


def _check_state(x: Array) -> None:
    if jnp.ndim(x) < 1 or not jnp.issubdtype(jnp.result_type(x), jnp.floating):
        raise ValueError(
            f"x must be an array [B, ...] of floating point, got {jnp.result_type(x)} {jnp.shape(x)}. "
            "prior(plan, key, shape) makes one."
        )


def _check_noise(plan: Plan, x: Array, key: Array | None, noises: Array | None) -> None:
    if key is not None and noises is not None:
        raise ValueError("give key or noises, not both.")
    expected = (plan.rows, *x.shape)
    if noises is not None and noises.shape != expected:
        raise ValueError(f"noises must have shape [N, B, ...] = {expected}, got {noises.shape}.")
    silent = key is None and noises is None
    if silent and is_concrete(plan.noise) and np.any(np.asarray(plan.noise) != 0):
        raise ValueError("this plan draws noise: pass key=jax.random.key(seed), or noises [N, B, ...].")
