"""What ER-SDE's plans converge to and how fast: every claim of the documentation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from jaxcil.solvers import (
    GaussianMixture,
    er_sde,
    karras_grid,
    log_grid,
    ode,
    pad,
    phi,
    power,
    product,
    sample,
    strength,
)

ORDERS = [
    pytest.param({"order": 1}, 1.0, id="1"),
    pytest.param({"order": 2}, 2.0, id="2"),
    pytest.param({"order": 2, "basis": "log_lam"}, 2.0, id="2-log_lam"),
    pytest.param({"order": 3}, 2.0, id="3-published"),
    pytest.param({"order": 3, "derivative": "corrected", "start": "corrector"}, 3.0, id="3-corrected"),
    pytest.param(
        {"order": 3, "derivative": "corrected", "start": "corrector", "basis": "log_lam"},
        3.0,
        id="3-corrected-log_lam",
    ),
]


def slopes(errors):
    return np.log2(np.divide(errors[:-1], errors[1:]))


def gaussian_plan(steps, **options):
    return er_sde(log_grid(steps, 20.0, 0.05), ode(), **options)


@pytest.mark.parametrize(("options", "order"), ORDERS)
def test_order_of_the_ode_on_a_gaussian(options, order, ode_error, x64):
    errors = [ode_error(gaussian_plan(steps, **options)) for steps in (640, 1280)]
    np.testing.assert_allclose(slopes(errors), order, atol=0.1)


# Independent values at 160 steps.
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"order": 1}, 9.22e-3),
        ({"order": 2}, 1.51e-4),
        ({"order": 2, "quadrature": "riemann", "points": 100}, 2.42e-4),
        ({"order": 3}, 9.40e-5),
        ({"order": 3, "derivative": "corrected"}, 5.47e-6),
    ],
)
def test_error_of_the_ode_is_the_known_one(options, expected, ode_error, x64):
    np.testing.assert_allclose(ode_error(gaussian_plan(160, **options)), expected, rtol=5e-3)


@functools.cache
def mixture_run():
    """Weights, means and widths of a mixture in 6 dimensions, starts at lam = 5, and the ODE's ends at 0.02."""
    rng = np.random.default_rng(11)
    weights, means, stds = np.array([0.2, 0.5, 0.3]), rng.normal(size=(3, 6)), np.array([0.3, 0.5, 0.4])
    starts = 5 * rng.normal(size=(4, 6))

    def slope(log_lam, y):  # dy / d log lam = y - D
        lam, y = np.exp(log_lam), y.reshape(4, 1, 6)
        variance = stds**2 + lam**2
        log_weight = np.log(weights) - 3 * np.log(variance) - ((y - means) ** 2).sum(-1) / (2 * variance)
        share = np.exp(log_weight - log_weight.max(-1, keepdims=True))
        share /= share.sum(-1, keepdims=True)
        posterior = means + (stds**2 / variance)[:, None] * (y - means)
        return (y[:, 0] - (share[..., None] * posterior).sum(1)).ravel()

    run = solve_ivp(slope, np.log([5.0, 0.02]), starts.ravel(), method="DOP853", rtol=1e-12, atol=1e-12)
    return (weights, means, stds), starts, run.y[:, -1].reshape(4, 6)


@pytest.mark.parametrize(("options", "order"), ORDERS)
def test_order_of_the_ode_on_a_mixture(options, order, x64):
    arrays, starts, ends = mixture_run()
    data = GaussianMixture(*map(jnp.asarray, arrays))
    errors = []
    for steps in (320, 640, 1280):
        plan = er_sde(log_grid(steps, 5.0, 0.02), ode(), **options)
        x = sample(plan, data.denoiser, jnp.asarray(starts))
        errors.append(np.sqrt(np.mean((np.asarray(x) - ends) ** 2)))
    np.testing.assert_allclose(slopes(errors), order, atol=0.1)


