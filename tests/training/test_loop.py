"""The training loop: chunks, masks, resuming, several runs and several devices."""

import functools
import os
import subprocess
import sys
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil import convolution
from jaxcil.data.augmentation import augmentation
from jaxcil.errors import InputError
from jaxcil.learners.supervised import Supervised
from jaxcil.parallel import mesh, sweep
from jaxcil.training import loop
from jaxcil.training.checkpoint import Checkpoints
from jaxcil.training.learner import Batch, Part, Task
from jaxcil.training.optimizer import sgd
from jaxcil.training.tasks import Data

CLASSES, SIDE = 4, 8


class Counter(NamedTuple):
    """A training that adds up the rows it sees."""

    total: jax.Array
    steps: jax.Array


def count(learner, state, batch, key):
    return Counter(state.total + batch.sum(), state.steps + 1), {"mean": batch.mean()}


def count_all(data, parts, steps=8, chunk=3, runs=2, program=None, **options):
    """What the runs counted, and the loop's reports."""
    reports = []
    states = loop.train(
        program or loop.program(count),
        None,
        Counter(jnp.zeros(runs), jnp.zeros(runs, jnp.int32)),
        data,
        [parts] * runs,
        jax.random.split(jax.random.key(0), runs),
        steps=steps,
        chunk=chunk,
        mesh=options.pop("mesh", mesh.training_mesh(runs, jax.devices()[:1])),
        notify=reports.append,
        **options,
    )
    return states, reports


TEN = jnp.arange(10.0), (Part(np.arange(10), 5),)  # two steps are an epoch


@pytest.mark.parametrize("chunk", [1, 3, 4, 100])
def test_the_length_of_a_chunk_changes_nothing(chunk):
    states, reports = count_all(*TEN, chunk=chunk)
    assert states.steps.tolist() == [8, 8]
    assert states.total.tolist() == [4 * 45.0] * 2  # four epochs of 0 + ... + 9
    assert reports[-1].done == reports[-1].total == 8


