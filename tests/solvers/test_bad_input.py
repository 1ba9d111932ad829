"""What a user may get wrong: each is refused before anything is compiled, and told what to do."""

import jax
import jax.numpy as jnp
import pytest

from jaxcil.solvers import (
    GaussianMixture,
    Grid,
    ancestral,
    clipped,
    ddim,
    dynamic_threshold,
    er_sde,
    euler_maruyama,
    flow_grid,
    grid_from_sigmas,
    heun,
    init,
    karras_grid,
    pad,
    phi,
    power,
    prior,
    sample,
    scheduler_grid,
    sde_dpmpp_2m,
    stack,
    step,
    vp_grid,
)


def plan():
    return er_sde(karras_grid(6))


def run(**given):
    data = GaussianMixture(jnp.ones(1), jnp.zeros((1, 2)), jnp.ones(1))
    arguments = {"plan": plan(), "x": jnp.ones((2, 2)), **given}
    return sample(denoiser=data.denoiser, **arguments)


def sigmas(*values):
    return er_sde(grid_from_sigmas(jnp.asarray(values)))


CASES = {
    "increasing grid": (
        lambda: sigmas(1.0, 3.0),
        "got 1.0 at node 0 and 3.0 at node 1. Nodes are given noisy first",
    ),
    "repeated node": (lambda: sigmas(3.0, 1.0, 1.0), "got 1.0 at node 1 and 1.0 at node 2. Drop repeated"),
    "infinite time": (
        lambda: ddim(Grid(jnp.asarray([jnp.inf, 0.0]), jnp.ones(2), jnp.asarray([1.0, 0.0]))),
        "time must be finite",
    ),
    "NaN sigma": (
        lambda: sigmas(3.0, float("nan"), 1.0),
        "must be finite and not negative, got nan at node 1",
    ),
    "negative sigma": (lambda: sigmas(3.0, 1.0, -1.0), "got -1.0 at node 2"),
    "alpha 0 inside": (
        lambda: ddim(Grid(jnp.arange(3.0), jnp.asarray([0.5, 0.0, 1.0]), jnp.asarray([0.5, 1.0, 0.0]))),
        "Only the first node may have alpha = 0",
    ),
    "arrays of two grids": (
        lambda: er_sde(Grid(karras_grid(4).time, karras_grid(5).alpha, karras_grid(5).sigma)),
        "three arrays .N . 1. of the same length",
    ),
    "noisy step from alpha 0": (
        lambda: er_sde(flow_grid(5)),
        r"first-sigma rule puts sigma\[0\] of a flow model of shift s at s t / \(1 \+ \(s - 1\) t\) with t = 0.9999",
    ),
    "no steps": (lambda: karras_grid(0), "steps must be at least 1, got 0"),
    "more steps than times": (
        lambda: scheduler_grid({}, 2000),
        "2000 steps .* do not fit into 1000 training steps",
    ),
    "config of a flow model": (
        lambda: scheduler_grid({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}, 4, "euler"),
        "no table of betas. Take flow_grid",
    ),
    "config of EDM": (
        lambda: scheduler_grid({"_class_name": "EDMEulerScheduler", "sigma_max": 80.0}, 4, "euler"),
        "karras_grid",
    ),
    "order for a noise scale": (
        lambda: er_sde(karras_grid(4), 3),
        r"noise_scale must be a NoiseScale, such as phi\(7\).*got 3",
    ),
    "many etas at once": (
        lambda: sde_dpmpp_2m(karras_grid(4), jnp.linspace(0, 1, 4)),
        r"eta must be one number, got shape \(4,\). To sweep it, vmap",
    ),
    "many powers at once": (lambda: power(jnp.linspace(0, 1, 32)), "eta must be one number"),
    "NaN clip": (
        lambda: er_sde(karras_grid(4), clip=float("nan")),
        "clip must be at least 0 and finite, got nan",
    ),
    "infinite eta": (lambda: ancestral(karras_grid(4), float("inf")), "eta must be at least 0 and finite"),
    "unknown phi": (lambda: phi(8), "must be a whole number from 1 to 7, got 8"),
    "phi 3 at eta 1": (lambda: phi(3, 1.0), "divides by eta - 1; eta must not be 1"),
    "phi illegal on the grid": (
        lambda: er_sde(grid_from_sigmas(jnp.asarray([5000.0, 3000.0, 900.0])), phi(6)),
        "not legal on step 0, from lam 5000 to 3000.*type 6 is legal up to lam = 1022",
    ),
    "phi illegal for Euler-Maruyama": (
        lambda: euler_maruyama(grid_from_sigmas(jnp.asarray([5000.0, 900.0])), phi(6)),
        "not legal on step 0, from lam 5000 to 900",
    ),
    "True for an order": (lambda: er_sde(karras_grid(4), order=True), "order must be 1, 2 or 3, got True"),
    "order 4": (lambda: er_sde(karras_grid(4), order=4), "order must be 1, 2 or 3, got 4"),
    "unknown derivative": (
        lambda: er_sde(karras_grid(4), derivative="exact"),
        "derivative must be 'published' or 'corrected', got 'exact'",
    ),
    "unknown quadrature": (
        lambda: er_sde(karras_grid(4), quadrature="simpson"),
        "quadrature must be 'gauss' or",
    ),
    "no points": (lambda: er_sde(karras_grid(4), points=0), "whole number of at least 1, got 0"),
    "unknown start": (lambda: er_sde(karras_grid(4), start="heun"), "start must be 'euler' or 'corrector'"),
    "corrector of order 1": (
        lambda: er_sde(karras_grid(4), order=1, start="corrector"),
        "needs the predictions of two nodes: take order 2 or 3",
    ),
    "unknown basis": (
        lambda: er_sde(karras_grid(4), basis="log"),
        "basis must be 'lam' or 'log_lam', got 'log'",
    ),
    "sums in log lam": (
        lambda: er_sde(karras_grid(4), quadrature="riemann", basis="log_lam"),
        "uniform in lam: take basis='lam' or 'gauss'",
    ),
    "eta of DDIM above 1": (lambda: ddim(karras_grid(4), 1.5), r"must lie in \[0, 1\], got 1.5"),
    "unknown solver type": (
        lambda: sde_dpmpp_2m(karras_grid(4), solver_type="midpoit"),
        "must be 'midpoint' or 'heun', got 'midpoit'",
    ),
    "churn without the network's time": (
        lambda: heun(vp_grid(4), churn=10.0),
        "Pass at, a function from lam",
    ),
    "unequal calls in a stack": (
        lambda: stack([er_sde(karras_grid(5)), er_sde(karras_grid(6))]),
        r"equally many rows \(denoiser calls\), got \[5, 6\]. Use pad",
    ),
    "no noise for a noisy plan": (run, r"this plan draws noise: pass key=jax.random.key\(seed\), or noises"),
    "key and noises": (
        lambda: run(key=jax.random.key(0), noises=jnp.zeros((6, 2, 2))),
        "give key or noises, not both",
    ),
    "noises of another shape": (
        lambda: run(noises=jnp.zeros((6, 2, 3))),
        r"must have shape \[N, B, ...\] = \(6, 2, 2\), got \(6, 2, 3\)",
    ),
    "raw key": (lambda: run(key=jax.random.PRNGKey(0)), "must be a typed key, got ArrayImpl of uint32"),
    "key of another kind": (
        lambda: run(key=jax.random.key(0, impl="rbg")),
        "must be of the kind threefry2x32, got rbg",
    ),
    "number for a key": (lambda: run(key=0), "must be a typed key, got int"),
    "row beyond the last": (
        lambda: step(plan(), 6, init(plan(), jnp.ones((2, 2))), lambda x, node: x),
        "6 rows has rows 0 to 5, got 6",
    ),
    "noise of another batch": (
        lambda: step(plan(), 0, init(plan(), jnp.ones((2, 2))), lambda x, node: x, jnp.ones((1, 2))),
        r"noise must have the shape of x, \(2, 2\), got \(1, 2\)",
    ),
    "padding of a stack": (lambda: pad(stack([plan(), plan()]), 9), "pad before stack"),
    "low above high": (lambda: clipped(lambda x, node: x, 1.0, -1.0), "expected low < high"),
    "many limits": (
        lambda: dynamic_threshold(lambda x, node: x, limit=jnp.asarray([1.0, 2.0])),
        "one number each",
    ),
    "keys of another batch": (
        lambda: run(key=jax.random.split(jax.random.key(0), 3)),
        r"one key or one per sample, 2 in all, got shape \(3,\)",
    ),
    "prior with too many keys": (
        lambda: prior(plan(), jax.random.split(jax.random.key(0), 3), (2, 2)),
        "one per sample, 2 in all",
    ),
    "nodes of another grid": (
        lambda: run(plan=plan().replace(sigma=karras_grid(4).sigma), key=jax.random.key(0)),
        r"expected \{'sigma': \(7,\)\}, got \{'sigma': \(5,\)\}. Is it made of parts of two plans",
    ),
    "stacked plan": (
        lambda: run(plan=stack([plan(), plan()]), key=jax.random.key(0)),
        r"keep must have shape \[N\], got \(2, 6\).*jax.vmap",
    ),
    "integers": (
        lambda: run(x=jnp.ones((2, 2), int), key=jax.random.key(0)),
        r"x must be an array \[B, ...\] of floating point, got int32",
    ),
}


@pytest.mark.parametrize(("call", "message"), CASES.values(), ids=CASES)
def test_bad_input_is_refused_with_the_way_out(call, message):
    with pytest.raises(ValueError, match=message):
        call()
