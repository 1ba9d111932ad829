"""ACIL, DS-AL and RanPAC: ridge regressions on a random layer, from sums."""

import importlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.heads import ridge
from jaxcil.heads.acil import acil
from jaxcil.heads.ds_al import ds_al
from jaxcil.heads.ranpac import choose_ridge, ranpac
from jaxcil.heads.ridge import ridge_weights

pytestmark = pytest.mark.usefixtures("strict_dtypes")

SIZE = 40
update = jax.jit(
    lambda head, *arguments: head.update(*arguments)
)  # one program a head and dtype for the whole file


def fit_in_three_tasks(head, arrays, **given):
    """Three tasks, in the row order of the golden arrays, each padded to the length of the first."""
    state = head.init(9, 12, jax.random.key(0))
    state = state._replace(**{name: jnp.asarray(value, float) for name, value in given.items()})
    for task in range(3):
        rows = arrays[f"ranpac_row_order_task{task}"]
        labels = np.append(arrays["train_labels"][rows], np.full(125 - len(rows), -1)).astype(np.int32)
        features = np.append(arrays["train_features"][rows], np.zeros((125 - len(rows), 12)), axis=0)
        state = update(head, state, jnp.asarray(features, float), jnp.asarray(labels))
        yield state


def near(found, expected, share):
    np.testing.assert_allclose(found, expected, rtol=0, atol=share * np.abs(expected).max())


@pytest.mark.usefixtures("x64")
def test_acil_is_the_joint_ridge_regression_after_every_task(golden):
    arrays = golden("incremental/analytic_heads.npz")
    head = acil(ridge=float(arrays["gamma"]), buffer_size=SIZE)
    for task, state in enumerate(fit_in_three_tasks(head, arrays, layer=arrays["buffer_weight"].T)):
        recursive = arrays[f"acil_weight_task{task}"]
        # The recursion over batches of 30 rows is itself 3e-10 away from the joint solution at the end, and
        # further after the first task, whose sum is worse conditioned
        near(state.weights[:, : recursive.shape[1]], recursive, 1e-9)
        assert (np.asarray(state.weights)[:, recursive.shape[1] :] == 0).all()
        inverse = np.linalg.inv(np.asarray(state.gram) + float(arrays["gamma"]) * np.eye(SIZE))
        np.testing.assert_allclose(np.trace(inverse), arrays[f"acil_R_trace_task{task}"], rtol=1e-9)
    near(state.weights, arrays["joint_ridge_weight"], 1e-10)
    scores = head.scores(state, jnp.asarray(arrays["test_features"]))
    near(scores, arrays["acil_test_logits"], 1e-9)  # sums of 40 such weights


@pytest.mark.usefixtures("x64")
def test_both_streams_of_ds_al_are_those_of_the_official_recursion(golden):
    arrays = golden("incremental/analytic_heads.npz")
    head = ds_al(ridge=0.1, compensation_ridge=0.1, ratio=0.6, buffer_size=SIZE)
    *_, state = fit_in_three_tasks(head, arrays, layer=arrays["buffer_weight"].T)
    # The golden arrays are a recursion over batches; its inverse gathers rounding, as that of ACIL does
    near(state.weights, arrays["dsal_main_weight"], 5e-9)
    near(state.compensation_weights, arrays["dsal_comp_weight"], 5e-9)
    near(head.scores(state, jnp.asarray(arrays["test_features"])), arrays["dsal_test_logits_C06"], 5e-9)


@pytest.mark.usefixtures("x64")
def test_ranpac_chooses_the_official_ridge_of_every_task_and_solves_from_all_rows(golden):
    arrays = golden("incremental/analytic_heads.npz")
    head = ranpac(projection_size=SIZE)
    states = list(fit_in_three_tasks(head, arrays, projection=arrays["ranpac_projection"]))
    np.testing.assert_array_equal([float(state.ridge) for state in states], arrays["ranpac_ridge_per_task"])
    for found, name in ((states[-1].gram, "G"), (states[-1].cross, "Q"), (states[-1].weights, "weight")):
        near(found, arrays[f"ranpac_{name}"], 1e-10)
    near(head.scores(states[-1], jnp.asarray(arrays["test_features"])), arrays["ranpac_test_scores"], 1e-10)