@pytest.mark.parametrize("chunk", [1, 3, 4, 100])
def test_a_step_gets_its_place_in_the_training_whatever_the_length_of_a_chunk(chunk):
    def write_down(learner, places, clock, key):
        return places.at[clock.step].set(jnp.stack(clock)), {}

    program = loop.program(write_down, batch=lambda taken, clock: clock)
    data, parts = TEN
    places = loop.train(
        program,
        None,
        jnp.zeros((2, 7, 4), jnp.int32),
        data,
        [parts] * 2,
        jax.random.split(jax.random.key(0), 2),
        steps=7,
        chunk=chunk,
        mesh=mesh.training_mesh(2, jax.devices()[:1]),
    )
    # step, steps, epoch, epochs; the fourth epoch is cut short
    assert places[0].tolist() == [[step, 7, step // 2, 4] for step in range(7)]
    assert places[1].tolist() == places[0].tolist()
    assert program._cache_size() == 1


def test_trainings_of_other_lengths_run_the_same_program():
    program = loop.program(count)
    data, _ = TEN
    for steps, rows in ((8, 10), (5, 10), (2, 7)):
        states, _ = count_all(data, (Part(np.arange(rows), 5),), steps=steps, program=program)
        assert states.steps.tolist() == [steps] * 2
    assert program._cache_size() == 1


class OneConvolution(nn.Module):
    """The least network that has what an extractor has: a trained convolution and batch statistics."""

    @nn.compact
    def __call__(self, images, train=False):
        convolve = nn.Conv(4, (3, 3), (2, 2), conv_general_dilated=convolution.conv_general_dilated)
        return nn.relu(nn.BatchNorm(not train, momentum=0.9)(convolve(images))).mean((1, 2))


def learner_and_data():
    images = jax.random.randint(jax.random.key(5), (32, SIDE, SIDE, 3), 0, 256).astype(jnp.uint8)
    data = Data(images, jnp.arange(32, dtype=jnp.int32) % CLASSES, jnp.zeros(32, bool))
    learner = Supervised(
        optimizer=sgd(0.05, 5e-4),
        num_classes=CLASSES,
        network=OneConvolution(),
        steps=6,
        batch_size=8,
        augmentation=augmentation.Augmentation(crop=1),
    )
    return learner, data


def make_batch(taken, clock):
    return Batch(*taken, jnp.ones(len(taken.labels)), jnp.ones(len(taken.labels)), *clock)


def train(runs=2, devices=1, checkpoints=None, stop_after=None, policy="vmap"):
    learner, data = learner_and_data()
    everything = np.ones(CLASSES, bool)
    task = Task(0, np.arange(32), np.full(1, -1), np.asarray(data.labels), everything, everything)
    run_keys = jnp.stack([jax.random.key(seed) for seed in range(runs)])
    example = jnp.zeros((1, SIDE, SIDE, 3))
    begin = jax.vmap(lambda key: learner.begin(learner.init(key, example), task, key))
    program = loop.program(Supervised.step, policy, batch=make_batch)

    def notify(report):
        if report.done == stop_after:
            raise KeyboardInterrupt

    states = loop.train(
        program,
        learner,
        loop.begin(begin, run_keys),
        data,
        [learner.parts(None, task, key) for key in run_keys],
        run_keys,
        steps=6,
        chunk=2,
        mesh=mesh.training_mesh(runs, jax.devices()[:devices]),
        checkpoints=checkpoints,
        notify=notify,
    )
    return states, program


@functools.cache
def on_one_device(runs=2):
    """Trained from beginning to end, once for all tests: states, and the program."""
    return train(runs)


def assert_trees(one, other, **tolerances):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), **tolerances)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_training_that_was_stopped_resumes_to_the_same_bits(tmp_path):
    whole, _ = on_one_device()
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(KeyboardInterrupt):
        train(checkpoints=checkpoints, stop_after=4)
    with Checkpoints(tmp_path) as checkpoints:
        resumed, _ = train(checkpoints=checkpoints)
    assert_trees(whole, resumed, rtol=0, atol=0)
    with Checkpoints(tmp_path) as checkpoints:
        again, program = train(checkpoints=checkpoints)
    assert program._cache_size() == 0  # all was done
    assert_trees(whole, again, rtol=0, atol=0)


def test_all_chunks_run_one_compiled_program():
    _, program = on_one_device()
    assert program._cache_size() == 1


@pytest.mark.parametrize(("runs", "devices"), [(1, 4), (2, 4), (4, 4)], ids=["data", "both", "sweep"])
def test_four_devices_give_what_one_gives(runs, devices):
    # Sums over a batch run in another order; six steps of momentum amplify float32 rounding to 1e-4.
    assert_trees(on_one_device(runs)[0], train(runs, devices)[0], rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("policy", ["loop", "map"])
def test_every_way_to_run_several_seeds_agrees(policy):
    assert_trees(on_one_device()[0], train(policy=policy)[0], rtol=1e-3, atol=2e-4)


def test_runs_are_spread_over_devices_before_images_are():
    assert dict(mesh.training_mesh(8, jax.devices()[:4]).shape) == {"sweep": 4, "data": 1}
    assert dict(mesh.training_mesh(6, jax.devices()[:4]).shape) == {"sweep": 2, "data": 2}
    assert dict(mesh.training_mesh(1, jax.devices()[:4]).shape) == {"sweep": 1, "data": 4}


def test_cores_that_do_not_divide_a_batch_are_left_idle():
    assert dict(mesh.training_mesh(1, jax.devices()[:4], batch_size=8).shape) == {"sweep": 1, "data": 4}
    assert dict(mesh.training_mesh(1, jax.devices()[:4], batch_size=6).shape) == {"sweep": 1, "data": 3}
    assert dict(mesh.training_mesh(2, jax.devices()[:4], batch_size=5).shape) == {"sweep": 2, "data": 1}


def test_a_batch_is_checked_without_a_mesh_where_no_device_may_be_idle(monkeypatch):
    mesh.check_batch(1, 5)  # on a CPU, three of four devices are left idle
    monkeypatch.setattr(mesh.jax, "process_count", lambda: 2)
    mesh.check_batch(2, 6)
    with pytest.raises(ValueError, match="a batch of 5 images does not divide over 2 devices"):
        mesh.check_batch(2, 5)


def test_cpu_devices_whose_copies_would_fill_half_of_the_memory_are_left_idle():
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for share, data in ((8, 4), (5, 2), (4, 2), (2, 1), (1, 1)):
        assert mesh.training_mesh(1, jax.devices()[:4], resident=memory // share).devices.size == data


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 9), ("250000 100000", 2), ("50000 100000", 1), ("", 9)]
)
def test_a_container_counts_the_cores_that_it_is_given_time_on(quota, cores, tmp_path, monkeypatch):
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(mesh, "CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(9)), raising=False)
    assert mesh._cores() == cores


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, min(len(os.sched_getaffinity(0)), mesh.MOST_CPU_DEVICES)),
        ({"JAX_NUM_CPU_DEVICES": "3"}, 3),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=5"}, 5),
    ],
    ids=["silent", "jax told", "XLA told"],
)
def test_the_cpu_is_as_many_devices_as_it_has_cores_unless_told_otherwise(environment, expected):
    program = "from jaxcil.parallel import mesh; mesh.one_device_per_core(); print(mesh.jax.device_count())"
    clean = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=clean | environment, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == expected


