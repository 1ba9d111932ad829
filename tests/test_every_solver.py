"""Properties that every solver has, and that all of the package can be exported; a new solver is a line in SOLVERS."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil import solvers
from jaxcil.solvers import (
    GaussianMixture,
    Grid,
    Node,
    ancestral,
    beta_grid,
    beta_nodes,
    beta_schedule,
    ddim,
    dpmpp_2m,
    er_sde,
    er_sde_comfy,
    er_sde_official,
    euler_maruyama,
    flow_grid,
    heun,
    karras_grid,
    log_grid,
    ode,
    phi,
    power,
    prior,
    sample,
    sde_dpmpp_2m,
    strength,
)

SOLVERS = {
    "er_sde_1": partial(er_sde, order=1),
    "er_sde_2": partial(er_sde, order=2),
    "er_sde_3": er_sde,
    "er_sde_3_corrected": partial(er_sde, derivative="corrected", start="corrector"),
    "er_sde_ode": partial(er_sde, noise_scale=ode(), derivative="corrected"),
    "er_sde_power": partial(er_sde, noise_scale=power(0.4), order=2),
    "er_sde_strength": partial(er_sde, noise_scale=strength(phi(7), 0.3), basis="log_lam"),
    "er_sde_riemann": partial(er_sde, noise_scale=phi(3), quadrature="riemann", points=100),
    "er_sde_official": partial(er_sde_official, phi_type=7, order=3),
    "er_sde_comfy": er_sde_comfy,
    "ddim": ddim,
    "ddim_eta": partial(ddim, eta=0.3),
    "ancestral": ancestral,
    "ancestral_capped": partial(ancestral, eta=1.5),
    "euler_maruyama": partial(euler_maruyama, noise_scale=phi(7)),
    "dpmpp_2m": dpmpp_2m,
    "sde_dpmpp_2m": sde_dpmpp_2m,
    "sde_dpmpp_2m_heun": partial(sde_dpmpp_2m, eta=0.5, solver_type="heun"),
    "heun": heun,
    "heun_churned": partial(heun, churn=3.0),
}
WITHOUT_NOISE = ["er_sde_ode", "ddim", "dpmpp_2m", "heun"]
HEUN = {"heun", "heun_churned"}
BETAS = beta_schedule("scaled_linear", 1000, 0.00085, 0.012)
NODES = partial(beta_nodes, BETAS)
STEPS = 8  # of every grid, so that a solver is compiled once for all of them
GRIDS = {
    "edm": lambda: karras_grid(STEPS),
    "log": lambda: log_grid(STEPS, 20.0, 0.05),
    "vp": lambda: beta_grid(BETAS, STEPS, steps_offset=1, final="sigma_min"),
    "flow": lambda: flow_grid(STEPS, 3.0),
}
NOISY_STARTS = ["edm", "log", "vp"]  # the first node of the flow grid has alpha = 0

pytestmark = pytest.mark.usefixtures("strict_dtypes")
every_solver = pytest.mark.parametrize("name", SOLVERS)
every_grid = pytest.mark.parametrize("kind", NOISY_STARTS)


def settings(name, kind):
    """What Heun alone must be told: where a traced grid ends, and the network's time at raised noise levels."""
    if name not in HEUN:
        return ()
    return (("at", NODES if kind == "vp" else None), ("final_zero", kind in ("edm", "flow")))


def weighted_plan(grid, name, settings):
    """One number of all coefficients, each with another weight, and the plan."""
    plan = SOLVERS[name](grid, **dict(settings))
    leaves = jax.tree.leaves(plan)
    return sum(
        jnp.vdot(jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)), leaf.ravel()) for leaf in leaves
    ), plan


compiled = jax.jit(weighted_plan, static_argnums=(1, 2))
# A plan and its slope come from one program
compiled_with_slope = jax.jit(jax.value_and_grad(weighted_plan, has_aux=True), static_argnums=(1, 2))


def plan_of(name, kind):
    return compiled_with_slope(GRIDS[kind](), name, settings(name, kind))[0][1]


def in_float64(grid):
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float64)), grid)


@every_solver
@every_grid
def test_plan_is_finite_and_in_the_grid_s_dtype(name, kind):
    plan = plan_of(name, kind)
    rows = STEPS if name not in HEUN else 2 * STEPS - 1 if kind == "edm" else 2 * STEPS
    assert plan.rows == rows
    assert plan.keep.shape == plan.noise.shape == (rows,)
    assert plan.history.shape[0] == rows
    assert plan.time.shape == plan.alpha.shape == plan.sigma.shape == (rows + 1,)
    for leaf in jax.tree.leaves(plan):
        assert leaf.dtype == jnp.float32
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize("name", WITHOUT_NOISE)
def test_plan_from_pure_noise_is_finite(name):
    plan = plan_of(name, "flow")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(plan))
    assert not plan.noise.any()


