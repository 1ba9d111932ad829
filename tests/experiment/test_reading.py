"""Readings of a frozen extractor over the tasks of a scenario: what is measured, compiled and kept."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil import heads, keys
from jaxcil.data.scenario import make_scenario
from jaxcil.errors import InputError
from jaxcil.experiment import reading
from jaxcil.experiment.benchmark import Benchmark, Split
from jaxcil.experiment.pool import ImagePool
from jaxcil.experiment.reading import FrozenFeatures, Measurements
from jaxcil.experiment.variants import VARIANTS
from jaxcil.learners import frozen
from jaxcil.learners.frozen import Frozen, FrozenState
from jaxcil.training import tasks as training
from jaxcil.training.checkpoint import Checkpoints

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
CLASSES, DIM, IMAGES = 25, 8, 4  # of a class, for training; half as many for testing


@functools.cache
def head_of(name):
    """Heads that tests share, and so their programs."""
    return {
        "ncm": lambda: heads.ncm(),
        "fecam": lambda: heads.fecam(images_per_class=IMAGES),
        "classifier first": lambda: heads.fecam(images_per_class=IMAGES, first_task="classifier"),
        "fetril": lambda: heads.fetril(classifier="ridge", images_per_class=IMAGES),
    }[name]()


class Network(NamedTuple):
    """In the place of a network's state."""

    output: Any  # "weights" for the feature dimension, "scores" of the test images


@dataclasses.dataclass(frozen=True)
class OutputLayer:
    """In the place of a training: an output layer that gives the scores of its state."""

    num_classes: int = CLASSES
    steps: int = 1

    def readings(self, network, features):
        return {"cnn": network.output["scores"]}


class Computed(NamedTuple):
    """In the place of `FrozenFeatures`."""

    train: list
    test: list

    def features(self, learner, state, run, rows, view):
        return self.train[run][rows]


def rows_of(seed, images):
    labels = np.repeat(np.arange(CLASSES, dtype=np.int32), images)
    centres = np.random.default_rng(0).normal(size=(CLASSES, DIM))
    noise = np.random.default_rng([seed, images]).normal(size=(len(labels), DIM))
    return jnp.asarray(np.abs(centres[labels] + 0.5 * noise), jnp.float32), labels