def test_a_batch_that_does_not_divide_over_the_devices_is_refused():
    with pytest.raises(InputError, match="a batch of 5 images does not divide over 4 devices"):
        count_all(*TEN, runs=1, mesh=mesh.training_mesh(1, jax.devices()[:4]))


def test_a_loss_that_is_not_finite_stops_the_training():
    def explode(learner, state, batch, key):
        return state, {"loss": jnp.log(state.total - 1)}

    with pytest.raises(FloatingPointError, match=r"loss is .*nan.* between steps 0 and 3"):
        count_all(*TEN, program=loop.program(explode))


def test_policies_of_the_axis_of_runs_agree_exactly_on_elementwise_work():
    def step(learner, a, b):
        return {"sum": a + b, "product": learner["own"] * a * b, "rest": learner["shared"] - b}

    arguments = jnp.arange(6.0).reshape(3, 2), jnp.arange(6.0).reshape(3, 2) + 1
    learner = {"own": jnp.array([1.0, 2.0, 3.0]), "shared": jnp.array([4.0, 5.0])}
    shared = {"own": 0, "shared": None}
    outs = [sweep.over_runs(step, policy, shared)(learner, *arguments) for policy in ("vmap", "map", "loop")]
    assert_trees(outs[0], outs[1], rtol=0)
    assert_trees(outs[0], outs[2], rtol=0)
    expected = learner["own"][:, None] * arguments[0] * arguments[1]
    np.testing.assert_array_equal(outs[0]["product"], expected)


def test_images_that_come_batch_by_batch_are_each_seen_once_by_every_run():
    asked = []

    def stream(first, number):
        asked.append((first, number))
        return np.arange(first * 5, (first + number) * 5, dtype=np.float32).reshape(number, 5)

    states, _ = count_all(stream, (Part(np.arange(20), 5),), steps=4)
    assert asked == [(0, 3), (3, 3)]
    assert states.total.tolist() == [sum(range(20))] * 2


def test_parts_fill_a_fixed_fraction_of_every_batch():
    data = jnp.concatenate([jnp.zeros(6), jnp.ones(4)])
    states, _ = count_all(data, (Part(np.arange(6), 3), Part(np.arange(6, 10), 2)), steps=4)
    assert states.total.tolist() == [4 * 2.0] * 2


def test_runs_may_have_rows_of_their_own():
    program = loop.program(count)
    states = loop.train(
        program,
        None,
        Counter(jnp.zeros(2), jnp.zeros(2, jnp.int32)),
        jnp.arange(10.0),
        [(Part(np.arange(5), 5),), (Part(np.arange(5, 10), 5),)],
        jax.random.split(jax.random.key(0), 2),
        steps=2,
        chunk=2,
        mesh=mesh.training_mesh(2, jax.devices()[:1]),
    )
    assert states.total.tolist() == [2 * 10.0, 2 * 35.0]
