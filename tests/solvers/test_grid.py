import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.solvers import (
    Grid,
    ddim,
    dpmpp_2m,
    er_sde,
    flow_grid,
    grid_from_sigmas,
    karras_grid,
    log_grid,
    ode,
    vp_cosine_grid,
    vp_grid,
)

# Each maker with all that may be swept or fitted.
MAKERS = {
    "karras": (karras_grid, {"sigma_min": 0.01, "sigma_max": 50.0, "rho": 7.0}),
    "log": (log_grid, {"lam_max": 50.0, "lam_min": 0.02}),
    "vp": (vp_grid, {"beta_min": 0.1, "beta_max": 20.0, "t_max": 1.0, "t_min": 1e-3}),
    "vp_cosine": (vp_cosine_grid, {"offset": 0.008, "t_max": 0.9946, "t_min": 1e-3}),
    "vp_cosine_whole": (vp_cosine_grid, {"offset": 0.008, "t_max": 1.0}),
    "flow": (flow_grid, {"shift": 3.0}),
    "flow_first_sigma": (flow_grid, {"shift": 0.3, "t_max": 0.9999}),
}


@pytest.fixture(params=MAKERS.values(), ids=list(MAKERS))
def maker(request):
    return request.param


@pytest.mark.parametrize("solver", [ddim, er_sde, dpmpp_2m])
def test_grids_of_numpy_lists_and_whole_numbers_make_plans_of_float32(solver):
    for sigmas in (np.array([4.0, 2.0, 1.0]), [4.0, 2.0, 1.0], np.array([4, 2, 1])):
        plan = solver(Grid(sigmas, [1.0, 1.0, 1.0], sigmas))
        for leaf in jax.tree.leaves(plan):
            assert isinstance(leaf, jax.Array)
            assert leaf.dtype == jnp.float32


def test_karras_grid_is_the_one_of_the_golden_files(golden, x64):
    np.testing.assert_allclose(
        karras_grid(10).sigma, golden("er_sde/ve3_phi7_edm10.npz")["sigmas"], rtol=1e-13
    )


def test_log_grid_has_equal_ratios_and_both_ends():
    lam = np.asarray(log_grid(12, 50.0, 0.02).lam)
    assert lam.shape == (13,)
    np.testing.assert_allclose(lam[1:] / lam[:-1], (0.02 / 50.0) ** (1 / 12), rtol=1e-5)
    np.testing.assert_allclose(lam[[0, -1]], [50.0, 0.02], rtol=1e-6)


def test_vp_grid_is_the_one_of_the_authors_runs(x64):
    # Nodes 0, 6 and 12 of the golden file vp3_phi7_vpcont12: numpy in float64, straight from the definition.
    grid = vp_grid(12, final_zero=False)
    nodes = np.array([0, 6, 12])
    np.testing.assert_allclose(grid.time[nodes], [1.0, 0.5005, 0.001], rtol=1e-13)
    lam = [152.16697028394637, 3.422244762572157, 0.010485992786702985]
    np.testing.assert_allclose(grid.lam[nodes], lam, rtol=1e-12)  # theirs loses 12 bits in 1 - alpha^2


@pytest.mark.golden
@pytest.mark.parametrize(
    ("name", "steps", "final_zero"), [("vp3_phi7_vpcont12", 12, False), ("vp1_phi7_vpcontzero8", 8, True)]
)
def test_vp_grid_equals_the_nodes_of_the_golden_files(name, steps, final_zero, full_golden, x64):
    grid = vp_grid(steps, final_zero=final_zero)
    with np.load(full_golden / "er_sde" / f"{name}.npz") as arrays:
        np.testing.assert_allclose(grid.time, arrays["times"], rtol=1e-13)
        np.testing.assert_allclose(grid.alpha, arrays["alphas"], rtol=1e-13)
        np.testing.assert_allclose(grid.sigma, arrays["sigmas"], rtol=1e-12)


def test_vp_cosine_grid_holds_the_discrete_cosine_schedule(x64):
    # alpha of the golden file vp3_phi2_cosine10, from a product of betas: time i of 1000 is t = (i + 1) / 1000, and
    # times 909, 818, ..., 90 are evenly spaced. The cap of the betas lies above.
    grid = vp_cosine_grid(9, t_max=0.91, t_min=0.091, final_zero=False)
    alpha = [0.13980120314015237, 0.27835423089479533, 0.41131906571473636, 0.5360263278383811]
    np.testing.assert_allclose(grid.alpha[:4], alpha, rtol=1e-12)
    np.testing.assert_allclose(grid.alpha[-1], 0.9882000426841266, rtol=1e-12)
    np.testing.assert_allclose(grid.sigma[-1], 0.15316878154209615, rtol=1e-12)


