"""What every learner must do. A new learner is one line in LEARNERS."""

import contextlib
import functools
import itertools
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil import keys
from jaxcil.data.augmentation.augmentation import to_float
from jaxcil.errors import InputError
from jaxcil.experiment.fields import LaterTrainingSettings, MemorySettings
from jaxcil.learners.bic import bic
from jaxcil.learners.der import der
from jaxcil.learners.finetune import finetune
from jaxcil.learners.foster import foster
from jaxcil.learners.fpcil import fpcil
from jaxcil.learners.frozen import frozen, supervised
from jaxcil.learners.icarl import icarl
from jaxcil.learners.joint import joint
from jaxcil.learners.lucir import lucir
from jaxcil.learners.lwf import lwf
from jaxcil.learners.podnet import podnet
from jaxcil.learners.replay import replay
from jaxcil.learners.sddr import sddr
from jaxcil.learners.wa import wa
from jaxcil.parallel import mesh as meshes
from jaxcil.training import loop, tasks
from jaxcil.training.checkpoint import Checkpoints
from jaxcil.training.learner import Batch, Training
from jaxcil.training.optimizer import sgd

KEEP_TRAINING = {
    "finetune": finetune,
    "replay": replay,
    "joint": joint,
    "lwf": lwf,
    "icarl": icarl,
    "icarl bce": lambda setup: icarl(setup, loss="bce"),
    "lucir": lambda setup: lucir(setup, balanced=True, balanced_epochs=2),
    "podnet": lambda setup: podnet(setup, proxies=2, balanced_epochs=2),
    "podnet cnn": lambda setup: podnet(setup, preset="cnn", proxies=2, balanced_epochs=2),
    "podnet pycil": lambda setup: podnet(setup, preset="pycil", proxies=2, balanced_epochs=2),
    "wa": wa,
    "bic": lambda setup: bic(setup, aside=0.3),
    "der": lambda setup: der(setup, warmup_epochs=2, head_epochs=2),
    "der pycil": lambda setup: der(setup, form="pycil"),
    "foster": lambda setup: foster(setup, beta_boosting=(0.9, 0.8), compression_epochs=2),
}
# Slow ones: further forms of learners that are in the table, and those that differ from others in a loss alone
FURTHER = (
    *("icarl bce", "podnet cnn", "podnet pycil", "der pycil", "fpcil of icarl"),
    *("finetune", "joint", "lwf", "wa"),
)
ONCE_PER_TASK = ("der", "der pycil")  # compile programs of more branches
LEARNERS = {
    "supervised": supervised,
    "frozen": frozen,
    "fpcil": lambda setup: fpcil(frozen(setup), loss_weight=0.5, batch_fraction=0.4),
    **KEEP_TRAINING,
    "fpcil of icarl": lambda setup: fpcil(icarl(setup), loss_weight=0.5, batch_fraction=0.4),
}
STOPS = range(1, 8) if os.environ.get("JAXCIL_SLOW") else (3, 6)  # eighths of all there is to do


