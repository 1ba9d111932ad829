import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.solvers import (
    GaussianMixture,
    Grid,
    NoiseScale,
    er_sde,
    er_sde_official,
    from_epsilon,
    grid_from_sigmas,
    karras_grid,
    log_grid,
    ode,
    phi,
    power,
    sample,
)

STORED = ["ve1_phi7_edm10", "vp2_phi7_gdlinear10_eps", "ve3_phi7_edm10", "vp3_phi3_gdlinear15"]


def run_official(arrays):
    """The official preset on the grid, mixture and noises of a golden file."""
    grid = Grid(*(jnp.asarray(arrays[name]) for name in ("times", "alphas", "sigmas")))
    mixture = GaussianMixture(*(jnp.asarray(arrays[f"mix_{name}"]) for name in ("weights", "means", "stds")))
    denoiser = mixture.denoiser
    if arrays["prediction"] == "noise":
        denoiser = from_epsilon(lambda x, node: (x - node.alpha * mixture.denoiser(x, node)) / node.sigma)
    plan = er_sde_official(grid, int(arrays["phi_type"]), int(arrays["order"]), float(arrays["phi_eta"]))
    return sample(
        plan, denoiser, jnp.asarray(arrays["x_init"]), noises=jnp.asarray(arrays["noises"]), trajectory=True
    )


def assert_equal_to_official(arrays):
    # 1e-11: float64 rounding of a run whose states start near 80 (measured: 3e-13).
    output, states, predictions = run_official(arrays)
    np.testing.assert_allclose(output, arrays["output"], rtol=0, atol=1e-11)
    np.testing.assert_allclose(states, arrays["xs"], rtol=0, atol=1e-11)
    np.testing.assert_allclose(predictions, arrays["x0s"], rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", STORED)
def test_official_preset_equals_the_authors_code(name, golden, x64, strict_dtypes):
    assert_equal_to_official(golden(f"er_sde/{name}.npz"))


@pytest.mark.golden
def test_official_preset_equals_the_authors_code_on_all_files(full_golden, x64):
    files = sorted((full_golden / "er_sde").glob("v[ep]*.npz"))
    assert len(files) == 41
    for file in files:
        with np.load(file) as arrays:
            assert_equal_to_official(dict(arrays))


@pytest.mark.golden
def test_official_preset_in_float32_stays_close_on_all_files(full_golden, strict_dtypes):
    # 1e-5 is what float32 states allow; geom15 ends in 5e-5 with float64 coefficients too.
    for file in sorted((full_golden / "er_sde").glob("v[ep]*.npz")):
        with np.load(file) as arrays:
            output = run_official(arrays)[0]
            atol = 5e-5 if "geom15" in file.name and "phi7" in file.name else 1e-5
            np.testing.assert_allclose(output, arrays["output"], rtol=0, atol=atol, err_msg=file.name)


@pytest.mark.parametrize("name", STORED)
def test_official_preset_in_float32(name, golden, strict_dtypes):
    arrays = golden(f"er_sde/{name}.npz")
    output = run_official(arrays)[0]
    assert output.dtype == jnp.float32
    np.testing.assert_allclose(output, arrays["output"], rtol=0, atol=1e-5)


STEPS = [(80.0, 42.4), (4.07, 1.5), (0.0204, 0.002), (0.17, 0.002), (20000.0, 20.0)]
SCALES = {f"phi{n}": phi(n) for n in range(1, 8)} | {"phi3_eta05": phi(3, 0.5), "power03": power(0.3)}


def exact_phi(name, l):
    """The paper's noise scales in mpmath."""
    mp = pytest.importorskip("mpmath")
    l = mp.mpf(l)
    return {
        "phi1": lambda: l,
        "phi2": lambda: l**2,
        "phi3": lambda: l * (mp.exp(-1 / l) + 10),
        "phi3_eta05": lambda: l * (mp.exp(-2 / mp.sqrt(l)) + 10),
        "phi4": lambda: l ** mp.mpf("1.5"),
        "phi5": lambda: l ** mp.mpf("2.5"),
        "phi6": lambda: l ** mp.mpf("0.9") * mp.log10(1 + 100 * l ** mp.mpf("1.5")),
        "phi7": lambda: l * (mp.exp(l ** mp.mpf("0.3")) + 10),
        "power03": lambda: l ** mp.mpf("1.3"),
    }[name]()


@functools.cache
def exact_coefficients(name, high, low):
    """r, 1 - r, c1, c2 and the standard deviation of a step, to 30 digits."""
    mp = pytest.importorskip("mpmath")
    with mp.workdps(40):
        high, low = mp.mpf(high), mp.mpf(low)
        length = mp.log(high / low)
        at_low = exact_phi(name, low)

        def integral(power):  # phi_t Int (l - l_s)^power / phi dl, with l = l_t e^u
            def f(u):
                l = low * mp.exp(u)
                return at_low / exact_phi(name, l) * (l - high) ** power * l

            return mp.quad(f, mp.linspace(0, length, 9))

        r = at_low / exact_phi(name, high)
        h = low - high
        variance = max(low**2 - high**2 * r**2, mp.mpf(0))
        values = (r, 1 - r, h + integral(0), h**2 / 2 + integral(1), mp.sqrt(variance))
        return [float(v) for v in values]


def assert_exact_coefficients(name, steps, rtol, noise_atol):
    """Reads r, 1 - r, c1, c2 and the noise out of plans whose last step is (high, low)."""
    grids = jax.vmap(lambda high, low: grid_from_sigmas(jnp.stack([4 * high, 2 * high, high, low])))
    grids = grids(*(jnp.asarray(ends) for ends in zip(*steps)))
    second, third = (
        jax.vmap(functools.partial(er_sde, noise_scale=SCALES[name], order=n))(grids) for n in (2, 3)
    )
    for i, (high, low) in enumerate(steps):
        r, rest, c1, c2, std = exact_coefficients(name, high, low)
        # e^-dk carries the rounding of dk, which shows where r is nothing beside lam_t / lam_s
        np.testing.assert_allclose(second.keep[i, -1], r, rtol=rtol, atol=noise_atol * low / high)
        np.testing.assert_allclose(second.history[i, -1].sum(), rest, rtol=rtol)
        np.testing.assert_allclose(second.history[i, -1, 1] * high, c1, rtol=rtol)  # -c1 d, d = -1 / high
        # 2 c2 e f with e = -1 / (2 high), f = -1 / (3 high)
        np.testing.assert_allclose(third.history[i, -1, 2] * 3 * high**2, c2, rtol=rtol)
        np.testing.assert_allclose(second.noise[i, -1], std, rtol=rtol, atol=noise_atol * low)


def legal_steps(name):
    """Type 6 falls beyond lam = 1022, and the grids start at 4 high."""
    return [(high, low) for high, low in STEPS if not (name == "phi6" and high > 250)]


@pytest.mark.parametrize("name", SCALES)
def test_coefficients_equal_exact_integrals(name, x64):
    # Noise of type 3 at low lam is exp(-1 / lam): nothing at all, whatever its relative error.
    assert_exact_coefficients(name, legal_steps(name), 1e-11, 1e-12)


@pytest.mark.parametrize("name", SCALES)
def test_coefficients_are_right_in_float32(name, strict_dtypes):
    steps = [(float(np.float32(high)), float(np.float32(low))) for high, low in legal_steps(name)]
    assert_exact_coefficients(name, steps, 2e-6, 1e-8)


@pytest.mark.parametrize(
    ("name", "quadrature"), [*((name, "gauss") for name in SCALES), ("phi3", "riemann"), ("phi7", "riemann")]
)
def test_step_to_zero_returns_the_prediction(name, quadrature, strict_dtypes):
    plan = er_sde(karras_grid(10), SCALES[name], quadrature=quadrature, derivative="corrected")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(plan))
    assert plan.keep[-1] == 0
    assert plan.noise[-1] == 0
    np.testing.assert_array_equal(plan.history[-1], [1, 0, 0])


