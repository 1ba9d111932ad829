"""The driver: phases in order, their keys, what is saved, and resuming from every state that was saved."""

import contextlib
import functools
import json
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil import keys
from jaxcil.training import tasks
from jaxcil.training.learner import AS_THEY_ARE, Fit, Part, Task, Training, as_they_are, whole
from jaxcil.training.tasks import Data

NUMBERS = np.arange(1.0, 13.0, dtype=np.float32)  # the pool: "images" of one number
ROWS = (10, 7)  # of the two tasks, of which five are in a batch
SEEDS = (0, 1)


class State(NamedTuple):
    total: Any  # of the numbers that all trainings saw
    fitted: Any  # how often a fit was run
    fixed: Any  # what nothing changes
    readings: Any  # {reading: sum of features}


class Chosen:
    """A function that all compiled programs take for the same."""

    def __init__(self, function):
        self.function = function

    def __eq__(self, other):
        return isinstance(other, Chosen)

    def __hash__(self):
        return 0


@flax.struct.dataclass
class Phases:
    """A learner that is nothing but phases."""

    factor: float
    of_task: Chosen = flax.struct.field(pytree_node=False)  # number of a task -> phases

    frozen_after = None

    def phases(self, task_index):
        return self.of_task.function(task_index)


CALLS = []  # on the host, in order: (name of the phase, what, task, data of the key)


def note(name, what, task, key=None):
    CALLS.append(
        (name, what, int(task.index), None if key is None else tuple(jax.random.key_data(key).tolist()))
    )


def step(learner, state, batch, key):
    """Adds a batch; the key has its say in the last digits, so that bits show it."""
    noise = jax.random.uniform(key) / 64
    total = state["total"] + learner.factor * batch.images.sum() + noise
    clock = jnp.stack([batch.step, batch.steps, batch.epoch, batch.epochs])
    return {"total": total, "clock": clock}, {"total": total}


@functools.cache
def training(name="training", steps=None, epochs=None):
    def parts(learner, state, task, key):
        note(name, "parts", task, key)
        return (Part(whole(task.rows), 5),)

    def begin(learner, state, task, key):
        return {"total": state.total, "clock": jnp.zeros(4, jnp.int32)}

    def end(learner, train_state, state, task):
        note(name, tuple(train_state["clock"].tolist()), task)
        return state._replace(total=train_state["total"])

    return Training(name, parts, begin, step, end, epochs=epochs, steps=steps)


@functools.cache
def fit(name="fit", reading=None, views=()):
    def rows(learner, state, task, key):
        note(name, "rows", task, key)
        return {"task": task.rows} if reading or views else {}

    def fitted(learner, state, features, labels, task, key):
        note(name, "fit", task, key)
        if views:
            by_view = {view: of_view[:, 0].tolist() for view, of_view in features["task"].items()}
            note(name, by_view, task)
        state = state._replace(fitted=state.fitted + 1)
        if reading:
            valid = labels["task"] >= 0
            added = jnp.where(valid, features["task"]["images"][:, 0], 0).sum() + jax.random.uniform(key)
            state = state._replace(readings={**state.readings, reading: state.readings[reading] + added})
        return state

    def start(learner, state, key):
        return state._replace(readings={**state.readings, reading: jnp.float32(0)})

    return Fit(name, rows, fitted, dict(views) or AS_THEY_ARE, reading, start if reading else None)


class Numbers:
    """A pool of numbers."""

    nbytes = 0

    def batches(self, task, parts, steps, mesh, key=None):
        labels = jnp.asarray(task.labels)
        return Data(jnp.asarray(NUMBERS), labels, jnp.zeros(len(labels), bool))

    def features(self, learner, state, run, rows, view):
        return view(jnp.asarray(NUMBERS))[rows][:, None]


def make_tasks(count=2):
    new = np.eye(2, dtype=bool)
    room = [np.pad(np.arange(rows), (0, 10 - rows), constant_values=-1).astype(np.int32) for rows in ROWS]
    labels = np.arange(12, dtype=np.int32) % 2
    nothing = np.full(1, -1, np.int32)
    return [Task(t, room[t], nothing, labels, new[: t + 1].any(0), new[t]) for t in range(count)]


