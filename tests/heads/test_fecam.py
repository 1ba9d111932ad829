import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.heads import covariance, fecam

pytestmark = pytest.mark.usefixtures("strict_dtypes")

MODES = {
    "default": {},
    "nonorm": {"correlation": False},
    "notukey": {"beta": 1.0},
    "noshrink": {"gamma1": 0.0, "gamma2": 0.0},
    "common": {"mode": "common"},
    "diagonal": {"mode": "diagonal"},
    "ncm": {"mode": "ncm", "beta": 1.0},
    "ncm_tukey": {"mode": "ncm"},
}

# One program for all hyperparameters; called outside of jit, each operation would be a program
init = jax.jit(lambda head, classes, dim: head.init(classes, dim), static_argnums=(1, 2))
update = jax.jit(lambda head, *arguments: head.update(*arguments))
score = jax.jit(lambda head, *arguments: head.scores(*arguments))
whiten = jax.jit(jax.vmap(lambda head, matrix: head.whiten(matrix), in_axes=(None, 0)))
inverse_factor, shrink, whitened_distances = (
    jax.jit(function)
    for function in (covariance.inverse_factor, covariance.shrink, covariance.whitened_distances)
)


def in_process_dtype(array):
    return np.asarray(array, jax.dtypes.canonicalize_dtype(float))


def fit_in_two_tasks(head, arrays):
    features, labels = in_process_dtype(arrays["train_features"]), arrays["train_labels"].astype(np.int32)
    state = init(head, 9, 16)
    for task in (labels < 5, labels >= 5):
        state = update(head, state, features, np.where(task, labels, np.int32(-1)))
    return state


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("mode", MODES)
def test_distances_are_those_of_the_official_code(golden, mode):
    arrays = golden("incremental/fecam.npz")
    head = fecam(**MODES[mode])
    scores = np.asarray(
        score(head, fit_in_two_tasks(head, arrays), in_process_dtype(arrays["test_features"]))
    )
    expected = arrays[f"{mode}_dist"]
    # The official code works in float32; its own distance from float64 is 2.5e-7 of the largest entry
    np.testing.assert_allclose(-scores, expected, rtol=0, atol=2.5e-7 * np.abs(expected).max())
    np.testing.assert_array_equal(scores.argmax(axis=1), arrays[f"{mode}_pred"])


@pytest.mark.parametrize("mode", MODES)
def test_float32_predicts_what_the_official_code_predicts(golden, mode):
    arrays = golden("incremental/fecam.npz")
    head = fecam(**MODES[mode])
    scores = np.asarray(
        score(head, fit_in_two_tasks(head, arrays), in_process_dtype(arrays["test_features"]))
    )
    expected = arrays[f"{mode}_dist"]
    # Float32 times the condition number of the covariance, some hundreds without shrinkage
    np.testing.assert_allclose(-scores, expected, rtol=0, atol=5e-5 * np.abs(expected).max())
    np.testing.assert_array_equal(scores.argmax(axis=1), arrays[f"{mode}_pred"])


@pytest.mark.usefixtures("x64")
def test_covariances_are_shrunk_twice_and_normalised_as_in_the_official_code(golden):
    arrays = golden("incremental/fecam.npz")
    state = fit_in_two_tasks(fecam(), arrays)
    precision = np.einsum("cki,ckj->cij", state.whitening, state.whitening)
    # Its Tukey transform is in float32, 6e-8 a feature
    np.testing.assert_allclose(np.linalg.inv(precision), arrays["cov_used"], rtol=0, atol=1e-7)


@pytest.mark.usefixtures("x64")
def test_distances_from_given_covariances_are_exact(golden):
    arrays = golden("incremental/fecam.npz")
    # gamma 0 leaves a matrix that is shrunk and normalised already as it is
    whitening = whiten(fecam(gamma1=0.0, gamma2=0.0), arrays["cov_used"])
    head = fecam()
    state = init(head, 9, 16)._replace(
        means=in_process_dtype(arrays["prototypes"]), whitening=whitening, counts=np.ones(9, np.int32)
    )
    # The reference scales the features to length one in float32 before it goes on in float64
    features = arrays["test_features"]
    features = features / (np.linalg.norm(features, axis=1, keepdims=True) + np.float32(1e-8))
    scores = np.asarray(score(head, state, in_process_dtype(features)))
    expected = arrays["default_dist_f64"]
    np.testing.assert_allclose(-scores, expected, rtol=0, atol=1e-10 * expected.max())


def relu_features(rows, dim, seed=0):
    return np.maximum(np.random.default_rng(seed).normal(0.3, 1, (rows, dim)), 0).astype(np.float32)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_class_with_fewer_images_than_features_has_finite_scores(rows):
    head = fecam()
    features = relu_features(5, 64)
    features[:, :7] = 0  # features that never fire
    labels = np.where(np.arange(5) < rows, 1, -1).astype(np.int32)
    state = update(head, init(head, 3, 64), features, labels)
    assert np.isfinite(np.asarray(score(head, state, relu_features(20, 64, 1)))[:, 1]).all()


@pytest.mark.parametrize("correlation", [True, False])
def test_a_singular_covariance_without_shrinkage_still_has_a_factor(correlation):
    head = fecam(gamma1=0.0, gamma2=0.0, correlation=correlation)
    state = update(head, init(head, 3, 64), relu_features(10, 64), np.full(10, 1, np.int32))
    assert np.isfinite(np.asarray(state.whitening)).all()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["alike", "opposed"])
