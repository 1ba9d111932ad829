import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.solvers import NoiseScale, er_sde, karras_grid, ode, phi, power, product, strength

# h^2 / g^2 of the paper's noise scales, from an independent evaluation.
KNOWN = {
    (3, 0.0): [0, 4.54e-5, 0.0355, 0.0083, 0.00112],
    (3, 0.5): [2.06e-9, 5.67e-4, 0.0134, 0.0160, 0.00828],
    (6, 0.0): [1.33, 0.699, 0.222, 0.0861, 0.0342],
    (7, 0.0): [0.00858, 0.0213, 0.0641, 0.254, 0.900],
}


@pytest.mark.parametrize(("type", "eta"), KNOWN)
def test_noise_rate_is_the_known_one(type, eta, strict_dtypes):
    lam = jnp.asarray([0.01, 0.1, 1.0, 10.0, 80.0])
    np.testing.assert_allclose(phi(type, eta).excess(jnp.log(lam)), KNOWN[type, eta], rtol=6e-3, atol=1e-12)


def test_powers_of_lam_have_a_constant_noise_rate():
    log_lam = jnp.linspace(-9, 9, 7)
    for scale, rate in (
        (ode(), 0),
        (phi(1), 0),
        (phi(2), 1),
        (phi(4), 0.5),
        (phi(5), 1.5),
        (power(0.3), 0.3),
    ):
        np.testing.assert_array_equal(scale.excess(log_lam), jnp.full(7, rate, jnp.float32))


def test_strength_runs_from_the_ode_through_the_base_and_beyond(strict_dtypes):
    log_lam = jnp.linspace(-6, 4, 9)
    base = phi(3, 0.5)
    for s in (0.0, 1.0, 2.5):
        np.testing.assert_allclose(
            strength(base, s).excess(log_lam), s * base.excess(log_lam), rtol=1e-6, atol=1e-12
        )


def test_noise_rates_of_a_product_add_up(strict_dtypes):
    log_lam = jnp.linspace(-6, 4, 9)
    both = product(strength(phi(7), 0.5), power(0.3))
    np.testing.assert_allclose(both.excess(log_lam), 0.5 * phi(7).excess(log_lam) + 0.3, rtol=1e-6)


def test_a_function_of_one_s_own_is_a_noise_scale(x64):
    def log_ratio(parameters, log_lam):
        return parameters["rate"] * log_lam

    grid = karras_grid(5)
    ours = er_sde(grid, NoiseScale(log_ratio, {"rate": 0.4}))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13), ours, er_sde(grid, power(0.4))
    )


def test_type_7_does_not_overflow_float32():
    assert np.isfinite(phi(7).difference(jnp.log(jnp.asarray(1e8)), jnp.asarray(0.0)))


def test_equal_noise_scales_share_a_compiled_program():
    traces = []

    @jax.jit
    def rate(scale, log_lam):
        traces.append(1)
        return scale.excess(log_lam)

    for eta in (0.1, 0.2):
        rate(power(eta), jnp.zeros(3))
    assert len(traces) == 1
    for eta in (0.1, 0.2):
        rate(product(strength(phi(7), eta), power(eta)), jnp.zeros(3))
    assert len(traces) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: power(-0.1), "eta must be at least 0"),
        (lambda: strength(phi(7), -1.0), "s must be at least 0"),
        (lambda: strength(phi(7), float("nan")), "s must be at least 0"),
        (lambda: product(), "at least one noise scale"),
    ],
    ids=["power", "strength", "nan", "product-of-none"],
)
def test_less_noise_than_none_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