PROGRAMS = {}


def learn(phases, *, count=2, seeds=SEEDS, **options):
    """States, what was measured, and the calls on the host."""
    CALLS.clear()
    surroundings = tasks.Surroundings(
        2, programs=options.pop("programs", PROGRAMS), **options.pop("surroundings", {})
    )
    states = [State(jnp.float32(seed), jnp.int32(0), jnp.arange(3.0), {}) for seed in seeds]
    learner = Phases(1.0, Chosen(phases if callable(phases) else lambda task: phases))
    states, measured = tasks.learn(
        learner,
        options.pop("states", states),
        make_tasks(count),
        Numbers(),
        [keys.root_key(seed) for seed in seeds],
        surroundings,
        **options,
    )
    return states, measured, list(CALLS)


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def phase_keys(calls):
    """{(phase, task): its keys, one per run}."""
    by_phase = {}
    for name, what, task, key in calls:
        if what in ("parts", "rows"):
            by_phase.setdefault((name, task), []).append(key)
    return by_phase


RUN_KEYS = [tuple(jax.random.key_data(keys.root_key(seed)).tolist()) for seed in SEEDS]


def test_phases_of_a_task_run_in_order_each_with_what_the_one_before_left():
    order = (fit("first"), training("second", steps=1), fit("third"), training("fourth", steps=1))
    states, _, calls = learn(order)
    begun = [(name, task) for name, what, task, _ in calls if what in ("parts", "rows")][:: len(SEEDS)]
    assert begun == [(phase.name, task) for task in range(2) for phase in order]
    assert [int(state.fitted) for state in states] == [4, 4]


def test_a_training_sees_each_row_of_its_first_part_once_per_epoch():
    (one,), _, calls = learn((training(epochs=2),), count=1, seeds=(0,))
    assert 2 * NUMBERS[:10].sum() <= float(one.total) <= 2 * NUMBERS[:10].sum() + 4 / 64
    assert calls[-1][1] == (3, 4, 1, 2)  # the last step, steps, epoch, epochs


def test_epochs_follow_the_rows_of_a_task_in_one_program():
    programs = {}
    _, _, calls = learn((training(epochs=3),), seeds=(0,), programs=programs)
    assert [what for _, what, _, _ in calls if what != "parts"] == [(5, 6, 2, 3), (2, 3, 2, 3)]
    assert programs[step]._cache_size() == 1


@pytest.mark.parametrize("length", [{"epochs": 0}, {"steps": 0}], ids=["epochs", "steps"])
def test_a_training_of_length_0_is_skipped(length):
    states, _, calls = learn((training("skipped", **length), training("after", steps=1)), count=1, seeds=(0,))
    assert [what for name, what, _, _ in calls if name == "skipped"] == ["parts"]
    assert 15 <= float(states[0].total) <= 40.1  # one batch


def test_a_task_may_have_several_trainings_and_none():
    first, second = training("first", steps=2), training("second", steps=1)
    _, _, calls = learn(lambda task: (first, second) if task == 0 else (), seeds=(0,))
    assert [(name, task) for name, what, task, _ in calls if what == "parts"] == [("first", 0), ("second", 0)]


def test_the_very_first_training_has_the_keys_of_the_runs():
    _, _, calls = learn((fit(), training("first", steps=1), training("second", steps=1)))
    by_phase = phase_keys(calls)
    assert by_phase["first", 0] == RUN_KEYS
    assert [phase for phase, of_phase in by_phase.items() if of_phase == RUN_KEYS] == [("first", 0)]


def test_a_training_of_a_later_task_never_has_the_key_of_the_run():
    only_later = lambda task: (training("late", steps=1),) if task else (fit(),)  # noqa: E731
    _, _, calls = learn(only_later)
    assert phase_keys(calls)["late", 1] != RUN_KEYS


def test_every_other_phase_has_a_key_of_its_own_for_every_task_and_run():
    phases = (fit("a"), training("b", steps=1), fit("c"), training("d", steps=1))
    _, _, calls = learn(phases)
    of_all = [key for of_phase in phase_keys(calls).values() for key in of_phase]
    assert len(of_all) == len(set(of_all)) == 4 * 2 * len(SEEDS)