# Euler-Maruyama does not integrate the linear part exactly.
@pytest.mark.parametrize("name", [name for name in SOLVERS if name != "euler_maruyama"])
@every_grid
def test_marginal_of_a_point_mass_is_kept(name, kind):
    # With D = mu exact, x_i ~ N(alpha_i mu, sigma_i^2): an identity of each row, to float32 rounding. It holds for
    # the rows of Heun too, since correctors see the same D twice and churn goes from one noise level to another.
    plan = plan_of(name, kind)
    mean = plan.keep * plan.alpha[:-1] + plan.history.sum(1)
    np.testing.assert_allclose(mean, plan.alpha[1:], rtol=2e-5)
    variance = (plan.keep * plan.sigma[:-1]) ** 2 + plan.noise**2
    # the authors' preset drops variances below 1e-6
    atol = 2e-6 if name == "er_sde_official" else 0
    np.testing.assert_allclose(variance, plan.sigma[1:] ** 2, rtol=2e-5, atol=atol)


@every_solver
def test_last_node_at_zero_returns_the_prediction(name):
    plan = plan_of(name, "edm")
    assert plan.keep[-1] == plan.noise[-1] == 0
    np.testing.assert_array_equal(plan.history[-1], np.eye(plan.history.shape[1])[0])


@every_solver
def test_plan_made_without_jit_is_the_same(name):
    # Float32 coefficients of order one; the compiler may fuse and reorder.
    plan = SOLVERS[name](GRIDS["edm"]())
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), plan, plan_of(name, "edm")
    )


@every_solver
@every_grid
def test_float32_plan_is_close_to_the_float64_plan(name, kind):
    single = plan_of(name, kind)
    with jax.enable_x64(True):
        _, double = compiled(in_float64(GRIDS[kind]()), name, settings(name, kind))
    for field in ("keep", "history", "noise"):
        np.testing.assert_allclose(
            getattr(single, field), getattr(double, field), rtol=2e-6, atol=1e-7, err_msg=field
        )


@every_solver
def test_gradient_by_the_grid_is_finite_and_right(name):
    for kind in [*NOISY_STARTS, *(["flow"] if name in WITHOUT_NOISE else [])]:
        grid = GRIDS[kind]()
        _, slope = compiled_with_slope(grid, name, settings(name, kind))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope)), kind
        # the slope along one direction, against differences of float64 plans; a few float32 roundings of its terms
        direction = np.asarray(grid.sigma, np.float64) * np.sin(np.arange(STEPS + 1))
        with jax.enable_x64(True):
            wide = in_float64(grid)
            up, down = (
                float(compiled(wide.replace(sigma=wide.sigma + move), name, settings(name, kind))[0])
                for move in (1e-6 * direction, -1e-6 * direction)
            )
        terms = np.asarray(slope.sigma) * direction
        assert abs(terms.sum() - (up - down) / 2e-6) < 1e-4 * abs(terms).sum(), kind


def test_whole_run_under_jit_is_the_same(mixture):
    key = jax.random.key(0)

    def run(grid, key):
        plan = er_sde(grid)
        return sample(plan, mixture.denoiser, prior(plan, key, (4, 2)), key)

    grid = GRIDS["vp"]()
    np.testing.assert_allclose(jax.jit(run)(grid, key), run(grid, key), rtol=1e-5, atol=1e-6)


def test_a_sweep_over_a_leaf_equals_a_loop(mixture):
    etas = jnp.asarray([0.1, 0.7, 1.0])
    grid = GRIDS["edm"]()

    def run(eta):
        plan = er_sde(grid, power(eta))
        return sample(plan, mixture.denoiser, prior(plan, jax.random.key(0), (3, 2)), jax.random.key(0))

    looped = jnp.stack([run(eta) for eta in etas])
    np.testing.assert_allclose(jax.vmap(run)(etas), looped, rtol=1e-5, atol=1e-5)


@pytest.fixture
def mixture():
    return GaussianMixture(
        jnp.asarray([0.4, 0.6]), jnp.asarray([[1.0, -1.0], [0.5, 2.0]]), jnp.asarray([0.3, 0.5])
    )


def network(x, node):
    return jnp.tanh(x) * node.alpha