def gaussian_end_error(steps, **options):
    """Relative error of the ODE on N(0, 0.5^2) from lam 20 to 0.05, whose solution is known."""
    data = GaussianMixture(jnp.ones(1), jnp.zeros((1, 1)), jnp.full(1, 0.5))
    plan = er_sde(log_grid(steps, 20.0, 0.05), ode(), **options)
    x = sample(plan, data.denoiser, jnp.ones((1, 1)))
    exact = np.sqrt((0.25 + 0.05**2) / (0.25 + 20.0**2))
    return float(abs(x[0, 0] - exact) / exact)


@pytest.mark.parametrize(
    ("options", "order"),
    [
        pytest.param({"order": 1}, 1.0, id="1"),
        pytest.param({"order": 2}, 2.0, id="2"),
        pytest.param({"order": 3}, 2.0, id="3-published"),
        pytest.param({"order": 3, "derivative": "corrected", "start": "corrector"}, 3.0, id="3-corrected"),
    ],
)
def test_order_of_convergence_on_the_ode(options, order, x64):
    errors = [gaussian_end_error(steps, **options) for steps in (160, 320, 640)]
    slopes = np.log2(np.divide(errors[:-1], errors[1:]))
    np.testing.assert_allclose(slopes, order, atol=0.15)


# Independent values: relative errors at 160 steps, and standard deviations of the whole EDM run.
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
def test_error_on_the_ode_is_the_known_one(options, expected, x64):
    np.testing.assert_allclose(gaussian_end_error(160, **options), expected, rtol=5e-3)


def output_std(plan, std=0.5):
    """Exact standard deviation of the output on N(0, std^2): one unit impulse a source of variance."""
    data = GaussianMixture(jnp.ones(1), jnp.zeros((1, 1)), jnp.full(1, std))
    sources = plan.rows + 1
    impulses = jnp.eye(sources)[..., None]  # [source, sample, 1]: the start, then the noise of each row
    out = sample(plan, data.denoiser, impulses[0], noises=impulses[1:])
    start = plan.alpha[0] ** 2 * std**2 + plan.sigma[0] ** 2
    return float(jnp.sqrt(jnp.sum(out[:, 0] ** 2 * jnp.ones(sources).at[0].set(start))))