def test_a_reading_has_the_key_of_the_run_and_the_bits_whatever_others_there_are():
    alone, _, calls = learn((training(steps=1), fit("head x", "x")))
    assert phase_keys(calls)["head x", 0] == phase_keys(calls)["head x", 1] == RUN_KEYS
    others = (fit("head y", "y"), training(steps=1), fit("head z", "z"), fit("head x", "x"), fit("other"))
    together, _, with_others = learn(others)
    assert phase_keys(with_others)["head x", 1] == RUN_KEYS
    assert [state.readings["x"] for state in together] == [state.readings["x"] for state in alone]


def test_readings_change_no_key_of_another_phase():
    phases = (fit("a"), training("b", steps=1), fit("c"))
    _, _, plain = learn(phases)
    _, _, with_reading = learn((fit("head x", "x"), *phases[:2], fit("head y", "y"), phases[2]))
    both = phase_keys(with_reading)
    assert {phase: both[phase] for phase in phase_keys(plain)} == phase_keys(plain)


def test_phases_that_are_not_run_change_no_key_of_those_that_are():
    phases = (fit("a"), training("b", steps=1), fit("c"))
    _, _, everything = learn(phases)
    _, _, part = learn(phases, runs_phase=lambda phase: phase.name == "c")
    assert phase_keys(part) == {
        phase: of_phase for phase, of_phase in phase_keys(everything).items() if phase[0] == "c"
    }


def test_nothing_depends_on_names():
    def states(one, other, third):
        return learn((fit(one), training(other, steps=2), training(third, steps=1)))[0]

    assert_equal(states("a", "b", "c"), states("same", "same", "same"))


def mirrored(numbers):
    return -numbers


def test_a_fit_gets_the_features_of_each_of_its_views():
    views = (("images", as_they_are), ("mirrored", mirrored))
    _, _, calls = learn((fit("viewed", views=views),), seeds=(0,))
    (features,) = (what for _, what, task, _ in calls if task == 1 and isinstance(what, dict))
    assert features["images"][:7] == NUMBERS[:7].tolist()
    assert features["mirrored"][:7] == (-NUMBERS[:7]).tolist()


def test_padding_rows_have_the_label_minus_1():
    seen = []

    def fitted(learner, state, features, labels, task, key):
        seen.append(labels["task"].tolist())
        return state

    watching = Fit("watching", lambda learner, state, task, key: {"task": task.rows}, fitted)
    learn((watching,), seeds=(0,))
    assert seen == [[0, 1] * 5, [0, 1, 0, 1, 0, 1, 0, -1, -1, -1]]


def test_a_run_learns_what_it_learns_alone():
    phases = (training(epochs=2), fit("head x", "x"))
    together, _, _ = learn(phases)
    for seed, state in zip(SEEDS, together):
        (alone,), _, _ = learn(
            phases, seeds=(seed,), states=[State(jnp.float32(seed), jnp.int32(0), jnp.arange(3.0), {})]
        )
        assert_equal(state, alone)


class Kept:
    """A store in memory that keeps all states, as JSON and arrays."""

    def __init__(self, saved=()):
        self.saved = list(saved)

    def save(self, number, tree, cursor=None):
        assert not self.saved or number > self.saved[-1][0]
        self.saved.append((number, jax.tree.map(np.asarray, tree), json.loads(json.dumps(cursor))))

    def resume(self, like):
        if not self.saved:
            return None
        number, tree, cursor = self.saved[-1]
        shapes = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), each) for each in (tree, like(cursor))]
        assert shapes[0] == shapes[1]
        return number, tree, cursor


EVERY_KIND = (
    fit("memory"),
    training("first", epochs=2),
    fit("head x", "x"),
    training("second", steps=1),
    fit("means"),
)


def measure(measured, task, states):
    new = measured.copy()
    new[task.index] = [float(state.total) for state in states]
    return new


def learn_every_kind(store=None, **options):
    states, measured, calls = learn(
        EVERY_KIND, store=store, measured=np.zeros((2, 2)), measure=measure, **options
    )
    return (states, measured), calls


