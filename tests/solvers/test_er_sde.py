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
    er_sde_comfy,
    er_sde_official,
    from_epsilon,
    grid_from_sigmas,
    karras_grid,
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


def comfy_runs(arrays):
    """Orders 1 to 3 of the ComfyUI preset on the schedule of a golden file."""
    sigma = jnp.asarray(arrays["sigmas_in"])
    alpha = jnp.ones_like(sigma) if str(arrays["kind"]) == "ve" else 1 - sigma
    mixture = GaussianMixture(*(jnp.asarray(arrays[f"mix_{name}"]) for name in ("weights", "means", "stds")))
    for stage in arrays["max_stages"]:
        plan = er_sde_comfy(
            Grid(sigma, alpha, sigma),
            int(stage),
            str(arrays["solver"]),
            float(arrays["eta"]),
            float(arrays["s_noise"]),
            shift=float(arrays["shift"]),
        )
        x, noises = (jnp.asarray(arrays[name]) for name in ("x_init", "noises"))
        yield plan, sample(plan, mixture.denoiser, x, noises=noises, trajectory=True)


def assert_equal_to_comfy(arrays):
    for stage, (plan, (output, states, predictions)) in enumerate(comfy_runs(arrays)):
        np.testing.assert_allclose(plan.sigma, arrays["sigmas"], rtol=0, atol=1e-13)
        for ours, theirs in ((output, "output"), (states, "xs"), (predictions, "x0s")):
            np.testing.assert_allclose(ours, arrays[theirs][stage], rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", ["comfy_flow_ersde", "comfy_ve_rsde_eta070"])
def test_comfy_preset_equals_comfyui(name, golden, x64, strict_dtypes):
    assert_equal_to_comfy(golden(f"er_sde/{name}.npz"))


@pytest.mark.golden
def test_comfy_preset_equals_comfyui_on_all_files(full_golden, x64):
    files = sorted((full_golden / "er_sde").glob("comfy_*.npz"))
    assert len(files) == 4
    for file in files:
        with np.load(file) as arrays:
            assert_equal_to_comfy(dict(arrays))


@pytest.mark.parametrize("name", ["comfy_flow_ersde", "comfy_ve_rsde_eta070"])
def test_comfy_preset_in_float32(name, golden, strict_dtypes):
    arrays = golden(f"er_sde/{name}.npz")
    for stage, (_, (output, _, _)) in enumerate(comfy_runs(arrays)):
        np.testing.assert_allclose(output, arrays["output"][stage], rtol=0, atol=1e-5)


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


def assert_exact_coefficients(name, steps, rtol):
    """Reads r, 1 - r, c1, c2 and the noise out of plans whose last step is (high, low)."""
    grids = jax.vmap(lambda high, low: grid_from_sigmas(jnp.stack([4 * high, 2 * high, high, low])))
    grids = grids(*(jnp.asarray(ends) for ends in zip(*steps)))
    second, third = (
        jax.vmap(functools.partial(er_sde, noise_scale=SCALES[name], order=n))(grids) for n in (2, 3)
    )
    for i, (high, low) in enumerate(steps):
        r, rest, c1, c2, std = exact_coefficients(name, high, low)
        np.testing.assert_allclose(second.keep[i, -1], r, rtol=rtol)
        np.testing.assert_allclose(second.history[i, -1].sum(), rest, rtol=rtol)
        np.testing.assert_allclose(second.history[i, -1, 1] * high, c1, rtol=rtol)  # -c1 d, d = -1 / high
        # 2 c2 e f with e = -1 / (2 high), f = -1 / (3 high)
        np.testing.assert_allclose(third.history[i, -1, 2] * 3 * high**2, c2, rtol=rtol)
        if std > 1e-6 * low:
            np.testing.assert_allclose(second.noise[i, -1], std, rtol=rtol)
        else:  # type 3 at low lam: exp(-1 / lam), no noise at all whatever its relative error
            assert 0 <= second.noise[i, -1] <= 2e-6 * low


def legal_steps(name):
    """Type 6 falls beyond lam = 1022, and the grids start at 4 high."""
    return [(high, low) for high, low in STEPS if not (name == "phi6" and high > 250)]


@pytest.mark.parametrize("name", SCALES)
def test_coefficients_equal_exact_integrals(name, x64):
    assert_exact_coefficients(name, legal_steps(name), 1e-11)


@pytest.mark.parametrize("name", SCALES)
def test_coefficients_are_right_in_float32(name, strict_dtypes):
    steps = [(float(np.float32(high)), float(np.float32(low))) for high, low in legal_steps(name)]
    assert_exact_coefficients(name, steps, 2e-6)


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("name", SCALES)
def test_steps_over_seven_decades_to_zero_are_finite(name, order, strict_dtypes):
    top = 1000.0 if name == "phi6" else 2e4
    grid = grid_from_sigmas(jnp.asarray([top, 20.0, 0.05, 2e-3, 0.0]))
    for plan in (
        er_sde(grid, SCALES[name], order),
        er_sde(grid_from_sigmas(grid.sigma[jnp.asarray([0, 4])]), SCALES[name], order),
    ):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(plan))
        np.testing.assert_array_equal(plan.history[-1], jnp.zeros(order).at[0].set(1))


