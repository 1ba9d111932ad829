import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.solvers import ode, phi, power

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


def test_unknown_types_are_refused():
    with pytest.raises(ValueError, match="from 1 to 7, got 8"):
        phi(8)
    with pytest.raises(ValueError, match="eta must not be 1"):
        phi(3, 1.0)