@pytest.fixture
def save_always(monkeypatch):
    monkeypatch.setattr(tasks, "SECONDS_PER_STATE", 0.0)


@pytest.mark.usefixtures("save_always")
def test_work_resumes_to_the_same_bits_from_every_state_that_was_saved():
    store = Kept()
    finished, _ = learn_every_kind(store)
    assert_equal(finished, learn_every_kind()[0])  # saving changes nothing
    cursors = [tuple(cursor[name] for name in ("task", "phase", "steps")) for _, _, cursor in store.saved]
    of_task_0 = [(0, 1, 0), (0, 1, 2), (0, 1, 4), (0, 2, 0), (0, 3, 0), (0, 3, 1), (0, 4, 0), (0, 5, 0)]
    of_task_1 = [
        (1, 0, 0),
        (1, 1, 0),
        (1, 1, 2),
        (1, 2, 0),
        (1, 3, 0),
        (1, 3, 1),
        (1, 4, 0),
        (1, 5, 0),
        (2, 0, 0),
    ]
    assert cursors == of_task_0 + of_task_1
    for count in range(1, len(store.saved) + 1):
        again = Kept(store.saved[:count])
        resumed, calls = learn_every_kind(again)
        assert_equal(resumed, finished)
        assert [saved[2] for saved in again.saved] == [saved[2] for saved in store.saved]
        assert_equal(again.saved[-1][:2], store.saved[-1][:2])
        assert all(task >= cursors[count - 1][0] for _, _, task, _ in calls)  # nothing is done twice
    assert not calls


@pytest.mark.usefixtures("save_always")
def test_what_no_phase_changed_is_not_saved():
    store = Kept()
    learn_every_kind(store)
    paths = [set(of_run) for _, tree, _ in store.saved for of_run in tree["states"]]
    assert paths[0] == {".fitted"}
    assert set().union(*paths) == {".total", ".fitted", ".readings['x']"}
    (last,) = (tree["train_states"] for _, tree, cursor in store.saved[-1:])
    assert last == ()


@pytest.mark.usefixtures("save_always")
def test_what_changed_in_one_run_alone_is_saved():
    def fitted(learner, state, features, labels, task, key):
        return state._replace(fixed=state.fixed + 1) if float(state.total) else state

    in_one = Fit("in one", lambda learner, state, task, key: {}, fitted)
    store = Kept()
    finished, _, _ = learn((in_one,), store=store)
    assert [float(state.fixed[0]) for state in finished] == [0, 2]
    for count in range(1, len(store.saved) + 1):
        resumed, _, _ = learn((in_one,), store=Kept(store.saved[:count]))
        assert_equal(resumed, finished)


@pytest.mark.parametrize("stop", range(1, 8))
def test_an_interruption_between_two_phases_loses_nothing(stop):
    finished, _ = learn_every_kind()
    pauses = []

    def pause():
        pauses.append(1)
        if len(pauses) == stop:
            raise KeyboardInterrupt

    store = Kept()
    with pytest.raises(KeyboardInterrupt):
        learn_every_kind(store, surroundings={"pause": pause})
    assert_equal(learn_every_kind(store)[0], finished)


def test_fits_that_are_fast_are_not_slowed_by_saving():
    store = Kept()
    learn((fit("a"), fit("b")), store=store)
    assert store.saved == []


def test_the_watcher_learns_the_length_and_the_place_of_a_training():
    seen, store = [], Kept()

    @contextlib.contextmanager
    def watch(name, total, done):
        seen.append((name, total, done))

        def notify(report):
            seen.append((name, report.total, report.done))
            if len(seen) == 2:
                raise KeyboardInterrupt

        yield notify

    options = {"count": 1, "store": store, "surroundings": {"watch": watch}}
    with pytest.raises(KeyboardInterrupt):
        learn((training("watched", epochs=2),), **options)
    learn((training("watched", epochs=2),), **options)
    assert seen == [("watched", 4, 0), ("watched", 4, 2), ("watched", 4, 2), ("watched", 4, 4)]
