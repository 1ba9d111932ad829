import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.solvers import (
    GaussianMixture,
    Grid,
    Node,
    classifier_free,
    classifier_guided,
    clipped,
    dynamic_threshold,
    er_sde,
    flow_grid,
    from_epsilon,
    from_flow,
    from_score,
    from_v,
    ode,
    sample,
)
from jaxcil.solvers.denoiser import guided

NODE = Node(jnp.asarray(0.0), jnp.asarray(0.6), jnp.asarray(0.8))


@pytest.fixture
def mixture():
    return GaussianMixture(
        jnp.asarray([0.4, 0.6]), jnp.asarray([[1.0, -1.0], [0.5, 2.0]]), jnp.asarray([0.3, 0.5])
    )


def log_density(mixture, x, node):
    """log p(x) [B] of noisy samples [B, D], straight from the mixture's definition."""
    variance = (node.alpha * mixture.stds) ** 2 + node.sigma**2
    away = x[:, None] - node.alpha * mixture.means[None]
    exponent = -jnp.sum(away**2, -1) / (2 * variance[None])
    return jax.nn.logsumexp(exponent - jnp.log(variance)[None], -1, b=mixture.weights[None])  # D = 2


def networks(mixture):
    """The same knowledge as four networks would predict it, each of them exact."""

    def epsilon(x, node):
        return (x - node.alpha * mixture.denoiser(x, node)) / node.sigma

    def v(x, node):
        return node.alpha * epsilon(x, node) - node.sigma * mixture.denoiser(x, node)

    def score(x, node):
        return jax.grad(lambda x: jnp.sum(log_density(mixture, x, node)))(x)

    def flow(x, node):
        return epsilon(x, node) - mixture.denoiser(x, node)

    return {"epsilon": (from_epsilon, epsilon), "v": (from_v, v), "score": (from_score, score)} | {
        "flow": (from_flow, flow)
    }


@pytest.mark.parametrize("kind", ["epsilon", "v", "score", "flow"])
def test_all_predictions_name_the_same_x0(kind, mixture, strict_dtypes):
    x = jax.random.normal(jax.random.key(0), (4, 2))
    node = Node(jnp.asarray(0.0), jnp.asarray(0.3), jnp.asarray(0.7)) if kind == "flow" else NODE
    convert, network = networks(mixture)[kind]
    np.testing.assert_allclose(convert(network)(x, node), mixture.denoiser(x, node), rtol=1e-5, atol=1e-6)


def test_a_flow_model_starts_from_pure_noise(mixture, strict_dtypes):
    # At alpha = 0 the prediction is the mean of the data, and epsilon is x itself.
    mean = mixture.weights @ mixture.means
    x = jax.random.normal(jax.random.key(0), (4, 2))

    def flow(x, node):
        x0 = jnp.where(node.alpha == 0, mean[None], mixture.denoiser(x, node))
        return (x - (node.alpha + node.sigma) * x0) / node.sigma  # epsilon - x0

    grid = flow_grid(4)
    start = Node(grid.time[0], grid.alpha[0], grid.sigma[0])
    np.testing.assert_allclose(from_flow(flow)(x, start), jnp.broadcast_to(mean, (4, 2)), rtol=1e-5)
    assert np.isfinite(sample(er_sde(grid, ode()), from_flow(flow), x)).all()


def constant(value):
    return lambda x, node: jnp.full_like(x, value)


@pytest.mark.parametrize(
    ("window", "expected"), [(None, 7.0), ((1.0, 2.0), 7.0), ((2.0, 9.0), 3.0), ((0.0, 1.0), 3.0)]
)
def test_guidance_extrapolates_inside_its_window_only(window, expected, strict_dtypes):
    # cond 3, uncond 1, scale 3: 1 + 3 (3 - 1) = 7; the node has lam = 4/3
    denoiser = classifier_free(constant(3.0), constant(1.0), 3.0, window)
    np.testing.assert_allclose(denoiser(jnp.zeros((2, 3)), NODE), expected)


