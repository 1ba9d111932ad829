import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.svm import LinearSVC

from jaxcil.heads import linear_svm
from jaxcil.heads.linear_svm import squared_hinge_svm

pytestmark = pytest.mark.usefixtures("strict_dtypes")

solve = jax.jit(squared_hinge_svm, static_argnums=2)  # one program a shape and dtype for the whole file


def problem(classes=4, rows=200, dim=12, spread=1.5, seed=0):
    rng = np.random.default_rng(seed)
    owners = (np.arange(rows) % classes).astype(np.int32)
    x = np.maximum(rng.normal(size=(classes, dim))[owners] + spread * rng.normal(size=(rows, dim)), 0)
    return x / np.linalg.norm(x, axis=1, keepdims=True), owners


def loss_and_gradient(weights, x, owners, strength):
    """The objective as one writes it down, for `jax.grad`."""

    def loss(w, sign):
        margins = sign * (jnp.concatenate([x, jnp.ones((len(x), 1))], axis=1) @ w)
        return 0.5 * w @ w + strength * jnp.square(jnp.maximum(0, 1 - margins)).sum()

    signs = jnp.where(owners[None, :] == jnp.arange(len(weights), dtype=jnp.int32)[:, None], 1.0, -1.0)
    return jax.vmap(jax.value_and_grad(loss))(weights, signs)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("strength", [1e-3, 1.0, 1e3])
def test_the_gradient_vanishes_at_the_solution(strength):
    x, owners = problem()
    weights = solve(jnp.asarray(x), jnp.asarray(owners), 4, jnp.asarray(strength))
    _, gradient = loss_and_gradient(weights, jnp.asarray(x), jnp.asarray(owners), strength)
    # Rounding of a Hessian of norm 2 * strength * 2 * rows, times |w| up to 50
    assert float(jnp.abs(gradient).max()) < 1e-16 * (1 + 800 * strength) * 50


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("strength", [0.1, 1.0, 30.0])
def test_the_solution_is_that_of_scikit_learn(strength):
    x, owners = problem()
    weights = solve(jnp.asarray(x), jnp.asarray(owners), 4, jnp.asarray(strength))
    peer = LinearSVC(loss="squared_hinge", dual=False, C=strength, tol=1e-10, max_iter=100_000).fit(x, owners)
    expected = np.concatenate([peer.coef_, peer.intercept_[:, None]], axis=1)
    # Its primal solver stops 2e-7 from the optimum at any tolerance; its dual one does not arrive
    np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("affordable", [0, 4], ids=["never", "at last"])
def test_many_active_rows_lead_to_the_optimum_too(monkeypatch, affordable):
    # A class's own Hessian is summed over all rows in the other tests; here never, or when few rows are left
    x, owners = problem()
    monkeypatch.setattr(linear_svm, "AFFORDABLE", affordable)
    weights = squared_hinge_svm(jnp.asarray(x), jnp.asarray(owners), 4, jnp.asarray(1.0))
    _, gradient = loss_and_gradient(weights, jnp.asarray(x), jnp.asarray(owners), 1.0)
    assert float(jnp.abs(gradient).max()) < 1e-16 * 800 * 50  # as in the first test


@pytest.mark.parametrize("strength", [1.0, 1e3])
def test_float32_reaches_the_loss_of_float64(strength):
    x, owners = problem()
    single = solve(jnp.asarray(x, jnp.float32), jnp.asarray(owners), 4, jnp.asarray(strength, jnp.float32))
    with jax.enable_x64(True):
        double = solve(jnp.asarray(x), jnp.asarray(owners), 4, jnp.asarray(strength))
        best, _ = loss_and_gradient(double, jnp.asarray(x), jnp.asarray(owners), strength)
        reached, _ = loss_and_gradient(
            jnp.asarray(single, jnp.float64), jnp.asarray(x), jnp.asarray(owners), strength
        )
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(reached, best, rtol=1e-6)


def test_weights_stay_finite_where_float32_cannot_factor_a_hessian():
    x, owners = problem(rows=60, dim=30, spread=0.2)
    weights = solve(jnp.asarray(x, jnp.float32), jnp.asarray(owners), 4, jnp.float32(1e9))
    assert np.isfinite(np.asarray(weights)).all()


def test_rows_that_do_not_count_leave_no_trace():
    x, owners = problem()
    junk = np.concatenate([x, np.full((30, 12), 1e3)]).astype(np.float32)
    kept = solve(jnp.asarray(x, jnp.float32), jnp.asarray(owners), 4, jnp.float32(1))
    padded = solve(
        jnp.asarray(junk), jnp.asarray(np.append(owners, np.full(30, -1, np.int32))), 4, jnp.float32(1)
    )
    np.testing.assert_allclose(padded, kept, rtol=1e-4, atol=1e-5)  # another order of the float32 sums


def test_a_class_without_rows_has_weights_zero_and_does_not_disturb_the_others():
    x, owners = problem()
    rows, owners = jnp.asarray(x, jnp.float32), jnp.asarray(owners)
    weights = solve(rows, owners, 6, jnp.float32(1))
    np.testing.assert_array_equal(weights[4:], 0)
    np.testing.assert_allclose(weights[:4], solve(rows, owners, 4, jnp.float32(1)), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("x64")
def test_separable_classes_with_little_regularisation_end_within_the_bound_on_steps():
    # The active rows change from step to step here, the full step overshoots, and the line search must act
    x, owners = problem(classes=3, rows=60, dim=30, spread=0.2)
    weights = solve(jnp.asarray(x), jnp.asarray(owners), 3, jnp.asarray(1e6))
    _, gradient = loss_and_gradient(weights, jnp.asarray(x), jnp.asarray(owners), 1e6)
    assert float(jnp.abs(gradient).max()) < 1e-4  # the gradient at 0 is 1e8