def table(names):
    """Parameters of a test; FURTHER ones are slow."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in FURTHER), id=name) for name in names]


FUTURE = (2, 3, 4, 5)  # labels of auxiliary images
PAST = (0, 0, 1, 1, 2, 2, 3, 3)
LOWERED = "/jax/core/compile/jaxpr_to_mlir_module_duration"  # jax's event for every program that is new to a process

pytestmark = pytest.mark.usefixtures("strict_dtypes")


class Observed(NamedTuple):
    """What was seen of a learner in three tasks, and its compiled programs."""

    scores: list  # (seen, {reading: [M, C]}, the first reading's by `scores`) after each task
    kinds: list  # types of the state's leaves after each task
    lowered: list  # programs that were new in each task
    states: list
    programs: dict


@pytest.fixture(scope="module", params=table(LEARNERS))
def learner(request, small_run):
    """Each learner, with everything on that is a number."""
    optimizer = sgd(0.05, 5e-4, schedule="step", milestones=(1,))
    later = LaterTrainingSettings(steps=2, learning_rate=0.05, schedule="step", milestones=(1,))
    setup = small_run.setup(optimizer=optimizer, label_smoothing=0.1, average_decay=0.9, later_training=later)
    return LEARNERS[request.param](setup)


@pytest.fixture(scope="module")
def observed(learner, small_run):
    """One run, which several tests look at."""
    images = to_float(jnp.asarray(small_run.pool(FUTURE).benchmark.test.images))
    lowered, seen = [], Observed([], [], [], [], {})

    def count(event, seconds, **_):
        lowered.extend([event] * (event == LOWERED))

    def measure(measured, task, states):
        seen.lowered.append(len(lowered))
        for state in states:
            readings = learner.readings(state, learner.features(state, images))
            seen.scores.append((task.seen, readings, learner.scores(state, images)))
        seen.kinds.append(jax.tree.map(jax.typeof, states))
        lowered.clear()
        return measured

    surroundings = tasks.Surroundings(chunk=2)
    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        with jax.numpy_dtype_promotion("strict"):
            states, _ = small_run.learn(learner, FUTURE, surroundings=surroundings, measure=measure)
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    return seen._replace(states=states, programs=surroundings.programs)


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def differ(one, other):
    return any(not np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True))


def make_batch(taken, clock):
    return Batch(*taken, jnp.ones(len(taken.labels)), jnp.ones(len(taken.labels)), *clock)


def first_training(small_run, learner):
    """The first training of a learner, its state before the first step, and a batch's rows."""
    task, key = small_run.tasks(FUTURE)[0], keys.root_key(0)
    (state,) = small_run.states(learner)
    training = next(phase for phase in learner.phases(0) if isinstance(phase, Training))
    parts = training.parts(learner, state, task, key)
    data = small_run.pool(FUTURE).batches(task, parts, 3, None)
    begun = loop.begin(training.begin, learner, state, jax.tree.map(jnp.asarray, task), key)
    return training, begun, data, np.concatenate([part.rows[: part.size] for part in parts])


def test_after_each_task_seen_classes_have_finite_scores_and_unseen_ones_are_never_predicted(
    learner, observed
):
    assert len(observed.scores) == 3
    for seen, readings, first in observed.scores:
        assert tuple(readings) == learner.reading_names
        for scores in readings.values():
            assert np.isfinite(np.asarray(scores)[:, seen]).all()
            assert np.isneginf(np.asarray(scores)[:, ~seen]).all()
        np.testing.assert_array_equal(first, readings[learner.reading_names[0]])


def test_the_state_keeps_its_structure_shapes_and_dtypes(observed):
    assert observed.kinds[0] == observed.kinds[1] == observed.kinds[2]
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(observed.states)}
    assert dtypes <= {jnp.dtype("float32"), jnp.dtype("int32"), jnp.dtype("bool")}


def test_the_last_task_runs_the_programs_of_those_before(observed, request):
    new, sizes = observed.lowered, {program._cache_size() for program in observed.programs.values()}
    assert new[0] > 0
    if request.node.callspec.id in ONCE_PER_TASK:
        assert 0 < new[2] <= new[1]
    else:
        assert new[2] == 0
        assert sizes == {1}


def test_equal_keys_give_equal_bits_and_another_key_others(learner, observed, small_run):
    surroundings = tasks.Surroundings(2, programs=observed.programs)
    one, again, other = (
        small_run.learn(learner, FUTURE, seeds=(seed,), count=2, surroundings=surroundings)[0][0]
        for seed in (0, 0, 1)
    )
    assert_equal(one, again)
    assert differ(one, other)


def interrupted_at(stop):
    """Surroundings that stop at a pause or a report of a training, by its number."""
    numbers = itertools.count()

    def maybe_stop(*_):
        if next(numbers) == stop:
            raise KeyboardInterrupt

    return {"pause": maybe_stop, "watch": watch_by(maybe_stop)}