def test_the_window_of_guidance_counts_its_ends_and_knows_infinite_lam(strict_dtypes):
    grid = Grid(jnp.zeros(3), jnp.asarray([0.0, 0.6, 0.8]), jnp.asarray([1.0, 0.8, 0.6]))
    nodes = [Node(grid.time[i], grid.alpha[i], grid.sigma[i]) for i in range(3)]

    def guides(window):
        denoiser = classifier_free(constant(1.0), constant(0.0), 2.0, window)
        return [float(denoiser(jnp.zeros((1, 1)), node)[0, 0]) == 2 for node in nodes]

    assert guides((grid.lam[2], grid.lam[1])) == [False, True, True]
    assert guides((1.0, jnp.inf)) == [True, True, False]


def test_a_window_upside_down_is_refused():
    with pytest.raises(ValueError, match=r"low <= high, got \(2.0, 1.0\)"):
        classifier_free(constant(1.0), constant(0.0), 2.0, (2.0, 1.0))


@pytest.fixture
def pair(mixture):
    """Denoisers of the whole mixture and of one of its parts, and a batch."""
    part = GaussianMixture(jnp.ones(1), mixture.means[:1], mixture.stds[:1])
    return part.denoiser, mixture.denoiser, 2 * jax.random.normal(jax.random.key(3), (3, 2))


@pytest.mark.parametrize("rescale", [0.0, 0.7, 1.0])
def test_guidance_of_one_is_the_condition(rescale, pair, strict_dtypes):
    cond, uncond, x = pair
    ours = classifier_free(cond, uncond, 1.0, rescale=rescale)(x, NODE)
    np.testing.assert_allclose(ours, cond(x, NODE), rtol=1e-5, atol=1e-6)


def test_guidance_of_zero_is_no_condition(pair, strict_dtypes):
    cond, uncond, x = pair
    np.testing.assert_array_equal(classifier_free(cond, uncond, 0.0)(x, NODE), uncond(x, NODE))


@pytest.mark.parametrize("shape", [(5,), (5, 1), (5, 7), (5, 4, 4, 3)], ids=str)
def test_full_rescaling_gives_each_sample_the_deviation_of_its_condition(shape, strict_dtypes):
    negative, positive = jax.random.normal(jax.random.key(0), (2, *shape))
    ours = guided(negative, positive, 4.0, 1.0)
    assert ours.shape == shape
    entries = tuple(range(1, len(shape)))
    if np.prod(shape[1:]) > 1:
        np.testing.assert_allclose(ours.std(entries), positive.std(entries), rtol=1e-5)
        assert np.all(np.abs(guided(negative, positive, 4.0, 0.0).std(entries) / ours.std(entries) - 1) > 0.1)
    else:  # a single number has no deviation: nothing is rescaled
        np.testing.assert_array_equal(ours, guided(negative, positive, 4.0, 0.0))


def test_rescaling_moves_on_a_line_between_none_and_full():
    negative, positive = jax.random.normal(jax.random.key(0), (2, 3, 8))
    none, some, full = (guided(negative, positive, 4.0, rescale) for rescale in (0.0, 0.7, 1.0))
    np.testing.assert_allclose(some, 0.3 * none + 0.7 * full, rtol=1e-5, atol=1e-6)


GUIDED = {
    "classifier_free": lambda pair, log_prob, scale: classifier_free(pair[0], pair[1], scale),
    "rescaled": lambda pair, log_prob, scale: classifier_free(pair[0], pair[1], scale, rescale=0.7),
    "rescaled_by_sample": lambda pair, log_prob, scale: classifier_free(pair[0], pair[1], 3.0, rescale=scale),
    "classifier": lambda pair, log_prob, scale: classifier_guided(pair[0], log_prob, scale),
}


def towards(x, node):
    """A classifier of noisy samples [B, ...] that is not linear."""
    return -jnp.sum(jnp.cosh(x.reshape(x.shape[0], -1) - 1), -1)