def at_node(transform):
    """A denoiser called at a node with traced entries."""
    return lambda x, number, key: transform(number)(x, Node(number, 0.6 * number, 0.8 * number))


def excess(make):
    return lambda x, number, key: make(number).excess(x)


def run(x, number, key):
    plan = er_sde(karras_grid(STEPS), power(number))
    return sample(plan, network, prior(plan, key, x.shape), key)


def own_loop(x, number, key):
    plan = ddim(karras_grid(STEPS), number)
    state = solvers.init(plan, x)
    return jax.lax.fori_loop(0, plan.rows, lambda i, state: solvers.step(plan, i, state, network, x), state)


# Functions of x [4, 2], a number in (0, 1) and a key, each around one public function (or the few it needs).
EXPORTS = {
    "grid_from_sigmas": lambda x, number, key: solvers.grid_from_sigmas(number * jnp.asarray([1.0, 0.5])),
    "karras_grid": lambda x, number, key: karras_grid(STEPS, number),
    "log_grid": lambda x, number, key: log_grid(STEPS, 20.0, number),
    "vp_grid": lambda x, number, key: solvers.vp_grid(STEPS, t_max=number),
    "vp_cosine_grid": lambda x, number, key: solvers.vp_cosine_grid(STEPS, t_max=number),
    "flow_grid": lambda x, number, key: flow_grid(STEPS, number),
    "beta_nodes": lambda x, number, key: beta_nodes(BETAS, number * jnp.asarray([1.0, 0.5])),
    "ode": excess(lambda number: ode()),
    "phi": excess(lambda number: phi(3, number)),
    "phi_7": excess(lambda number: phi(7)),
    "power": excess(power),
    "strength": excess(lambda number: strength(phi(6), number)),
    "product": excess(lambda number: solvers.product(phi(7), power(number))),
    "from_epsilon": at_node(lambda number: solvers.from_epsilon(network)),
    "from_score": at_node(lambda number: solvers.from_score(network)),
    "from_v": at_node(lambda number: solvers.from_v(network)),
    "from_flow": at_node(lambda number: solvers.from_flow(network)),
    "classifier_free": at_node(
        lambda number: solvers.classifier_free(network, lambda x, node: x, number, (0.1, 5.0), number)
    ),
    "classifier_guided": at_node(
        lambda number: solvers.classifier_guided(network, lambda x, node: -jnp.sum(x**2, 1), number)
    ),
    "clipped": at_node(lambda number: solvers.clipped(network)),
    "dynamic_threshold": at_node(lambda number: solvers.dynamic_threshold(network, number)),
    "stack": lambda x, number, key: solvers.stack(
        [ddim(karras_grid(STEPS), number), dpmpp_2m(karras_grid(STEPS))]
    ),
    "pad": lambda x, number, key: solvers.pad(ddim(karras_grid(STEPS), number), STEPS + 2),
    "prior": lambda x, number, key: prior(ddim(karras_grid(STEPS), number), key, x.shape),
    "sample": run,
    "init": own_loop,
    "step": own_loop,
}
# Computed on the host, before anything is compiled.
ON_THE_HOST = {"beta_grid", "beta_schedule", "scheduler_betas", "scheduler_grid", "zero_terminal_snr"}


def export(function, *arguments):
    """Lowers a function of arrays to arrays for all platforms, which needs none of their devices."""
    flat = jax.jit(lambda *arguments: tuple(jax.tree.leaves(function(*arguments))))
    exported = jax.export.export(flat, platforms=("cpu", "cuda", "tpu"))(*arguments)
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert len(exported.mlir_module_serialized) > 0


@every_solver
def test_plan_exports_for_all_platforms(name):
    known = dict(settings(name, "edm"))
    export(
        lambda *leaves: SOLVERS[name](Grid(*leaves), **known),
        *(jax.ShapeDtypeStruct((STEPS + 1,), jnp.float32) for _ in range(3)),
    )


@pytest.mark.parametrize("name", EXPORTS)
def test_the_rest_of_the_package_exports_for_all_platforms(name):
    export(
        lambda x, number, data: EXPORTS[name](x, number, jax.random.wrap_key_data(data)),
        jax.ShapeDtypeStruct((4, 2), jnp.float32),
        jax.ShapeDtypeStruct((), jnp.float32),
        jax.ShapeDtypeStruct((2,), jnp.uint32),
    )


def test_every_public_function_is_exported():
    public = {name for name, value in vars(solvers).items() if inspect.isfunction(value)}
    tested = {getattr(solver, "func", solver).__name__ for solver in SOLVERS.values()}
    assert public - tested - set(EXPORTS) == ON_THE_HOST
