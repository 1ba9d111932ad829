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

Divided differences stand for the derivatives. d1 over the last two nodes and s over the last three are
D' = d1, D'' = 2 s as published. But d1 is the slope in the middle of [lam_i, lam_{i-1}], an error of first
order, so that the published order 3 converges with order 2. Newton's interpolant corrects it:

    D' = d1 + s (lam_i - lam_{i-1}),    D'' = 2 s.                                      (5)
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxcil.solvers.grid import Grid, Steps, check_grid, is_concrete, steps_of
from jaxcil.solvers.noise_scale import NoiseScale, phi
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

    Returns:
      A plan with N rows and a history of length `order`.

    Raises:
      ValueError: an unknown option, a grid whose lam does not fall, a noise scale that is not legal
        on a step, or a noisy first step from alpha = 0.
    """
    _check_options(order, derivative, quadrature, points, start)
    check_grid(grid)
    noise_scale = phi(7) if noise_scale is None else noise_scale
    plan, dk, rounding = _table(grid, noise_scale, clip, order, derivative, quadrature, points, start)
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


# Compiled, unlike other small functions: a hundred operations on a new length take seconds otherwise.
@functools.partial(jax.jit, static_argnums=(3, 4, 5, 6, 7))
def _table(
    grid: Grid,
    noise_scale: NoiseScale,
    clip: Array,
    order: int,
    derivative: str,
    quadrature: str,
    points: int,
    start: str,
) -> tuple[Plan, Array, Array]:
    """The plan, and for the checks dk [N] with the rounding error [N] it may have."""
    steps = steps_of(grid)
    raw_dk = steps.length * _gauss_mean(noise_scale, steps)
    rounding = 8 * jnp.finfo(raw_dk.dtype).eps * (1 + steps.length)
    dk = jnp.where(steps.unbounded, 0.0, jnp.maximum(raw_dk, 0.0))

    to_end = -jnp.expm1(-(steps.length + dk))  # 1 - r
    to_end = jnp.where(steps.final | steps.unbounded, 1.0, to_end)
    history = to_end[:, None]
    if order > 1:
        integrals = _gauss_integrals if quadrature == "gauss" else _riemann_integrals
        c1, c2 = integrals(noise_scale, steps, points)
        history = _with_differences(grid.lam, history, c1, c2, order, derivative)
    share = jnp.exp(-dk)
    if start == "corrector" and len(dk) > 1:
        history = _with_corrector(grid, share, history, c1)
    plan = plan_from_lam(grid, share, history, _standard_deviation(steps, dk, clip))
    return plan, raw_dk, rounding


def _gauss(steps: Steps, points: int) -> tuple[Array, Array]:
    """Gauss-Legendre nodes u [N, P] on [0, L] and weights [1, P] whose sum is 1."""
    nodes, weights = (
        jnp.asarray(a[None], steps.length.dtype) for a in np.polynomial.legendre.leggauss(points)
    )
    return steps.length[:, None] * (nodes + 1) / 2, weights / 2


def _gauss_mean(noise_scale: NoiseScale, steps: Steps) -> Array:
    """The mean of rho - 1 over each step [N]; dk = L times it."""
    u, weights = _gauss(steps, _POINTS_OF_DK)
    # Sums and not products of matrices, which some platforms round to TF32.
    return jnp.sum(noise_scale.excess(jnp.log(steps.low)[:, None] + u) * weights, 1)


def _gauss_integrals(noise_scale: NoiseScale, steps: Steps, points: int) -> tuple[Array, Array]:
    """c1 and c2 [N] by (3)."""
    u, weights = _gauss(steps, points)
    log_low = jnp.log(steps.low)[:, None]
    rho = 1 + noise_scale.excess(log_low + u)
    w = rho * jnp.exp(-(u + noise_scale.difference(log_low + u, log_low)))
    ratio = jnp.expm1(u - steps.length[:, None])
    c1 = steps.high * steps.length * jnp.sum(w * ratio * weights, 1)
    c2 = steps.high**2 / 2 * steps.length * jnp.sum(w * ratio**2 * weights, 1)
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


def _with_differences(lam: Array, history: Array, c1: Array, c2: Array, order: int, derivative: str) -> Array:
    """(1 - r) D + c1 D' + c2 D'' with divided differences: weights [N, order] of D_i, D_{i-1}, ..."""
    rows = jnp.arange(len(c1))
    # 1 / (l_i - l_{i-1}), and 0 where there is no earlier node or none with a finite lam
    gap = jnp.concatenate([jnp.ones_like(lam[:1]), lam[1:-1] - lam[:-2]])
    known = (rows > 0) & jnp.isfinite(gap)
    gap = jnp.where(known, gap, 1.0)
    d = jnp.where(known, 1 / gap, 0.0)
    history = jnp.pad(history, ((0, 0), (0, order - 1)))
    history = history.at[:, 0].add(c1 * d).at[:, 1].add(-c1 * d)
    if order == 2:
        return history
    e = jnp.concatenate([jnp.zeros_like(d[:1]), d[:-1]])
    wide = jnp.concatenate([jnp.ones_like(lam[:2]), lam[2:-1] - lam[:-3]])[: len(rows)]
    known = (rows > 1) & jnp.isfinite(wide)
    f = jnp.where(known, 1 / jnp.where(known, wide, 1.0), 0.0)
    second = c2 if derivative == "published" else c2 + c1 * gap / 2  # times D'' = 2 s
    return history + (2 * second * f)[:, None] * jnp.stack([d, -(d + e), e], 1)


def _with_corrector(grid: Grid, share: Array, history: Array, c1: Array) -> Array:
    """Adds keep_1 c1_0 (D_1 - D_0) / (lam_1 - lam_0) to row 1: what step 0 lacked of order 2."""
    gap = grid.lam[1] - grid.lam[0]
    slope = jnp.where(jnp.isinf(gap), 0.0, c1[0] / jnp.where(jnp.isinf(gap), 1.0, gap))
    added = grid.lam[2] / grid.lam[1] * share[1] * slope
    return history.at[1, 0].add(added).at[1, 1].add(-added)


def _standard_deviation(steps: Steps, dk: Array, clip: Array) -> Array:
    """(2) [N], in units of lam."""
    variance = -jnp.expm1(-2 * dk) * steps.low**2
    noisy = (variance > 0) & (variance >= clip) & ~steps.final
    return jnp.where(noisy, jnp.sqrt(jnp.where(noisy, variance, 1.0)), 0.0)


def _check_options(order: int, derivative: str, quadrature: str, points: int, start: str) -> None:
    if order not in (1, 2, 3):
        raise ValueError(f"order must be 1, 2 or 3, got {order!r}.")
    for name, value, known in (
        ("derivative", derivative, ("published", "corrected")),
        ("quadrature", quadrature, ("gauss", "riemann")),
        ("start", start, ("euler", "corrector")),
    ):
        if value not in known:
            raise ValueError(f"{name} must be {known[0]!r} or {known[1]!r}, got {value!r}.")
    if points < 1:
        raise ValueError(f"points must be at least 1, got {points}.")
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