def benchmark_of(classes_per_task):
    names = [f"class {n}" for n in range(CLASSES)]
    scenario = make_scenario(names, classes_per_task, classes_per_task, class_order="label-order")
    splits = (Split(rows_of(0, images)[1]) for images in (IMAGES, IMAGES // 2))
    return Benchmark(scenario, *splits, (8, 8))


def learn(head, classes_per_task=5, seeds=(3, 5), store=None, first_scores=None, pause=lambda: None):
    """What one head is worth, as a lane measures it."""
    benchmark = benchmark_of(classes_per_task)
    learner = Frozen(training=OutputLayer(), heads={"head": head})
    computed = Computed(
        [rows_of(seed, IMAGES)[0] for seed in seeds], [rows_of(seed + 100, IMAGES // 2)[0] for seed in seeds]
    )
    scores = first_scores or [jnp.zeros((CLASSES * IMAGES // 2, CLASSES))] * len(seeds)
    weights = jnp.zeros((CLASSES, DIM))
    states = [FrozenState(Network({"weights": weights, "scores": of_run}), {}) for of_run in scores]
    _, found = training.learn(
        learner,
        states,
        ImagePool(benchmark, None).tasks(VARIANTS["plain"]),
        computed,
        [keys.root_key(seed) for seed in seeds],
        training.Surroundings(pause=pause),
        runs_phase=lambda phase: getattr(phase, "reading", None) == "head",
        measured={"head": reading.nothing_measured(len(seeds), benchmark.scenario)},
        measure=reading.measure(learner, benchmark, lambda state, run, task: computed.test[run]),
        store=store,
    )
    return Measurements(*found["head"])


@dataclasses.dataclass(frozen=True, eq=False)
class Untrained:
    """A head that learns nothing and gives the scores that it is made with."""

    given: Any
    scores_are_logits: bool = False

    def init(self, num_classes, dim, key):
        return jnp.zeros(1)

    def update(self, state, features, labels, key):
        return state

    def scores(self, state, features):
        return jnp.asarray(self.given)


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("name", ["ncm", "fetril"])
def test_five_and_twenty_five_tasks_and_two_seeds_compile_the_same_two_programs(name):
    head = head_of(name)
    for classes_per_task in (5, 1):
        frozen._compiled.cache_clear()
        measured = learn(head, classes_per_task)
        assert measured.accuracy_matrix.shape[1] == CLASSES // classes_per_task
        programs = frozen._programs(head)
        assert programs.update._cache_size() == programs.scores._cache_size() == 1


def test_the_last_task_of_an_order_free_head_measures_what_all_classes_at_once_give():
    head = head_of("ncm")
    measured = learn(head, seeds=(3,))
    (train, labels), (test, classes) = rows_of(3, IMAGES), rows_of(103, IMAGES // 2)
    state = head.update(head.init(CLASSES, DIM), train, jnp.asarray(labels))
    predicted = np.asarray(head.scores(state, test)).argmax(-1)
    right = predicted == classes
    np.testing.assert_array_equal(
        np.diag(measured.confusion[0]), np.bincount(classes[right], minlength=CLASSES)
    )
    by_task = right.reshape(5, -1).mean(1)
    np.testing.assert_allclose(measured.accuracy_matrix[0, -1], by_task)
    assert np.isnan(measured.accuracy_matrix[0][np.triu_indices(5, 1)]).all()
    assert measured.top_5_accuracy[0, 0] == 1  # five classes seen
    assert measured.top_5_accuracy[0, -1] >= by_task.mean()


def test_a_seed_alone_is_measured_as_it_is_among_others():
    both, alone = learn(head_of("ncm")), learn(head_of("ncm"), seeds=(5,))
    assert not np.array_equal(both.accuracy_matrix[0], both.accuracy_matrix[1], equal_nan=True)
    for of_both, of_one in zip(both, alone):
        np.testing.assert_array_equal(of_both[1], of_one[0])


class Stop(Exception):
    """In the place of a kill."""


@pytest.mark.parametrize("task", [1, 3])
def test_a_head_stopped_within_a_task_resumes_there_to_the_same_bits(task, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SECONDS_PER_STATE", 0.0)
    whole = learn(head_of("fecam"))
    pauses = []

    def stopping():
        pauses.append(len(pauses))
        if len(pauses) == 2 * task + 2:  # each task is fitted and measured, and the first has one phase more
            raise Stop

    with Checkpoints(tmp_path) as store, pytest.raises(Stop):
        learn(head_of("fecam"), store=store, pause=stopping)
    learned = []
    with Checkpoints(tmp_path) as store:
        measured = learn(head_of("fecam"), store=store, pause=lambda: learned.append(None))
    assert_equal(measured, whole)
    assert len(pauses) + len(learned) == 2 * 5 + 1


def test_what_was_measured_survives_json():
    measured = learn(head_of("ncm"), seeds=(3,))
    scenario = benchmark_of(5).scenario
    assert_equal(reading.from_json(reading.to_json(measured), 1, scenario), measured)


def edited(change):
    value = reading.to_json(reading.nothing_measured(1, benchmark_of(5).scenario))
    change(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        edited(lambda value: value.pop("confusion")),
        edited(lambda value: value["accuracy_matrix"][0].pop()),
        edited(lambda value: value["accuracy_matrix"].append(value["accuracy_matrix"][0])),
        edited(lambda value: value["accuracy_matrix"][0][0].__setitem__(0, 5.0)),
        edited(lambda value: value["top_5_accuracy"][0].__setitem__(0, -0.1)),
        edited(lambda value: value["top_5_accuracy"][0].__setitem__(0, "high")),
        edited(lambda value: value["calibration_error"][0].__setitem__(0, 1.5)),
        edited(lambda value: value["confusion"][0][0].__setitem__(0, -1)),
        edited(lambda value: value["confusion"][0][0].__setitem__(0, 0.5)),
    ],
)
def test_what_is_not_of_the_runs_tasks_and_classes_or_out_of_range_is_not_read(value):
    assert reading.from_json(value, 1, benchmark_of(5).scenario) is None


def test_calibration_is_measured_of_logits_only():
    _, labels = rows_of(0, IMAGES // 2)
    sure_and_right = np.where(np.eye(CLASSES, dtype=bool)[labels], 0.0, -1e3)
    # a softmax of it is sure of one class, and that is the right one
    measured = learn(Untrained(sure_and_right, scores_are_logits=True), seeds=(3,))
    np.testing.assert_array_equal(measured.calibration_error, 0)
    measured = learn(Untrained(sure_and_right), seeds=(3,))
    assert np.isnan(measured.calibration_error).all()
    assert measured.accuracy_matrix[0, -1, -1] == 1


def test_the_first_point_is_that_of_the_output_layer_where_the_head_asks_for_it():
    labels = np.repeat(np.arange(CLASSES), IMAGES // 2)
    # the output layer of the first seed is right in all cases, that of the second in those of class 0 alone
    given = [jnp.eye(CLASSES)[labels], jnp.eye(CLASSES)[np.zeros_like(labels)]]
    plain, asking = (
        learn(head_of("fecam"), first_scores=given),
        learn(head_of("classifier first"), first_scores=given),
    )
    np.testing.assert_allclose(asking.accuracy_matrix[:, 0, 0], [1, 0.2])
    assert_equal(plain, learn(head_of("fecam")))
    for one, other in zip(asking, plain):
        np.testing.assert_array_equal(one[:, 1:], other[:, 1:])


@jax.tree_util.register_static
class Dark:
    """In the place of a learner: features are 1, and those of black images are its state."""

    def features(self, state, images):
        return jnp.where(images[:, 0, 0] < 0, state, 1.0)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("train", "training features, seed 2 of 2: NaN or infinity in row 3"),
        ("test", "test features, seed 2 of 2: NaN or infinity in row 3"),
    ],
)
def test_features_that_are_not_finite_are_refused_by_row_and_seed(split, message):
    benchmark = benchmark_of(5)
    splits = {}
    for name in ("train", "test"):
        images = np.full((len(getattr(benchmark, name).labels), 1, 1, 3), 255, np.uint8)
        images[3] = 0 if name == split else 255
        splits[name] = getattr(benchmark, name)._replace(images=images)
    pool = ImagePool(benchmark._replace(**splits), None)
    with pytest.raises(InputError, match=message):
        FrozenFeatures(Dark(), [jnp.float32(1), jnp.float32(np.inf)], pool)


def test_signed_features_are_refused_by_a_head_that_takes_none():
    learner = Frozen(training=OutputLayer(), heads={"fecam": head_of("fecam")})
    state = FrozenState(Network({"weights": jnp.zeros((CLASSES, DIM))}), {})
    (fit,) = learner.phases(1)
    state = fit.start(learner, state, keys.root_key(0))
    features = {"task": {"images": -jnp.ones((4, DIM))}}
    with pytest.raises(InputError, match=r"FeCAM.* as they come after a ReLU"):
        fit.fit(learner, state, features, {"task": jnp.zeros(4, jnp.int32)}, None, keys.root_key(0))


@pytest.mark.parametrize(("value", "task"), [(np.nan, 0), (-np.inf, 1)], ids=["nan", "unlearned"])
def test_scores_that_are_not_finite_name_reading_task_and_seed(value, task):
    scores = np.zeros((50, CLASSES))
    scores[6, 7] = value  # a class of the second task: before it, -inf is right
    message = rf"head, task {task}, seed 1 of 2: .* got {value} for test row 6, class 7"
    with pytest.raises(InputError, match=message):
        learn(Untrained(scores))