@pytest.mark.parametrize(
    ("scale", "options", "expected"),
    [
        (1, {"order": 2}, 0.484338),
        (1, {"order": 3, "derivative": "corrected"}, 0.495441),
        (2, {"order": 1}, 0.378281),
        (2, {"order": 3}, 0.485551),
        (2, {"order": 3, "derivative": "corrected"}, 0.505071),
        (7, {"order": 2, "quadrature": "riemann", "points": 100, "clip": 1e-6}, 0.483016),
        (7, {"order": 3, "quadrature": "riemann", "points": 100, "clip": 1e-6}, 0.486422),
        (7, {"order": 3, "derivative": "corrected"}, 0.495329),
    ],
)
def test_output_std_on_gaussian_data_is_the_known_one(scale, options, expected, x64):
    # Values of an independent covariance recursion, to six digits; 20 steps of EDM's grid.
    assert abs(output_std(er_sde(karras_grid(20), phi(scale), **options)) - expected) < 1e-6


def test_gradients_are_finite_and_right_with_a_last_node_at_zero(x64):
    grid = karras_grid(6)
    data = GaussianMixture(jnp.asarray([0.3, 0.7]), jnp.asarray([[1.0], [-0.5]]), jnp.asarray([0.2, 0.4]))
    noises = jax.random.normal(jax.random.key(0), (6, 3, 1))

    @jax.jit
    def loss(eta, sigma):
        plan = er_sde(grid.replace(sigma=sigma), power(eta), derivative="corrected", start="corrector")
        return jnp.sum(sample(plan, data.denoiser, 80 * jnp.ones((3, 1)), noises=noises) ** 2)

    by_eta, by_sigma = jax.jit(jax.grad(loss, (0, 1)))(0.6, grid.sigma)
    assert np.isfinite(by_sigma).all()
    small = 1e-6
    np.testing.assert_allclose(
        by_eta, (loss(0.6 + small, grid.sigma) - loss(0.6 - small, grid.sigma)) / (2 * small), rtol=1e-6
    )
    moved = jnp.zeros(7).at[3].set(small)
    numeric = (loss(0.6, grid.sigma + moved) - loss(0.6, grid.sigma - moved)) / (2 * small)
    np.testing.assert_allclose(by_sigma[3], numeric, rtol=1e-5)


def test_deterministic_first_step_from_pure_noise_starts_at_the_prediction():
    # alpha = 0: y is infinite and x is all noise, so x_1 = alpha_1 D + sigma_1 / sigma_0 x_0.
    grid = Grid(jnp.arange(4.0)[::-1], jnp.asarray([0.0, 0.3, 0.6, 1.0]), jnp.asarray([1.0, 0.7, 0.4, 0.0]))
    plan = er_sde(grid, ode(), start="corrector")
    np.testing.assert_allclose([plan.keep[0], *plan.history[0]], [0.7, 0.3, 0, 0], rtol=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(plan))
    slope = jax.grad(lambda grid: jnp.sum(er_sde(grid, ode(), start="corrector").history))(grid)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


def test_noisy_first_step_from_pure_noise_is_refused():
    grid = Grid(jnp.arange(3.0)[::-1], jnp.asarray([0.0, 0.5, 1.0]), jnp.asarray([1.0, 0.5, 0.0]))
    with pytest.raises(ValueError, match="first-sigma rule"):
        er_sde(grid, phi(7))


def test_noise_scale_that_is_not_legal_names_the_step():
    with pytest.raises(ValueError, match=r"step 0, from lam 5000 to 3000"):
        er_sde(grid_from_sigmas(jnp.asarray([5000.0, 3000.0, 1500.0])), phi(6))
    hill = NoiseScale(lambda parameters, log_lam: -jnp.square(log_lam - math.log(10)))
    with pytest.raises(ValueError, match=r"step 1, from lam 30 to 10"):
        er_sde(grid_from_sigmas(jnp.asarray([31.0, 30.0, 10.0, 1.0])), NoiseScale(_flat_above_30))
    with pytest.raises(ValueError, match=r"step 0, from lam 100 to 10"):
        er_sde(grid_from_sigmas(jnp.asarray([100.0, 10.0, 1.0])), hill)


def _flat_above_30(parameters, log_lam):
    return -jnp.minimum(log_lam, math.log(30.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 4}, "order must be 1, 2 or 3, got 4"),
        ({"derivative": "exact"}, "derivative must be 'published' or 'corrected'"),
        ({"quadrature": "simpson"}, "quadrature must be"),
        ({"points": 0}, "points must be at least 1"),
        ({"start": "heun"}, "start must be"),
        ({"order": 1, "start": "corrector"}, "take order 2 or 3"),
    ],
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        er_sde(karras_grid(4), **options)