@pytest.mark.parametrize("make", GUIDED.values(), ids=GUIDED)
def test_a_scale_a_sample_equals_separate_calls(make, pair, strict_dtypes):
    *pair, x = pair
    scales = jnp.asarray([0.0, 0.4, 1.0])
    mixed = make(pair, towards, scales)(x, NODE)
    alone = [make(pair, towards, scale)(x[i : i + 1], NODE)[0] for i, scale in enumerate(scales)]
    np.testing.assert_allclose(mixed, jnp.stack(alone), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="one number per sample, 3 in all, got shape"):
        make(pair, towards, jnp.ones(2))(x, NODE)


@pytest.mark.parametrize("make", GUIDED.values(), ids=GUIDED)
def test_the_gradient_in_the_scale_is_a_finite_difference(make, pair, x64):
    *pair, x = pair
    x = x.astype(jnp.float64)

    def out(scale):
        return jnp.sum(make(pair, towards, scale)(x, NODE) ** 2)

    step = 1e-5
    difference = (out(0.8 + step) - out(0.8 - step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(out)(0.8), difference, rtol=1e-7)


def test_the_gradient_is_finite_where_a_prediction_has_no_deviation(strict_dtypes):
    def out(scale, rescale):
        denoiser = classifier_free(constant(3.0), constant(1.0), scale, rescale=rescale)
        return jnp.sum(denoiser(jnp.zeros((2, 3)), NODE))

    # 6 entries of 1 + scale (3 - 1), whatever the rescaling
    np.testing.assert_allclose(jax.grad(out, (0, 1))(2.0, 0.5), (12.0, 0.0), atol=1e-6)


@pytest.mark.parametrize(("alpha", "sigma"), [(0.6, 0.8), (1.0, 3.0), (0.1, 0.9)])
def test_an_exact_classifier_gives_the_exact_denoiser_of_the_data_given_its_class(alpha, sigma, x64):
    # Data N(m, s^2 I) observed as y = a . x0 + tau z. From a noisy x the posterior of x0 is Gaussian, and so y is
    # with mean a . E[x0 | x] and variance tau^2 + s^2 sigma^2 / v |a|^2, v = alpha^2 s^2 + sigma^2.
    m, s = jnp.asarray([0.5, -1.0, 2.0]), 0.7
    a, tau, y = jnp.asarray([1.0, 2.0, -1.0]), 0.4, 3.0
    prior = GaussianMixture(jnp.ones(1), m[None], jnp.full(1, s))

    def log_prob(x, node):
        v = node.alpha**2 * s**2 + node.sigma**2
        mean = jnp.sum(prior.denoiser(x, node) * a[None], -1)
        return -((y - mean) ** 2) / (2 * (tau**2 + s**2 * node.sigma**2 / v * jnp.sum(a**2)))

    # the other way round: first the data given y, N(mean, cov), then its denoiser
    cov = np.linalg.inv(np.eye(3) / s**2 + np.outer(a, a) / tau**2)
    mean = cov @ (m / s**2 + a * y / tau**2)
    x = jax.random.normal(jax.random.key(0), (5, 3), jnp.float64)
    gain = alpha * cov @ np.linalg.inv(alpha**2 * cov + sigma**2 * np.eye(3))
    expected = mean[None] + (x - alpha * mean[None]) @ gain.T
    node = Node(jnp.asarray(0.0), jnp.asarray(alpha), jnp.asarray(sigma))
    np.testing.assert_allclose(
        classifier_guided(prior.denoiser, log_prob, 1.0)(x, node), expected, rtol=1e-11, atol=1e-12
    )


def test_clipping_bounds_what_is_outside_and_nothing_else(strict_dtypes):
    values = jnp.asarray([[-3.0, -1.0, 0.25], [0.5, 1.0, 1.5]])
    ours = clipped(lambda x, node: values)(jnp.zeros((2, 3)), NODE)
    np.testing.assert_array_equal(ours, [[-1.0, -1.0, 0.25], [0.5, 1.0, 1.0]])
    ours = clipped(lambda x, node: values, jnp.float32(0.0), 0.75)(jnp.zeros((2, 3)), NODE)
    np.testing.assert_array_equal(ours, [[0.0, 0.0, 0.25], [0.5, 0.75, 0.75]])


def test_dynamic_thresholding_leaves_small_predictions_alone_and_bounds_others(strict_dtypes):
    small, large = jax.random.uniform(jax.random.key(0), (2, 10, 10, 3), minval=-0.99, maxval=0.99)
    values = jnp.stack([small, 5 * large])
    ours = dynamic_threshold(lambda x, node: values, 0.9)(jnp.zeros_like(values), NODE)
    np.testing.assert_array_equal(ours[0], small)
    assert np.abs(ours[1]).max() == 1
    # a tenth of 300 entries lies at the bound; the rest is scaled by one number
    assert np.sum(np.abs(ours[1]) == 1) == 30
    ratio = np.asarray(ours[1] / values[1])[np.abs(ours[1]) < 1]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)


