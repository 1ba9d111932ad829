import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from jaxcil.heads import fetril

pytestmark = pytest.mark.usefixtures("strict_dtypes")

update = jax.jit(lambda head, *arguments: head.update(*arguments))  # one program a preset for the whole file


def fit_in_two_tasks(head, arrays):
    features, labels = (
        jnp.asarray(arrays["train_features"], float),
        jnp.asarray(arrays["train_labels"], jnp.int32),
    )
    state = head.init(9, 16)
    for task in (labels < 5, labels >= 5):
        state = update(head, state, features, jnp.where(task, labels, -1))
    return state


def second_task(head, arrays):
    features, labels = (
        jnp.asarray(arrays["train_features"], float),
        jnp.asarray(arrays["train_labels"], jnp.int32),
    )
    new = jnp.arange(9) >= 5
    means = fit_in_two_tasks(head, arrays).means
    rows, owners = jax.jit(head.pseudo_features)(
        features, jnp.where(labels >= 5, labels, -1), means, new=new, seen=jnp.ones(9, bool)
    )
    return np.asarray(rows)[np.asarray(owners) >= 0], np.asarray(owners)[np.asarray(owners) >= 0]


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("preset", ["official", "pycil"])
def test_source_classes_are_those_of_the_reference(golden, preset):
    arrays = golden("incremental/fetril.npz")
    name = {"official": "source_class_euclidean", "pycil": "source_class_cosine"}[preset]
    source = fetril(preset).source_classes(jnp.asarray(arrays["means"], float), jnp.arange(9) >= 5)
    np.testing.assert_array_equal(source[:5], arrays[name][:5])
    np.testing.assert_array_equal(source[5:], np.arange(5, 9))


def test_the_presets_choose_by_distance_and_by_angle():
    # The old class (10, 0): a new one in its direction but far away, another nearer but turned
    means, new = jnp.array([[10.0, 0.0], [1.0, 0.0], [9.0, 5.0]]), jnp.array([False, True, True])
    assert fetril("official", images_per_class=40).source_classes(means, new)[0] == 2
    assert fetril("pycil", images_per_class=40).source_classes(means, new)[0] == 1


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("preset", ["official", "pycil"])
def test_training_rows_are_those_of_the_reference(golden, preset):
    arrays = golden("incremental/fetril.npz")
    rows, owners = second_task(fetril(preset, images_per_class=40), arrays)
    order = np.argsort(arrays[f"{preset}_train_labels"], kind="stable")
    np.testing.assert_array_equal(owners, arrays[f"{preset}_train_labels"][order])
    expected = unit(arrays[f"{preset}_train_features"][order].astype(np.float64))
    np.testing.assert_allclose(
        rows, expected, rtol=0, atol=7e-7 * np.abs(expected).max()
    )  # their means are float32


@pytest.mark.usefixtures("x64")
def test_the_classifier_is_the_exact_optimum_of_the_official_problem(golden):
    arrays = golden("incremental/fetril.npz")
    head = fetril("official", images_per_class=40)
    state = fit_in_two_tasks(head, arrays)
    scores = np.asarray(head.scores(state, jnp.asarray(arrays["test_features"], float)))
    for ours, name in (
        (state.weights[:, :-1], "exact_svm_weight"),
        (state.weights[:, -1], "exact_svm_bias"),
        (scores, "exact_svm_decision"),
    ):
        np.testing.assert_allclose(ours, arrays[name], rtol=0, atol=1e-6 * np.abs(arrays[name]).max())
    np.testing.assert_array_equal(scores.argmax(axis=1), arrays["exact_svm_pred"])


@pytest.mark.usefixtures("x64")
def test_pycil_preset_predicts_what_pycil_predicts(golden):
    arrays = golden("incremental/fetril.npz")
    head = fetril("pycil", images_per_class=40)
    scores = np.asarray(
        head.scores(fit_in_two_tasks(head, arrays), jnp.asarray(arrays["test_features"], float))
    )
    np.testing.assert_array_equal(scores.argmax(axis=1), arrays["pycil_svm_pred"])
    # Its solver stops at a tolerance of 1e-4
    expected = arrays["pycil_svm_decision"]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-3 * np.abs(expected).max())


def test_float32_decides_as_float64_does(golden):
    arrays = golden("incremental/fetril.npz")
    head = fetril("official", images_per_class=40)
    scores = np.asarray(head.scores(fit_in_two_tasks(head, arrays), jnp.asarray(arrays["test_features"])))
    expected = arrays["exact_svm_decision"]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.usefixtures("x64")
def test_pseudo_features_of_an_old_class_have_its_mean_before_scaling():
    # With a constant feature of great size, scaling to length one is division by one number
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(size=(60, 4)), np.full((60, 1), 1e6)], axis=1)
    labels = np.repeat(np.arange(3, dtype=np.int32), 20)
    means = features.reshape(3, 20, 5).mean(axis=1)
    rows, owners = jax.jit(fetril(images_per_class=20).pseudo_features)(
        jnp.asarray(features[20:]),
        jnp.asarray(labels[20:]),
        jnp.asarray(means),
        new=jnp.arange(3) >= 1,
        seen=jnp.ones(3, bool),
    )
    np.testing.assert_allclose(
        1e6 * np.asarray(rows)[np.asarray(owners) == 0].mean(axis=0)[:4],
        means[0, :4],
        atol=1e-5,  # lengths differ from 1e6 by parts in 1e12; float64 rounds 1e6 at 1e-10
    )