def test_flow_grid_is_the_one_of_comfy(x64):
    # sigmas_in of the golden file comfy_flow_ersde: shift 3, 12 steps
    expected = [1.0, 33 / 34, 0.9375, 0.9, 6 / 7, 21 / 26, 0.75, 15 / 22, 0.6, 0.5, 0.375, 3 / 14, 0.0]
    grid = flow_grid(12, 3.0)
    np.testing.assert_allclose(grid.sigma, expected, rtol=1e-14)
    np.testing.assert_allclose(grid.alpha + grid.sigma, 1, rtol=1e-15)
    np.testing.assert_array_equal(grid.time, grid.sigma)


def test_flow_grid_begins_by_the_first_sigma_rule_in_float32():
    # 29997 is exact, and 1 - 0.9999 in float32 would be off by 1e-4
    np.testing.assert_allclose(flow_grid(12, 3.0, t_max=0.9999).lam[0], 29997.0, rtol=1e-6)


def test_a_grid_may_begin_where_only_noise_is_left():
    for grid in (flow_grid(4), vp_cosine_grid(4, t_max=1.0)):
        assert grid.alpha[0] == 0
        assert grid.sigma[0] == 1
        assert np.isinf(grid.lam[0])
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(er_sde(grid, ode())))
        with pytest.raises(ValueError, match="first-sigma rule"):
            er_sde(grid)


@pytest.mark.parametrize("make", [vp_grid, vp_cosine_grid], ids=["vp", "vp_cosine"])
def test_vp_grids_keep_the_variance(make):
    grid = make(50)
    np.testing.assert_allclose(grid.alpha**2 + grid.sigma**2, 1, rtol=4e-7)


@pytest.mark.parametrize("make", [karras_grid, vp_grid, vp_cosine_grid], ids=["karras", "vp", "vp_cosine"])
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_a_final_zero_takes_the_place_of_the_last_interval(make, steps):
    closed = make(steps)
    assert closed.lam.shape == (steps + 1,)
    assert (closed.time[-1], closed.alpha[-1], closed.sigma[-1]) == (0, 1, 0)
    inner = jax.tree.map(lambda leaf: leaf[:-1], closed)
    if steps == 1:
        np.testing.assert_array_equal(inner.lam, make(1, final_zero=False).lam[:1])
    else:
        jax.tree.map(np.testing.assert_array_equal, inner, make(steps - 1, final_zero=False))


def test_float32_nodes_are_those_of_float64(maker, strict_dtypes):
    # 500 nodes: no digit is lost in a difference; powers and exponentials of numbers near 10 cost some ulp.
    make, parameters = maker
    single = make(500, **parameters)
    with jax.enable_x64(True):
        double = jax.tree.map(np.asarray, make(500, **parameters))
    for ours, exact in zip(jax.tree.leaves(single), jax.tree.leaves(double)):
        assert (ours.dtype, exact.dtype) == (jnp.float32, np.float64)
        np.testing.assert_allclose(ours, exact, rtol=2e-6)
    lam = np.divide(double.sigma, double.alpha, out=np.full(501, np.inf), where=double.alpha > 0)
    np.testing.assert_allclose(single.lam, lam, rtol=2e-6)


def test_gradients_in_all_parameters_are_finite_differences(maker, x64, strict_dtypes):
    make, parameters = maker

    def summary(parameters):
        grid = make(6, **parameters)
        return jnp.sum(grid.lam[1:]) + jnp.sum(grid.time + 2 * grid.alpha + 3 * grid.sigma)

    slopes = jax.grad(summary)(parameters)
    for name, value in parameters.items():
        step = 1e-6 * value
        low = summary(parameters | {name: value - step})
        if value == 1.0:  # the end of its range: one-sided, first order in the step
            difference, rtol = (summary(parameters) - low) / step, 1e-3
        else:
            difference, rtol = (summary(parameters | {name: value + step}) - low) / (2 * step), 1e-5
        np.testing.assert_allclose(slopes[name], difference, rtol=rtol, err_msg=name)


def test_a_grid_made_under_jit_or_vmap_is_the_same(maker, strict_dtypes):
    make, parameters = maker
    plain = make(6, **parameters)
    many = jax.tree.map(lambda value: jnp.full(2, value), parameters)
    jitted = jax.jit(lambda parameters: make(6, **parameters))(parameters)
    mapped = jax.tree.map(lambda leaf: leaf[1], jax.vmap(lambda parameters: make(6, **parameters))(many))
    # 1 - t_max has 4 digits where t_max = 0.9999 is a float32 and not a Python number
    rtol = 1e-3 if 0.5 < parameters.get("t_max", 0) < 1 else 2e-6
    for made in zip(jax.tree.leaves(plain), jax.tree.leaves(jitted), jax.tree.leaves(mapped)):
        np.testing.assert_allclose(made[1], made[0], rtol=rtol, atol=1e-7)
        np.testing.assert_allclose(made[2], made[0], rtol=rtol, atol=1e-7)