def test_any_shrinkage_adds_a_definite_matrix(sign):
    # Two live features of eight, of covariance +-1, and a gamma2 far above gamma1
    matrix = np.zeros((8, 8))
    matrix[:2, :2] = [[1, sign], [sign, 1]]
    added = np.asarray(shrink(matrix, np.float64(0.5), np.float64(50.0))) - matrix
    # gamma1 times the mean variance is an eighth; a tenth of it is promised
    assert np.linalg.eigvalsh(added).min() > 0.0125 * (1 - 1e-9)


def test_a_class_of_mostly_dead_features_has_finite_scores_under_strong_shrinkage():
    rng = np.random.default_rng(0)
    features = np.zeros((30, 512), np.float32)
    features[:, :12] = np.maximum(rng.normal(1, 1, (30, 1)) + 0.3 * rng.normal(size=(30, 12)), 0)
    head = fecam(gamma2=5.0)
    state = update(head, init(head, 1, 512), features, np.zeros(30, np.int32))
    assert np.isfinite(np.asarray(state.whitening)).all()


def test_scaling_all_features_changes_nothing():
    # The Tukey transform of c f is c^beta g(f): it scales the covariance, which (3) makes scale-free
    head, features = fecam(), relu_features(40, 8)
    labels = (np.arange(40) % 3).astype(np.int32)
    one = update(head, init(head, 3, 8), features, labels)
    nine = update(head, init(head, 3, 8), 9 * features, labels)
    np.testing.assert_allclose(score(head, nine, features), score(head, one, features), rtol=1e-4)


def test_a_bound_on_the_images_of_a_class_changes_nothing_but_rounding():
    features = relu_features(60, 8)
    labels = (np.arange(60) % 3).astype(np.int32)
    scores = []
    for bound in (None, 20, 33):
        head = fecam(images_per_class=bound)
        state = update(head, init(head, 3, 8), features, labels)
        scores.append(score(head, state, features))
    # Rows of zeros are added to sums: only the order of the additions may differ
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-5)
    np.testing.assert_allclose(scores[2], scores[0], rtol=1e-5)


def test_a_class_larger_than_the_bound_is_refused():
    head = fecam(images_per_class=19)
    with pytest.raises(ValueError, match="has 20 images"):
        head.update(
            init(head, 3, 8), jnp.asarray(relu_features(60, 8)), jnp.asarray(np.arange(60) % 3, jnp.int32)
        )


def test_negative_features_are_refused_unless_the_transform_is_off():
    features, labels = jnp.asarray(-relu_features(20, 8)), jnp.asarray(np.zeros(20, np.int32))
    state = init(fecam(), 1, 8)
    with pytest.raises(ValueError, match="ReLU"):
        fecam().update(state, features, labels)
    with pytest.raises(ValueError, match="ReLU"):
        fecam().scores(state, features)
    head = fecam(beta=1.0)
    head.check_features(features)
    state = update(head, init(head, 1, 8), features, labels)
    assert np.isfinite(np.asarray(score(head, state, features))).all()


@pytest.mark.parametrize("setting", [{"beta": 0.0}, {"gamma1": -1.0}, {"gamma2": -0.1}])
def test_a_hyperparameter_out_of_range_is_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        fecam(**setting)


@pytest.mark.parametrize(
    "arguments", [{"preset": "offical"}, {"mode": "perclass"}, {"first_task": "classifer"}]
)
def test_an_unknown_name_is_refused_with_the_nearest(arguments):
    with pytest.raises(ValueError, match="Did you mean"):
        fecam(**arguments)


@pytest.mark.usefixtures("x64")
def test_the_common_covariance_is_that_of_the_official_code(golden):
    arrays = golden("incremental/fecam.npz")
    state = fit_in_two_tasks(fecam(mode="common"), arrays)
    # Its Tukey transform is in float32, 6e-8 a feature
    np.testing.assert_allclose(state.covariance, arrays["cov_common"], rtol=0, atol=1e-7)


@pytest.mark.usefixtures("x64")
def test_distances_of_wide_features_are_those_of_the_inverse_covariance():
    # 300 features: three blocks of columns, the last one narrower
    rng = np.random.default_rng(0)
    features, prototypes = rng.normal(size=(6, 300)), rng.normal(size=(2, 300))
    factors = np.tril(rng.normal(size=(2, 300, 300)) / 20) + np.eye(300)
    distances = whitened_distances(features, prototypes, factors)
    for c in range(2):
        inverse = factors[c].T @ factors[c]
        expected = [(f - prototypes[c]) @ inverse @ (f - prototypes[c]) for f in features]
        np.testing.assert_allclose(distances[:, c], expected, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_the_inverse_factor_of_a_wide_covariance_is_lower_triangular_and_exact():
    # 150 features are halved twice
    rows = np.random.default_rng(0).normal(size=(400, 150))
    matrix = rows.T @ rows / 400
    factor = np.asarray(inverse_factor(matrix))
    np.testing.assert_array_equal(factor, np.tril(factor))
    # The condition number is about 20; the jitter is 150 eps
    np.testing.assert_allclose(factor @ matrix @ factor.T, np.eye(150), atol=1e-11)