def watch_by(function):
    """What calls a function with each report of a training."""

    @contextlib.contextmanager
    def watch(name, total, done):
        yield function

    return watch


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_work_that_is_interrupted_anywhere_resumes_to_the_same_bits(
    learner, observed, small_run, tmp_path, monkeypatch
):
    monkeypatch.setattr(tasks, "SECONDS_PER_STATE", 0.0)
    events = []
    counting = {"pause": lambda: events.append(1), "watch": watch_by(lambda *_: events.append(1))}
    surroundings = tasks.Surroundings(2, programs=observed.programs, **counting)
    finished, _ = small_run.learn(learner, FUTURE, count=2, surroundings=surroundings)
    for eighths in STOPS:
        folder, stop = tmp_path / str(eighths), len(events) * eighths // 8
        surroundings = tasks.Surroundings(2, programs=observed.programs, **interrupted_at(stop))
        with Checkpoints(folder) as store, pytest.raises(KeyboardInterrupt):
            small_run.learn(learner, FUTURE, count=2, surroundings=surroundings, store=store)
        with Checkpoints(folder) as store:
            assert store.done
            surroundings = tasks.Surroundings(2, programs=observed.programs)
            resumed, _ = small_run.learn(learner, FUTURE, count=2, surroundings=surroundings, store=store)
        assert_equal(resumed, finished)


class Recording(tasks.Surroundings):
    """Notes what the first chunk of every training is called with."""

    def program(self, phase):
        compiled = super().program(phase)

        def chunk(*arguments):
            if phase.step not in self.calls:
                self.calls[phase.step] = jax.tree.map(jnp.copy, arguments)
            return compiled(*arguments)

        return chunk


def test_every_number_can_be_swept_by_vmap(learner, observed, small_run):
    surroundings = Recording(2, programs=observed.programs)
    surroundings.calls = {}
    small_run.learn(learner, FUTURE, count=2, surroundings=surroundings)
    leaves, structure = jax.tree.flatten(learner)
    # Two values of each, all in one program
    points = [
        [*leaves[:place], jnp.full_like(jnp.asarray(leaves[place]), value), *leaves[place + 1 :]]
        for place in range(len(leaves))
        for value in (0.01, 0.4)
    ]
    columns = [jnp.stack([jnp.asarray(value, jnp.float32) for value in column]) for column in zip(*points)]
    matter = np.zeros(len(leaves), bool)
    for step, (_, states, data, rows, step_keys, *clock) in surroundings.calls.items():

        def repeated(tree, axis):
            return jax.tree.map(functools.partial(jnp.repeat, repeats=len(points), axis=axis), tree)

        swept = loop.program(step, shared=0, batch=tasks.as_batch)
        given = repeated(states, 0), data, repeated(rows, 1), repeated(step_keys, 0), *clock
        together = swept(jax.tree.unflatten(structure, columns), *given)[0]
        program = observed.programs[step]
        for run, point in enumerate(points):
            own = jax.tree.unflatten(structure, [jnp.asarray(leaf, jnp.float32) for leaf in point])
            alone = program(own, jax.tree.map(jnp.copy, states), data, rows, step_keys, *clock)[0]
            # a program of several runs sums in another order
            jax.tree.map(functools.partial(assert_near, run), together, alone)
        for place in range(len(leaves)):
            matter[place] |= differ(
                *(jax.tree.map(lambda leaf, n=n: leaf[n], together) for n in (2 * place, 2 * place + 1))
            )
    for (path, _), matters in zip(jax.tree_util.tree_leaves_with_path(learner), matter):
        assert matters or without_effect(learner, path), jax.tree_util.keystr(path)


def assert_near(run, together, alone):
    largest = max(1e-2, np.abs(np.asarray(alone[0], np.float64)).max())
    np.testing.assert_allclose(together[run], alone[0], rtol=0, atol=1e-4 * largest)


def without_effect(learner, path):
    """Whether a leaf is the factor at milestones of a schedule without any."""
    *parents, last = path
    if getattr(last, "name", "") != "decay":
        return False
    for entry in parents:
        learner = learner[entry.key] if hasattr(entry, "key") else getattr(learner, entry.name)
    return learner.schedule != "step"


def test_a_step_is_right_for_a_batch_of_any_size(learner, small_run):
    # every image twice: the same means, so the same step
    training, begun, data, rows = first_training(small_run, learner)
    clock = loop.Clock(*map(jnp.int32, (1, 3, 1, 3)))
    step = jax.jit(training.step)

    def after(rows):
        batch = make_batch(jax.tree.map(lambda leaf: leaf[rows], data), clock)
        return step(learner, begun, batch, keys.root_key(0))

    once, twice = after(rows), after(np.concatenate([rows, rows]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), once, twice)