@pytest.mark.parametrize("name", ["phi1", "phi2", "phi7"])
def test_coefficients_in_log_lam_equal_exact_integrals(name, x64):
    # phi_t Int phi' / phi^2 log(l / lam_s)^k dl / k!, k = 1 and 2, read out of the last step of a plan.
    mp = pytest.importorskip("mpmath")
    steps = [(80.0, 42.4), (0.0204, 0.002)]
    grids = [grid_from_sigmas(jnp.asarray([4 * high, 2 * high, high, low])) for high, low in steps]
    for (high, low), grid in zip(steps, grids):
        with mp.workdps(30):
            at_low = exact_phi(name, low)

            def integral(power, at_low=at_low, high=high, low=low):
                def f(u):
                    l = low * mp.exp(u)
                    slope = mp.diff(lambda x: exact_phi(name, x), l)
                    return at_low * slope / exact_phi(name, l) ** 2 * mp.log(l / high) ** power * l

                return float(mp.quad(f, mp.linspace(0, mp.log(mp.mpf(high) / low), 5)) / power)

            c1, c2 = integral(1), integral(2)
        second, third = (er_sde(grid, SCALES[name], n, basis="log_lam") for n in (2, 3))
        gap = np.log(2)
        np.testing.assert_allclose(second.history[-1, 1] * gap, c1, rtol=1e-11)  # -c1 / -gap
        np.testing.assert_allclose(third.history[-1, 2] * gap**2, c2, rtol=1e-11)  # 2 c2 / (gap 2 gap)


@pytest.mark.parametrize(
    ("name", "quadrature"), [*((name, "gauss") for name in SCALES), ("phi3", "riemann"), ("phi7", "riemann")]
)
def test_step_to_zero_returns_the_prediction(name, quadrature, strict_dtypes):
    plan = er_sde(karras_grid(10), SCALES[name], quadrature=quadrature, derivative="corrected")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(plan))
    assert plan.keep[-1] == 0
    assert plan.noise[-1] == 0
    np.testing.assert_array_equal(plan.history[-1], [1, 0, 0])


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


def test_noise_scale_that_is_not_legal_names_the_step():
    hill = NoiseScale(lambda parameters, log_lam: -jnp.square(log_lam - math.log(10)))
    with pytest.raises(ValueError, match=r"step 1, from lam 30 to 10"):
        er_sde(grid_from_sigmas(jnp.asarray([31.0, 30.0, 10.0, 1.0])), NoiseScale(_flat_above_30))
    with pytest.raises(ValueError, match=r"step 0, from lam 100 to 10"):
        er_sde(grid_from_sigmas(jnp.asarray([100.0, 10.0, 1.0])), hill)


def _flat_above_30(parameters, log_lam):
    return -jnp.minimum(log_lam, math.log(30.0))