@pytest.mark.parametrize(
    ("scale", "options", "order"),
    [
        pytest.param(7, {"order": 1}, 1.0, id="phi7-1"),
        pytest.param(7, {"order": 2}, 2.0, id="phi7-2"),
        pytest.param(7, {"order": 3}, 2.0, id="phi7-3-published"),
        pytest.param(2, {"order": 1}, 1.0, id="phi2-1"),
        pytest.param(2, {"order": 2}, 2.0, id="phi2-2"),
        pytest.param(2, {"order": 2, "basis": "log_lam"}, 2.0, id="phi2-2-log_lam"),
        pytest.param(2, {"order": 3, "derivative": "corrected"}, 2.0, id="phi2-3-corrected"),
        pytest.param(
            2,
            {"order": 3, "derivative": "corrected", "start": "corrector"},
            2.0,
            id="phi2-3-corrected-corrector",
        ),
    ],
)
def test_weak_order_with_noise(scale, options, order, output_std, x64):
    # Second moments of a linear denoiser, without sampling.
    exact = np.sqrt(0.25 + 0.05**2)
    errors = [
        output_std(er_sde(log_grid(steps, 20.0, 0.05), phi(scale), **options)) - exact
        for steps in (320, 640, 1280)
    ]
    np.testing.assert_allclose(slopes(np.abs(errors)), order, atol=0.1)


def test_corrected_order_3_with_little_noise_has_weak_order_2_in_the_end(output_std, x64):
    # phi 7 adds so little noise at low lam that third order shows on coarse grids, and the error changes its sign.
    grids = (karras_grid(steps, final_zero=False) for steps in (640, 1280))
    exact = np.sqrt(0.25 + 0.002**2)
    errors = [output_std(er_sde(grid, phi(7), derivative="corrected")) - exact for grid in grids]
    np.testing.assert_allclose(slopes(np.abs(errors)), 2.0, atol=0.1)


# An independent covariance recursion, 80 to 0.002 and 0: ODE, phi 2, phi 7 for 10, 20, 40, 80 steps.
PUBLISHED_SUM = {"quadrature": "riemann", "points": 100}
OUTPUT_STD = {
    "1": (
        {"order": 1},
        [0.365220, 0.430546, 0.464860, 0.482330],
        [0.301883, 0.378281, 0.432175, 0.464103],
        [0.360368, 0.427497, 0.463184, 0.481454],
    ),
    "2-published": (
        {"order": 2, "clip": 1e-6, **PUBLISHED_SUM},
        [0.423754, 0.483806, 0.496549, 0.499135],
        [0.382097, 0.476295, 0.496927, 0.499379],
        [0.420565, 0.483016, 0.496397, 0.499097],
    ),
    "2-exact": (
        {"order": 2},
        [0.424238, 0.484338, 0.496874, 0.499306],
        [0.382723, 0.477332, 0.497637, 0.499753],
        [0.421062, 0.483574, 0.496738, 0.499280],
    ),
    "3-published": (
        {"order": 3, "clip": 1e-6, **PUBLISHED_SUM},
        [0.427424, 0.487019, 0.497470, 0.499327],
        [0.388092, 0.484212, 0.499051, 0.499763],
        [0.424381, 0.486422, 0.497381, 0.499306],
    ),
    "3-published-derivatives-exact": (
        {"order": 3},
        [0.428009, 0.487750, 0.497925, 0.499567],
        [0.388833, 0.485551, 0.499913, 0.500198],
        [0.424982, 0.487181, 0.497852, 0.499555],
    ),
    "3-corrected": (
        {"order": 3, "derivative": "corrected"},
        [0.441786, 0.495441, 0.499780, 0.499988],
        [0.410860, 0.505071, 0.503879, 0.500898],
        [0.439294, 0.495329, 0.499818, 0.499999],
    ),
    "1-clipped": (
        {"order": 1, "clip": 1e-6},
        None,
        None,
        [0.360368, 0.427496, 0.463183, 0.481452],
    ),
}


@pytest.mark.parametrize(("options", "ode_std", "phi2_std", "phi7_std"), OUTPUT_STD.values(), ids=OUTPUT_STD)
def test_output_std_on_gaussian_data_is_the_known_one(options, ode_std, phi2_std, phi7_std, output_std, x64):
    # ODE, phi 2 and phi 7 as members of one family, so that one program makes the three plans.
    def plan(base, eta):
        return er_sde(karras_grid(steps), product(strength(phi(7), base), power(eta)), **options)

    for column, steps in enumerate((10, 20, 40, 80)):
        plans = jax.vmap(plan)(jnp.asarray([0.0, 0.0, 1.0]), jnp.asarray([0.0, 1.0, 0.0]))
        for n, expected in enumerate((ode_std, phi2_std, phi7_std)):
            if expected is None:
                continue
            found = output_std(pad(jax.tree.map(lambda leaf, n=n: leaf[n], plans), 80))
            # half a unit of the sixth digit, and what the clip's threshold may turn on
            assert abs(found - expected[column]) < 6e-7, (steps, n, found)