def test_dynamic_thresholding_by_the_largest_entry_is_a_change_of_scale(strict_dtypes):
    values = jnp.asarray([[3.0, -6.0, 1.5], [0.5, 1.0, -2.0]])
    ours = dynamic_threshold(lambda x, node: values, 1.0, 2.0)(jnp.zeros((2, 3)), NODE)
    np.testing.assert_allclose(ours, [[1.0, -2.0, 0.5], [0.5, 1.0, -2.0]], rtol=1e-6)


@pytest.mark.parametrize(("quantile", "limit"), [(1.5, 1.0), (-0.1, 1.0), (0.5, 0.0), (float("nan"), 1.0)])
def test_a_threshold_out_of_range_is_refused(quantile, limit):
    with pytest.raises(ValueError, match="quantile must lie in"):
        dynamic_threshold(constant(1.0), quantile, limit)


TRANSFORMS = {
    "epsilon": from_epsilon,
    "score": from_score,
    "v": from_v,
    "flow": from_flow,
    "classifier_free": lambda fn: classifier_free(fn, constant(0.5), 2.0, (0.1, 5.0), 0.3),
    "classifier": lambda fn: classifier_guided(fn, towards, 2.0),
    "clipped": clipped,
    "threshold": lambda fn: dynamic_threshold(fn, 0.9),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("state", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_a_bfloat16_network_keeps_the_dtype_of_the_state(transform, state, strict_dtypes):
    def network(x, node):
        return jnp.tanh(x.astype(jnp.bfloat16)) * 2

    x = jax.random.normal(jax.random.key(0), (4, 6)).astype(state)
    out = transform(network)(x, NODE)
    assert (out.shape, out.dtype) == (x.shape, state)
    assert np.isfinite(np.asarray(out, np.float32)).all()
    single = transform(lambda x, node: network(x, node).astype(jnp.float32))(x.astype(jnp.float32), NODE)
    # bfloat16 rounds by 2^-9 a step, a few steps in a chain, of terms of size 2 that may cancel
    rtol, atol = (1e-6, 1e-6) if state == jnp.float32 else (2**-6, 2**-5)
    np.testing.assert_allclose(np.asarray(out, np.float32), single, rtol=rtol, atol=atol)


def test_a_quantile_of_many_entries_is_right_in_half_precision(strict_dtypes):
    # 20,000 entries rising to 4: bfloat16 could not name the place of the quantile, 0.995 times 19,999. Its values
    # near 4 are 2^-6 apart.
    values = jnp.linspace(0.0, 4.0, 20_000)[None]
    half = dynamic_threshold(lambda x, node: values)(values.astype(jnp.bfloat16), NODE)
    assert half.dtype == jnp.bfloat16
    middle = float(half[0, 10_000])
    np.testing.assert_allclose(middle, 2.0 / 3.98, rtol=2**-6)