@pytest.mark.parametrize(
    ("head", "layer", "logits"),
    [
        (acil(ridge=0.1, buffer_size=SIZE), "buffer_weight", "acil_test_logits"),
        (ds_al(buffer_size=SIZE), "buffer_weight", "dsal_test_logits_C06"),
        (ranpac(projection_size=SIZE), "ranpac_projection", "ranpac_test_scores"),
    ],
    ids=["acil", "ds_al", "ranpac"],
)
def test_float32_decides_as_float64_does(golden, head, layer, logits):
    arrays = golden("incremental/analytic_heads.npz")
    weight = arrays[layer].T if layer == "buffer_weight" else arrays[layer]
    name = "projection" if layer == "ranpac_projection" else "layer"
    *_, state = fit_in_three_tasks(head, arrays, **{name: weight})
    scores = np.asarray(head.scores(state, jnp.asarray(arrays["test_features"], jnp.float32)))
    # Float32 times the square root of the condition number, 4e3 / 0.1: the refined residual carries no more
    near(scores, arrays[logits], 1e-3)
    np.testing.assert_array_equal(scores.argmax(axis=1), arrays[logits].argmax(axis=1))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("noise", [0.01, 1.0, 30.0])
def test_one_eigendecomposition_chooses_as_seventeen_solves_do(noise):
    rng = np.random.default_rng(0)
    rows, weights = rng.normal(size=(60, 50)), rng.normal(size=(50, 3))
    targets = rows @ weights + noise * rng.normal(size=(60, 3))
    fit, held = slice(0, 48), slice(48, 60)
    gram, cross = rows[fit].T @ rows[fit], rows[fit].T @ targets[fit]
    errors = [
        np.square(rows[held] @ np.linalg.solve(gram + 10.0**e * np.eye(50), cross) - targets[held]).sum()
        for e in range(-8, 9)
    ]
    given = tuple(jnp.asarray(x) for x in (gram, cross, rows[held], targets[held]))
    chosen = choose_ridge(*given[:2], problem=as_they_are, held_out=given[2:])
    np.testing.assert_allclose(chosen, 10.0 ** (np.argmin(errors) - 8), rtol=1e-12)


def as_they_are(rows, targets):
    return rows, targets


@pytest.mark.usefixtures("x64")
def test_the_ridges_are_judged_by_the_weights_that_are_solved_for(monkeypatch):
    # What is added for rounding as large as the eigenvalues: without the refinement another ridge would win
    for module in (
        ridge,
        importlib.import_module("jaxcil.heads.ranpac"),
    ):  # the package has a function of that name
        monkeypatch.setattr(module, "rounding", lambda gram: jnp.asarray(50.0))
    rng = np.random.default_rng(2)
    rows, weights = rng.normal(size=(60, 50)), rng.normal(size=(50, 3))
    targets = rows @ weights + 10 * rng.normal(size=(60, 3))
    gram, cross = (jnp.asarray(rows[:48].T @ side[:48]) for side in (rows, targets))
    errors = [
        np.square(rows[48:] @ ridge_weights(gram, cross, jnp.asarray(10.0**e)) - targets[48:]).sum()
        for e in range(-8, 9)
    ]
    held_out = jnp.asarray(rows[48:]), jnp.asarray(targets[48:])
    chosen = choose_ridge(gram, cross, problem=as_they_are, held_out=held_out)
    np.testing.assert_allclose(chosen, 10.0 ** (np.argmin(errors) - 8), rtol=1e-12)


def test_float32_fits_fewer_rows_than_columns_as_float64_does():
    rng = np.random.default_rng(0)
    labels = np.arange(500) % 10
    features = np.maximum(rng.normal(size=(10, 64))[labels] + rng.normal(size=(500, 64)), 0)
    rows = 30 * np.maximum(features @ rng.uniform(-0.125, 0.125, (64, 1024)), 0)
    fit, unseen = rows[:300], rows[300:]
    # The same ridge regression by its dual, whose 300 x 300 matrix is well conditioned
    dual = np.linalg.solve(fit @ fit.T + 0.1 * np.eye(300), np.eye(10)[labels[:300]])
    expected = unseen @ fit.T @ dual
    single, targets = fit.astype(np.float32), np.eye(10, dtype=np.float32)[labels[:300]]
    weights = ridge_weights(
        *(jnp.asarray(x) for x in (single.T @ single, single.T @ targets)), jnp.float32(0.1)
    )
    found = unseen @ np.asarray(weights, np.float64)
    # Float32 cannot distinguish a ridge of 0.1 from 0 next to a trace of 4e7; decisions by a hair may differ
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.95