def test_whole_numbers_and_numpy_scalars_are_parameters_too(strict_dtypes):
    same = [
        karras_grid(4, 1, 80),
        karras_grid(4, np.float64(1), np.int32(80), 7),
        karras_grid(4, 1.0, jnp.float32(80)),
    ]
    for grid in same:
        assert grid.sigma.dtype == jnp.float32
        np.testing.assert_allclose(grid.sigma, same[0].sigma, rtol=1e-6)
    assert grid_from_sigmas(np.array([3, 1, 0])).sigma.dtype == jnp.float32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: karras_grid(0), "steps must be at least 1, got 0"),
        (
            lambda: karras_grid(9, 80.0, 0.002),
            r"expected 0 < sigma_min < sigma_max < inf, got sigma_min = 80.0",
        ),
        (lambda: karras_grid(9, 0.0), "0 < sigma_min"),
        (lambda: karras_grid(9, sigma_max=float("nan")), "sigma_max = nan"),
        (lambda: karras_grid(9, rho=0), "0 < rho < inf, got rho = 0"),
        (lambda: log_grid(9, 0.1, 0.1), "0 < lam_min < lam_max < inf"),
        (lambda: log_grid(9, float("inf"), 0.1), "lam_max = inf"),
        (lambda: vp_grid(9, 20.0, 0.1), "0 < beta_min < beta_max < inf"),
        (lambda: vp_grid(9, t_min=1.0), "0 < t_min < t_max < inf"),
        (lambda: vp_grid(-1), "steps must be at least 1"),
        (lambda: vp_cosine_grid(9, t_max=1.1), "0 < t_min < t_max <= 1"),
        (lambda: vp_cosine_grid(9, -0.1), "0 < offset < inf"),
        (lambda: flow_grid(9, 0.0), "0 < shift < inf, got shift = 0.0"),
        (lambda: flow_grid(9, jnp.float32(jnp.nan)), "shift = nan"),
        (lambda: flow_grid(9, t_max=1000.0), "0 < t_max <= 1, got t_max = 1000.0"),
        (lambda: flow_grid(0), "steps must be at least 1"),
    ],
)
def test_makers_refuse_parameters_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def ve(*sigmas):
    return grid_from_sigmas(np.array(sigmas))


def nodes(time, alpha, sigma):
    return Grid(time, alpha, sigma)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (ve(3.0, 1.0, 1.0), "got 1.0 at node 1 and 1.0 at node 2. Drop repeated nodes"),
        (ve(3.0, 0.0, 0.0), "Drop repeated nodes"),
        (ve(1.0, 3.0), "got 1.0 at node 0 and 3.0 at node 1. Nodes are given noisy first"),
        (ve(3.0, -1.0), "sigma must be finite and not negative, got -1.0 at node 1"),
        (
            ve(3.0, float("nan"), 1.0),
            "sigma must be finite and not negative, got nan at node 1",
        ),
        (ve(float("inf"), 1.0), "sigma must be finite and not negative, got inf at node 0"),
        (ve(1.0), "at least 2"),
        (
            nodes(np.zeros(2), np.array([-0.5, -1.0]), np.array([-1.0, -0.5])),
            "alpha must be .* got -0.5 at node 0",
        ),
        (
            nodes(np.zeros(2), np.array([0.5, np.nan]), np.array([1.0, 0.5])),
            "alpha must be .* got nan at node 1",
        ),
        (
            nodes(np.zeros(3), np.array([0.5, 0.0, 1.0]), np.array([0.5, 1.0, 0.0])),
            "alpha = 0 with sigma = 1.0 at node 1. Only the first node",
        ),
        (
            nodes(np.zeros(2), np.array([0.0, 1.0]), np.zeros(2)),
            "alpha = 0 with sigma = 0.0 at node 0.* sigma > 0",
        ),
        (nodes(np.zeros(2), np.ones(3), np.ones(3)), "same length"),
        (nodes(np.zeros((2, 2)), np.ones((2, 2)), np.ones((2, 2))), "three arrays"),
        # two nodes in float64, one in the float32 that solvers compute in
        (nodes(np.zeros(2), np.ones(2), np.array([1 + 1e-12, 1.0])), "Drop repeated nodes"),
    ],
    ids=[
        *("repeated", "repeated-zero", "rising", "negative", "nan", "infinite", "one-node", "alpha-negative"),
        *("alpha-nan", "alpha-zero-inside", "nothing-at-all", "lengths", "two-axes", "equal-in-float32"),
    ],
)
def test_solvers_refuse_a_grid_that_does_not_fall(grid, message):
    with pytest.raises(ValueError, match=message):
        er_sde(grid)