@pytest.mark.slow
@pytest.mark.parametrize("name", KEEP_TRAINING)
def test_four_devices_train_what_one_trains(name, small_run, monkeypatch):
    later = LaterTrainingSettings(steps=2, learning_rate=0.05, batch_size=8)
    learner = KEEP_TRAINING[name](small_run.setup(batch_size=8, later_training=later))

    def trained():
        return small_run.learn(learner, count=2, surroundings=tasks.Surroundings(2))[0][0]

    several, training_mesh = trained(), meshes.training_mesh
    assert training_mesh(batch_size=8).size == 4
    one_device = functools.partial(training_mesh, devices=jax.devices()[:1])
    monkeypatch.setattr(
        meshes,
        "training_mesh",
        lambda runs=1, batch_size=None, resident=0: one_device(runs, batch_size=batch_size),
    )
    for a, b in zip(*map(jax.tree.leaves, (several, trained())), strict=True):
        if a.dtype == jnp.float32:
            largest = max(1e-2, np.abs(np.asarray(b)).max(initial=0))
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-3 * largest)
        else:
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", table(KEEP_TRAINING))
def test_sddr_of_it_sees_past_classes_keeps_none_of_their_images_and_predicts_no_unseen_class(
    name, small_run
):
    learner = sddr(KEEP_TRAINING[name](small_run.setup()), 0.4, 0.5, 0.5)
    real = len(small_run.pool(PAST).labels.real)
    seen = []

    def measure(measured, task, states):
        (state,) = states
        images = to_float(jnp.asarray(small_run.pool(PAST).benchmark.test.images))
        for scores in learner.readings(state, learner.features(state, images)).values():
            assert np.isfinite(np.asarray(scores)[:, task.seen]).all()
            assert np.isneginf(np.asarray(scores)[:, ~task.seen]).all()
        memory = np.asarray(state.memory)
        assert (memory < real).all()
        kept = memory[memory >= 0]
        labels = small_run.pool(PAST).labels.real
        assert (labels[kept] == np.repeat(np.arange(len(memory)), (memory >= 0).sum(1))).all()
        seen.append((memory >= 0).sum(1).tolist())
        return measured

    small_run.learn(learner, PAST, variant="sddr", measure=measure)
    most = 8 if name == "joint" else 3 if learner.learner.exemplars is not None else 0
    assert seen == [[most * (label < 2 * task + 2) for label in range(6)] for task in range(3)]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ("icarl", "podnet") else pytest.mark.slow)
        for name in KEEP_TRAINING
        if name
        not in (
            "finetune",
            "lwf",
            "joint",
            "bic",
        )  # which never have exemplars, always, or refuse to have none
    ],
)
def test_without_exemplars_a_learner_has_its_own_output_alone(name, small_run):
    learner = KEEP_TRAINING[name](small_run.setup(memory=MemorySettings(per_class=0)))
    assert not any(reading.endswith("nme") for reading in learner.reading_names)
    (state,), _ = small_run.learn(learner, FUTURE)
    assert state.memory.shape == (6, 0)
    images = to_float(jnp.asarray(small_run.pool(FUTURE).benchmark.test.images))
    assert tuple(learner.readings(state, learner.features(state, images))) == learner.reading_names


def test_joint_training_has_no_means_of_exemplars(small_run):
    assert joint(small_run.setup()).reading_names == ("cnn",)


def test_bias_correction_always_has_images_that_are_set_aside(small_run):
    learner = bic(
        small_run.setup(memory=MemorySettings(per_class=2)), aside=0.1
    )  # 1.2 images for 4 old classes
    (state,), _ = small_run.learn(learner)
    assert (np.asarray(state.own["aside"]) >= 0).sum(1).tolist() == [1] * 6


def test_an_image_labelled_with_a_class_that_has_not_been_seen_is_refused(small_run):
    learner = sddr(replay(small_run.setup()), 0.4)
    with pytest.raises(InputError, match="labelled 2, a class of no earlier task"):
        learner.phases(1)[1].parts(
            learner,
            small_run.states(learner)[0],
            small_run.tasks((2,), "plain")[1]._replace(auxiliary=np.array([48], np.int32)),
            keys.root_key(0),
        )