def test_under_jit_a_missing_bound_on_the_images_of_a_class_is_explained():
    with pytest.raises(ValueError, match="images_per_class"):
        jax.jit(fetril().update)(fetril().init(2, 3), jnp.ones((4, 3)), jnp.array([0, 0, 1, 1]))


@pytest.mark.usefixtures("x64")
def test_rows_of_fc_are_the_unscaled_ones_of_pycil(golden):
    arrays = golden("incremental/fetril.npz")
    head = fetril("pycil", classifier="fc", images_per_class=40)
    labels = jnp.asarray(arrays["train_labels"], jnp.int32)
    rows, owners = (
        np.asarray(part)
        for part in head.pseudo_features(
            jnp.asarray(arrays["train_features"], float),
            jnp.where(labels >= 5, labels, -1),
            jnp.asarray(arrays["means"], float),
            new=jnp.arange(9) >= 5,
            seen=jnp.ones(9, bool),
        )
    )
    order = np.argsort(arrays["pycil_train_labels"], kind="stable")
    expected = arrays["pycil_train_features"][order]
    np.testing.assert_allclose(rows[owners >= 0], expected, rtol=0, atol=7e-7 * np.abs(expected).max())


def test_fc_goes_on_from_the_weights_of_the_task_before(golden):
    arrays = golden("incremental/fetril.npz")
    # A learning rate of nothing leaves the classifier where it starts
    still = fetril(classifier="fc", learning_rate=1e-30, epochs=1, images_per_class=40)
    features, labels = jnp.asarray(arrays["train_features"]), jnp.asarray(arrays["train_labels"], jnp.int32)
    first = update(still, still.init(9, 16), features, jnp.where(labels < 5, labels, -1), jax.random.key(0))
    second = update(still, first, features, jnp.where(labels >= 5, labels, -1), jax.random.key(1))
    np.testing.assert_allclose(second.weights[:5], first.weights[:5], atol=1e-25)
    new = np.asarray(second.weights[5:])
    np.testing.assert_allclose(new[:, -1], 0, atol=1e-25)
    assert 0 < np.abs(new[:, :-1]).max() <= (3 / 16) ** 0.5  # PyCIL's uniform start


def test_fc_finds_what_the_support_vectors_find(golden):
    arrays = golden("incremental/fetril.npz")
    head = fetril("pycil", classifier="fc", images_per_class=40)
    features, labels = jnp.asarray(arrays["train_features"]), jnp.asarray(arrays["train_labels"], jnp.int32)
    state = head.init(9, 16)
    for task in (labels < 5, labels >= 5):
        state = update(head, state, features, jnp.where(task, labels, -1), jax.random.key(0))
    found = np.asarray(head.scores(state, jnp.asarray(arrays["test_features"]))).argmax(axis=1)
    # Two classifiers of the same rows: PyCIL reports them within a point of each other; 90 rows here
    accuracy = (found == arrays["test_labels"]).mean()
    assert accuracy > arrays["pycil_svm_test_accuracy_percent"] / 100 - 0.05


@pytest.mark.usefixtures("x64")
def test_the_ridge_classifier_is_that_of_scikit_learn(golden):
    arrays = golden("incremental/fetril.npz")
    head = fetril("official", classifier="ridge", ridge=0.3, images_per_class=40)
    state = fit_in_two_tasks(head, arrays)
    rows, owners = unit(arrays["official_train_features"]), arrays["official_train_labels"]
    # A constant feature of ones stands for the intercept, which is regularised too
    rows = np.append(rows, np.ones((len(rows), 1)), axis=1)
    peer = Ridge(alpha=0.3, fit_intercept=False).fit(rows, np.eye(9)[owners])
    np.testing.assert_allclose(state.weights, peer.coef_, rtol=0, atol=1e-6)  # the stored means are float32


def test_a_source_distance_of_its_own_takes_the_place_of_the_presets():
    means, new = jnp.array([[10.0, 0.0], [1.0, 0.0], [9.0, 5.0]]), jnp.array([False, True, True])
    assert fetril("official", source="cosine").source_classes(means, new)[0] == 1
    assert fetril("pycil", source="euclidean").source_classes(means, new)[0] == 2


@pytest.mark.usefixtures("x64")
def test_float64_takes_a_regularisation_that_float32_does_not():
    assert fetril(regularisation=1e4).classifier.regularisation == 1e4


def test_fc_needs_a_key():
    head = fetril(classifier="fc", images_per_class=4)
    with pytest.raises(ValueError, match="key"):
        jax.eval_shape(head.update, head.init(2, 3), jnp.ones((4, 3)), jnp.array([0, 0, 1, 1]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "oficial"}, "mean 'official'"),
        ({"classifier": "scm"}, "mean 'svm'"),
        ({"source": "cosin"}, "mean 'cosine'"),
        ({"regularisation": 0.0}, "regularisation"),
        ({"regularisation": 1e4}, "at most 1000 in float32, got 10000"),
        ({"regularisation": np.array([1.0, 2e3])}, "got 2000"),
        ({"ridge": -1.0}, "ridge"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"weight_decay": -1e-4}, "weight_decay"),
        ({"epochs": 0}, "epochs"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        fetril(**arguments)
