"""ER-SDE solvers of order 1, 2 and 3 (Cui et al., arXiv:2309.06169) as tables of coefficients.

In y = x / alpha and lam = sigma / alpha the extended reverse-time SDE with noise scale phi has, between
lam_s > lam_t and with r = phi_t / phi_s, the exact solution

    y_t = r y_s + phi_t Int_{lam_t}^{lam_s} phi'(l) / phi(l)^2 D(l) dl + n,
    n ~ N(0, lam_t^2 - lam_s^2 r^2).                                                    (1)

D expanded at lam_s with derivatives D', D'' gives (1 - r) D + c1 D' + c2 D''. With l = lam_t e^u,
L = log(lam_s / lam_t), k = log(phi / lam), rho - 1 = dk / d log lam and dk = Int_0^L (rho - 1) du,

    r = (lam_t / lam_s) e^-dk,     1 - r = -expm1(-(L + dk)),
    std of n = lam_t sqrt(-expm1(-2 dk)),                                               (2)
    w(u) = rho(l) exp(-(u + k(l) - k_t)),
    c1 = lam_s Int_0^L w expm1(u - L) du,    c2 = lam_s^2 / 2 Int_0^L w expm1(u - L)^2 du.  (3)

The integrands keep one sign and dk is an integral rather than a difference of k, so nothing cancels in
float32. The published code sums phi_t / phi at points uniform in lam instead, from h = lam_t - lam_s:

    c1 = h + phi_t Int dl / phi(l),    c2 = h^2 / 2 + phi_t Int (l - lam_s) / phi(l) dl.     (4)

Divided differences replace the derivatives. d1 over the last two nodes and s over the last three are
D' = d1, D'' = 2 s as published. But d1 is the slope in the middle of [lam_i, lam_{i-1}], an error of first
order, so that the published order 3 converges with order 2. Newton's interpolant corrects it:

    D' = d1 + s (lam_i - lam_{i-1}),    D'' = 2 s.                                      (5)

The polynomial may be one in log lam instead: with derivatives by log lam, lam_s expm1(u - L) in (3) becomes
u - L and all differences of (5) are those of log lam. Order 2 of the ODE is then DPM-Solver++ (2M) with the
exact weights ("heun" of diffusers).
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxcil.solvers.grid import (
    Grid,
    Steps,
    check_grid,
    check_scalar,
    gauss_legendre,
    is_concrete,
    safe_sqrt,
    steps_of,
)
from jaxcil.solvers.noise_scale import NoiseScale, check_noise_scale, ode, phi, power
from jaxcil.solvers.plan import Plan, noisy_start, plan_from_lam

# Gauss points of dk: relative error of r below 1e-12 up to lam_s / lam_t = 1000.
_POINTS_OF_DK = 32


def er_sde(
    grid: Grid,
    noise_scale: NoiseScale | None = None,
    order: int = 3,
    *,
    derivative: str = "published",
    quadrature: str = "gauss",
    points: int = 16,
    clip: float = 0.0,
    start: str = "euler",
    basis: str = "lam",
) -> Plan:
    """ER-SDE of order 1, 2 or 3; one denoiser call a step.

    A last node with lam = 0 returns D, the x0 prediction at the node before. Step 0 is of order 1 and step
    1 at most of order 2, since earlier predictions are missing. Measured orders: for the ODE 1, 2 and 2
    ("published") or, with derivative="corrected" and start="corrector", 3; with noise the weak order is
    at most 2 and the strong order 1.

    Values are checked where they are concrete and not under jit, vmap or grad. There, a step to a larger
    phi / lam gets no noise, and a first node with alpha = 0 is taken for a step of the ODE.

    Args:
      grid: N + 1 nodes, noisy first.
      noise_scale: phi; None takes `phi(7)`.
      order: 1, 2 or 3.
      derivative: "published" or "corrected" (5); they differ in order 3 alone.
      quadrature: "gauss" (3) in log lam, or "riemann", the left sum (4) uniform in lam.
      points: number of points of the quadrature.
      clip: a variance below this, in units of lam^2, becomes 0. The published code has 1e-6, which removes
        true noise from fine grids.
      start: "euler", or "corrector": the prediction at node 1 corrects step 0 afterwards, at no extra call;
        state 1 of a trajectory is then the predictor's. Needs order 2 or 3.
      basis: D is approximated by a polynomial in "lam", as published, or in "log_lam" ("gauss" only).
        The orders are the same. "log_lam" has the smaller errors from a moderate first lam (up to 20), "lam"
        where the first steps are few and long (EDM's 80 with less than 30 calls).

    Returns:
      A plan with N rows and a history of length `order`.

    Raises:
      ValueError: an unknown option, a grid whose lam does not fall, a noise scale that is not legal
        on a step, or a noisy first step from alpha = 0.
    """
    _check_options(order, derivative, quadrature, points, start, basis)
    grid = check_grid(grid)
    noise_scale = phi(7) if noise_scale is None else noise_scale
    check_noise_scale(noise_scale)
    check_scalar("clip", clip)
    plan, dk, rounding = _table(grid, noise_scale, clip, order, derivative, quadrature, points, start, basis)
    _check_noise_scale(grid, dk, rounding)
    return plan


def er_sde_official(grid: Grid, phi_type: int, order: int, eta: ArrayLike = 0.0) -> Plan:
    """The tables of the authors' code: 100-point left sums, clip 1e-6, published derivatives.

    Two things differ, both where that code returns NaN: a last node with lam = 0 denoises in the VP family
    too, and float32 gives the numbers of float64.

    Args:
      grid: N + 1 nodes, noisy first.
      phi_type: the noise scale, 1 to 7.
      order: 1, 2 or 3.
      eta: of noise scale 3.
    """
    return er_sde(grid, phi(phi_type, eta), order, quadrature="riemann", points=100, clip=1e-6)


def er_sde_comfy(
    grid: Grid,
    max_stage: int = 3,
    solver: str = "er_sde",
    eta: ArrayLike = 1.0,
    s_noise: ArrayLike = 1.0,
    *,
    shift: ArrayLike = 1.0,
) -> Plan:
    """The tables of ComfyUI's `sample_er_sde`: 200-point left sums, no clip, published derivatives.

    A first node with alpha = 0 is moved to where the training time is 0.9999 (the first-sigma rule); x at it is
    left as it is. ComfyUI makes the points of the sums in float32, which changes samples by 1e-7; ours are as
    exact as the grid.

    Args:
      grid: N + 1 nodes; VE for ComfyUI's epsilon and v models, alpha = 1 - sigma for flow models.
      max_stage: the order, 1, 2 or 3.
      solver: "er_sde" (phi 7), "reverse_time_sde" (phi = lam^(1 + eta)) or "ode" (no noise).
      eta: >= 0, of "reverse_time_sde" alone.
      s_noise: factor of the noise; the marginals are kept at 1 only.
      shift: of the flow model, for the first-sigma rule.
    """
    if solver not in ("er_sde", "reverse_time_sde", "ode"):
        raise ValueError(f"solver must be 'er_sde', 'reverse_time_sde' or 'ode', got {solver!r}.")
    grid = check_grid(grid)
    check_scalar("s_noise", s_noise)
    noise_scale = {"er_sde": phi(7), "reverse_time_sde": power(eta), "ode": ode()}[solver]
    plan = er_sde(_first_sigma(grid, shift), noise_scale, max_stage, quadrature="riemann", points=200)
    return dataclasses.replace(plan, noise=plan.noise * s_noise)


def _first_sigma(grid: Grid, shift: ArrayLike) -> Grid:
    """The grid, with a first node of alpha = 0 moved to the training time 0.9999."""
    t = 0.9999
    shift = jnp.asarray(shift, grid.sigma.dtype)
    scale = 1 + (shift - 1) * t
    first = Grid(grid.time[0] * shift * t / scale, (1 - t) / scale, shift * t / scale)
    noise_only = grid.alpha[0] == 0
    return jax.tree.map(lambda old, new: old.at[0].set(jnp.where(noise_only, new, old[0])), grid, first)


# Compiled, unlike other small functions: a hundred operations on a new length take seconds otherwise.
@functools.partial(jax.jit, static_argnums=(3, 4, 5, 6, 7, 8))
def _table(
    grid: Grid,
    noise_scale: NoiseScale,
    clip: Array,
    order: int,
    derivative: str,
    quadrature: str,
    points: int,
    start: str,
    basis: str,
) -> tuple[Plan, Array, Array]:
    """The plan, and for the checks dk [N] with the rounding error [N] it may have."""
    steps = steps_of(grid)
    parts = _parts_of_dk(noise_scale, steps)
    raw_dk = jnp.sum(parts, 1)
    rounding = 8 * jnp.finfo(raw_dk.dtype).eps * (1 + steps.length)
    dk = jnp.where(steps.unbounded, 0.0, jnp.maximum(raw_dk, 0.0))

    to_end = -jnp.expm1(-(steps.length + dk))  # 1 - r
    to_end = jnp.where(steps.final | steps.unbounded, 1.0, to_end)
    history = to_end[:, None]
    widths = steps.length if basis == "log_lam" else steps.high - steps.low
    if order > 1:
        if quadrature == "gauss":
            c1, c2 = _gauss_integrals(noise_scale, steps, points, basis)
        else:
            c1, c2 = _riemann_integrals(noise_scale, steps, points)
        history = _with_differences(widths, steps, history, c1, c2, order, derivative)
    # e^-dk as a product: dk may be 20, whose own rounding would show in float32
    share = jnp.where(steps.final, 0.0, jnp.exp(-dk))
    if start == "corrector" and len(dk) > 1:
        # what step 0 lacked of order 2: c1_0 (D_1 - D_0) / (lam_1 - lam_0), kept by step 1
        added = grid.lam[2] / grid.lam[1] * share[1] * c1[0] / -widths[0]
        history = history.at[1, 0].add(added).at[1, 1].add(-added)
    plan = plan_from_lam(grid, share, history, _standard_deviation(steps, dk, clip))
    return plan, raw_dk, rounding


def _gauss(steps: Steps, points: int) -> tuple[Array, Array]:
    """Gauss-Legendre nodes u [N, P] on [0, L] and weights [1, P] whose sum is 1."""
    nodes, weights = gauss_legendre(points, steps.length.dtype)
    return steps.length[:, None] * nodes, weights


def _parts_of_dk(noise_scale: NoiseScale, steps: Steps) -> Array:
    """The terms [N, P] of the sum that is dk."""
    u, weights = _gauss(steps, _POINTS_OF_DK)
    # Sums and not products of matrices, which some platforms round to TF32.
    return steps.length[:, None] * noise_scale.excess(jnp.log(steps.low)[:, None] + u) * weights


def _gauss_integrals(noise_scale: NoiseScale, steps: Steps, points: int, basis: str) -> tuple[Array, Array]:
    """c1 and c2 [N] by (3), in the basis asked for."""
    u, weights = _gauss(steps, points)
    log_low = jnp.log(steps.low)[:, None]
    rho = 1 + noise_scale.excess(log_low + u)
    w = rho * jnp.exp(-(u + noise_scale.difference(log_low + u, log_low)))
    away = u - steps.length[:, None]
    away = away if basis == "log_lam" else steps.high[:, None] * jnp.expm1(away)
    c1 = steps.length * jnp.sum(w * away * weights, 1)
    c2 = steps.length / 2 * jnp.sum(w * away**2 * weights, 1)
    return _without_ends(steps, c1, c2)


def _riemann_integrals(noise_scale: NoiseScale, steps: Steps, points: int) -> tuple[Array, Array]:
    """c1 and c2 [N] by (4); the sum takes the end at lam_t and leaves the one at lam_s out."""
    width = steps.high - steps.low
    fraction = jnp.asarray(np.arange(points)[None] / points, width.dtype)
    l = steps.low[:, None] + fraction * width[:, None]
    log_low = jnp.log(steps.low)[:, None]
    ratio = jnp.exp(-(jnp.log(l) - log_low + noise_scale.difference(jnp.log(l), log_low)))  # phi_t / phi(l)
    c1 = width * jnp.mean(ratio, 1) - width
    c2 = width**2 / 2 + width * jnp.mean((l - steps.high[:, None]) * ratio, 1)
    return _without_ends(steps, c1, c2)


def _without_ends(steps: Steps, c1: Array, c2: Array) -> tuple[Array, Array]:
    """Zero on the step to lam = 0, which returns D, and on one from infinity, where no slope is known."""
    ends = steps.final | steps.unbounded
    return jnp.where(ends, 0.0, c1), jnp.where(ends, 0.0, c2)


def _with_differences(
    widths: Array, steps: Steps, history: Array, c1: Array, c2: Array, order: int, derivative: str
) -> Array:
    """(1 - r) D + c1 D' + c2 D'' with divided differences: weights [N, order] of D_i, D_{i-1}, ...

    `widths` [N] are those of the steps in the polynomial's variable. A node with infinite lam is not used.
    """

    def before(count: int) -> tuple[Array, Array]:
        """The distance from node i to the one `count` nodes earlier, and whether it is there and finite."""
        known = (jnp.arange(len(c1)) >= count) & ~_earlier(steps.unbounded, count)
        return jnp.where(known, -sum(_earlier(widths, n) for n in range(1, count + 1)), 1.0), known

    gap, known = before(1)
    d = jnp.where(known, 1 / gap, 0.0)
    history = jnp.pad(history, ((0, 0), (0, order - 1)))
    history = history.at[:, 0].add(c1 * d).at[:, 1].add(-c1 * d)
    if order == 2:
        return history
    wide, known = before(2)
    e, f = _earlier(d, 1), jnp.where(known, 1 / wide, 0.0)
    second = c2 if derivative == "published" else c2 + c1 * gap / 2  # times D'' = 2 s
    return history + (2 * second * f)[:, None] * jnp.stack([d, -(d + e), e], 1)


def _earlier(values: Array, count: int) -> Array:
    """[N] moved to later rows; zeros come in."""
    return jnp.concatenate([jnp.zeros_like(values[:count]), values[:-count]])[: len(values)]


def _standard_deviation(steps: Steps, dk: Array, clip: Array) -> Array:
    """(2) [N], in units of lam."""
    variance = -jnp.expm1(-2 * dk) * steps.low**2
    return safe_sqrt(jnp.where((variance >= clip) & ~steps.final, variance, 0.0))


def _check_options(order: int, derivative: str, quadrature: str, points: int, start: str, basis: str) -> None:
    if not isinstance(order, int) or isinstance(order, bool) or order not in (1, 2, 3):
        raise ValueError(f"order must be 1, 2 or 3, got {order!r}.")
    for name, value, known in (
        ("derivative", derivative, ("published", "corrected")),
        ("quadrature", quadrature, ("gauss", "riemann")),
        ("start", start, ("euler", "corrector")),
        ("basis", basis, ("lam", "log_lam")),
    ):
        if value not in known:
            raise ValueError(f"{name} must be {known[0]!r} or {known[1]!r}, got {value!r}.")
    if not isinstance(points, int) or points < 1:
        raise ValueError(f"points must be a whole number of at least 1, got {points}.")
    if basis == "log_lam" and quadrature == "riemann":
        raise ValueError(
            "quadrature='riemann' is the published sum, uniform in lam: take basis='lam' or 'gauss'."
        )
    if start == "corrector" and order == 1:
        raise ValueError("start='corrector' needs the predictions of two nodes: take order 2 or 3.")


def _check_noise_scale(grid: Grid, dk: Array, rounding: Array) -> None:
    if not is_concrete(grid, dk):
        return
    lam, rise, slack = np.asarray(grid.lam), np.asarray(dk), np.asarray(rounding)
    wrong = np.flatnonzero(~(rise >= -slack))
    if wrong.size:
        i = wrong[0]
        raise ValueError(
            f"the noise scale is not legal on step {i}, from lam {lam[i]:.6g} to {lam[i + 1]:.6g}: phi / lam "
            f"must not rise as lam falls, but its logarithm rises by {-rise[i]:.3g}: a negative variance. "
            "Start at a lower lam (type 6 is legal up to lam = 1022) or take another noise scale."
        )
    if np.isinf(lam[0]) and rise[0] > slack[0]:
        raise noisy_start()