def test_float32_survives_a_singular_sum_and_a_tiny_ridge():
    # 5 rows for 40 columns: 35 eigenvalues are 0, and 1e-8 is far below float32's rounding of the rest
    features = jnp.asarray(np.random.default_rng(0).uniform(0, 100, (5, 12)), jnp.float32)
    labels = jnp.arange(5, dtype=jnp.int32)
    head = acil(ridge=1e-8, buffer_size=SIZE)
    state = update(head, head.init(9, 12, jax.random.key(0)), features, labels)
    scores = np.asarray(head.scores(state, features))[:, :5]
    np.testing.assert_allclose(scores, np.eye(5), atol=1e-2)  # it interpolates them, up to that rounding


def test_the_random_layer_has_the_spread_of_torch_linear_and_follows_the_key():
    head = acil(buffer_size=2000)
    layer = np.asarray(head.init(2, 25, jax.random.key(0)).layer)
    assert np.abs(layer).max() <= 0.2  # 1 / sqrt(25)
    # 50,000 draws: the standard error of a uniform's standard deviation is 0.2 percent of it
    np.testing.assert_allclose(layer.std(), 0.2 / np.sqrt(3), rtol=1e-2)
    np.testing.assert_array_equal(layer, head.init(2, 25, jax.random.key(0)).layer)
    assert (layer != np.asarray(head.init(2, 25, jax.random.key(1)).layer)).any()


@pytest.mark.usefixtures("x64")
def test_blocks_of_rows_add_up(monkeypatch):
    rng = np.random.default_rng(0)
    rows, targets = rng.normal(size=(23, 4)), rng.normal(size=(23, 2))
    monkeypatch.setattr(ridge, "BLOCK", 5)
    gram, cross = ridge.gram_sums(
        lambda rows, targets: (jnp.tanh(rows), targets), jnp.asarray(rows), jnp.asarray(targets)
    )
    np.testing.assert_allclose(gram, np.tanh(rows).T @ np.tanh(rows), rtol=1e-13)
    np.testing.assert_allclose(cross, np.tanh(rows).T @ targets, rtol=1e-12, atol=1e-13)


@pytest.mark.usefixtures("x64")
def test_both_streams_of_ds_al_and_its_scores_are_the_same_in_blocks(monkeypatch, golden):
    arrays = golden("incremental/analytic_heads.npz")
    head, unseen = ds_al(buffer_size=SIZE), jnp.asarray(arrays["test_features"])
    given = {"layer": arrays["buffer_weight"].T}
    *_, whole = fit_in_three_tasks(head, arrays, **given)
    expected = head.scores(whole, unseen)
    monkeypatch.setattr(ridge, "BLOCK", 50)
    update.clear_cache()  # it was traced with the block of the module
    *_, found = fit_in_three_tasks(head, arrays, **given)
    update.clear_cache()
    for one, other in zip(found, whole):
        near(one, np.asarray(other), 1e-9)  # as in the golden test
    near(head.scores(found, unseen), np.asarray(expected), 1e-9)


@pytest.mark.parametrize(
    "head",
    [acil(buffer_size=48), ds_al(buffer_size=48), ranpac(projection_size=48)],
    ids=["acil", "ds_al", "ranpac"],
)
def test_no_array_holds_the_expansion_of_all_rows(head):
    state = jax.eval_shape(lambda: head.init(3, 8, jax.random.key(0)))
    features, labels = jax.ShapeDtypeStruct((30_000, 8), jnp.float32), jax.ShapeDtypeStruct((30_000,), int)
    programs = (
        jax.make_jaxpr(head.update)(state, features, labels.update(dtype=jnp.int32)),
        jax.make_jaxpr(head.scores)(state, features),
    )
    for program in programs:
        rows = {int(rows) for rows in re.findall(r"\[(\d+),48\]", str(program))}
        assert 48 < max(rows) <= ridge.BLOCK


@pytest.mark.parametrize("head", [acil(), ds_al(), ranpac()], ids=["acil", "ds_al", "ranpac"])
def test_a_random_layer_needs_a_key(head):
    with pytest.raises(ValueError, match="a key"):
        head.init(9, 12)


@pytest.mark.parametrize(
    ("make", "setting"),
    [
        (acil, {"ridge": 0.0}),
        (acil, {"buffer_size": 0}),
        (ds_al, {"ratio": -0.1}),
        (ds_al, {"compensation_ridge": -1.0}),
        (ranpac, {"projection_size": 1e4}),
    ],
)
def test_a_setting_out_of_range_is_refused(make, setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        make(**setting)
