import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jaxcil.solvers import GaussianMixture, er_sde, karras_grid, phi, power, prior, product, sample, strength
from jaxcil.solvers.calibrate import calibrate

STD = 0.5


def variance_error(parameters, key):
    """The squared error of the output's standard deviation on N(0, STD^2), exact: no draw is made.

    Every plan is linear there: one unit impulse for the start and one for the noise of each row.
    """
    plan = er_sde(karras_grid(20), power(parameters["eta"]), derivative="corrected")
    data = GaussianMixture(jnp.ones(1), jnp.zeros((1, 1)), jnp.full(1, STD))
    impulses = jnp.eye(plan.rows + 1)[..., None]
    out = sample(plan, data.denoiser, impulses[0], noises=impulses[1:])[:, 0]
    weights = jnp.ones(plan.rows + 1).at[0].set(STD**2 + plan.sigma[0] ** 2)
    return (jnp.sqrt(jnp.sum(out**2 * weights)) - STD) ** 2


def spread_of_a_mixture(parameters, key):
    """A loss that draws samples: of few calls on two points, whose second moment is 1."""
    grid = karras_grid(4, rho=parameters["rho"])
    plan = er_sde(grid, product(strength(phi(7), parameters["s"]), power(parameters["eta"])))
    data = GaussianMixture(jnp.full(2, 0.5), jnp.asarray([[-1.0], [1.0]]), jnp.full(2, 0.1))
    x = sample(plan, data.denoiser, prior(plan, key, (32, 1)), key)
    return (jnp.mean(x**2) - 1) ** 2 + jnp.mean(x**4)


START = {"s": 1.3, "eta": 0.2, "rho": 6.0}


def test_forward_gradient_is_that_of_finite_differences(x64):
    # Central differences in float64 at h = 1e-5: errors of 1e-10 from their order and from rounding.
    key = jax.random.key(0)
    loss = jax.jit(spread_of_a_mixture)
    start = jax.tree.map(jnp.asarray, START)
    gradient = jax.jacfwd(loss)(start, key)
    for name, value in START.items():
        up, down = (loss(start | {name: jnp.asarray(value + h)}, key) for h in (1e-5, -1e-5))
        np.testing.assert_allclose(gradient[name], (up - down) / 2e-5, rtol=1e-6, atol=1e-8)


def test_fit_on_gaussian_data_finds_the_optimum_of_a_grid_search(x64):
    # The loss has its zero where the spread lost by few steps is made up for by noise.
    etas = np.linspace(0.02, 1.0, 981)
    errors = jax.jit(jax.vmap(lambda eta: variance_error({"eta": eta}, None)))(jnp.asarray(etas))
    best = etas[np.argmin(errors)]
    assert 0.1 < best < 0.9
    fit = calibrate(variance_error, {"eta": 0.05}, jax.random.key(0), steps=150, learning_rate=0.2)
    np.testing.assert_allclose(fit.parameters["eta"], best, atol=1e-3)  # the grid's spacing
    assert fit.losses[-1] < 1e-6 * fit.losses[0]


def test_same_key_gives_the_same_fit_and_another_key_another():
    fits = [
        calibrate(spread_of_a_mixture, START, jax.random.key(seed), steps=3, learning_rate=0.1)
        for seed in (0, 0, 1)
    ]
    assert fits[0].losses.shape == (3,)
    jax.tree.map(np.testing.assert_array_equal, fits[0], fits[1])
    assert not np.any(np.isclose(fits[0].losses, fits[2].losses, rtol=1e-3))
    assert len(set(np.asarray(fits[0].losses).tolist())) == 3  # a fresh draw every step


def test_parameters_stay_positive_whatever_the_gradient_asks():
    fit = calibrate(
        lambda p, key: jnp.sum(p["eta"]) * 1e3,
        {"eta": jnp.asarray([0.1, 2.0])},
        jax.random.key(0),
        steps=20,
        learning_rate=3.0,
    )
    assert np.all(np.asarray(fit.parameters["eta"]) > 0)
    assert np.all(np.asarray(fit.parameters["eta"]) < [0.01, 0.2])  # a plain step would have gone below 0


def test_progress_is_told_after_every_step():
    told = []
    fit = calibrate(
        lambda p, key: (p - 2) ** 2,
        1.0,
        jax.random.key(0),
        steps=4,
        learning_rate=0.1,
        notify=lambda done, loss: told.append((done, loss)),
    )
    assert told == [(n + 1, float(loss)) for n, loss in enumerate(fit.losses)]


def test_arrays_of_a_partial_loss_are_no_constants_of_the_program():
    traces = []

    def loss(target, p, key):
        traces.append(1)
        return (p - target) ** 2

    ends = [
        calibrate(
            Partial(loss, jnp.asarray(target)), 1.0, jax.random.key(0), steps=200, learning_rate=0.2
        ).parameters
        for target in (2.0, 3.0)
    ]
    np.testing.assert_allclose(ends, [2.0, 3.0], rtol=1e-2)
    assert len(traces) == 1


def test_a_loss_that_is_no_number_is_reported_with_its_step():
    def loss(p, key):
        return jnp.sqrt(1.05 - p)  # falls as p grows, up to where it ends

    with pytest.raises(FloatingPointError, match=r"at step \d+ the loss is nan"):
        calibrate(loss, 1.0, jax.random.key(0), steps=10, learning_rate=0.1)


def test_an_infinite_gradient_is_reported():
    with pytest.raises(FloatingPointError, match=r"at step 0 the loss is 0\.0 and its gradient"):
        calibrate(lambda p, key: jnp.sqrt(p - p), 1.0, jax.random.key(0), steps=1, learning_rate=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters": {"eta": 0.0}}, "must be positive, got {'eta': 0.0}"),
        ({"parameters": {}}, "nothing to fit"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be positive and finite, got 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive and finite"),
    ],
    ids=["zero", "none", "steps", "rate", "nan"],
)
def test_settings_of_no_use_are_refused_before_anything_compiles(changes, message):
    def loss(p, key):
        raise AssertionError("not to be traced")

    arguments = {"parameters": {"eta": 0.1}, "steps": 1, "learning_rate": 0.1} | changes
    with pytest.raises(ValueError, match=message):
        calibrate(loss, arguments.pop("parameters"), jax.random.key(0), **arguments)
