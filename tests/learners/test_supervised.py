"""A network under one output layer: what a training learns and leaves behind, and what one program serves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil import convolution, keys
from jaxcil.extractors.resnet_cifar import ResNetCIFAR
from jaxcil.learners.fpcil import fpcil
from jaxcil.learners.frozen import supervised
from jaxcil.learners.supervised import Supervised
from jaxcil.parallel import mesh
from jaxcil.training import loop, tasks
from jaxcil.training.learner import Batch
from jaxcil.training.optimizer import sgd

FUTURE = (2, 3, 4, 5)  # labels of auxiliary images


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def differ(one, other):
    return any(not np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True))


def make_batch(taken, clock):
    return Batch(*taken, jnp.ones(len(taken.labels)), jnp.ones(len(taken.labels)), *clock)


def test_what_remains_is_the_moving_average_where_there_is_one(small_run):
    learner = supervised(small_run.setup(steps=1, average_decay=0.5))
    (before,) = small_run.states(learner)
    (average,), _ = small_run.learn(learner, count=1)
    (after,), _ = small_run.learn(supervised(small_run.setup(steps=1)), count=1)
    # the first step's weight is min(0.5, 1 / 10)
    for mean, old, new in zip(*(jax.tree.leaves(state.variables) for state in (average, before, after))):
        np.testing.assert_allclose(mean, 0.1 * old + 0.9 * new, rtol=1e-4, atol=1e-6)


def test_each_training_is_over_new_classes_alone_and_starts_where_the_last_one_ended(small_run):
    # weight decay would change the columns of old classes
    learner = supervised(small_run.setup(optimizer=sgd(0.05, 0.0)))
    outputs, store = [], small_run.store()
    small_run.learn(
        learner,
        store=store,
        measure=lambda measured, task, states: outputs.append(np.asarray(states[0].output["weights"])) or (),
    )
    for task, (before, after) in enumerate(zip([np.zeros_like(outputs[0]), *outputs], outputs)):
        changed = (before != after).any(1)
        assert changed.tolist() == small_run.tasks()[task].new.tolist()
    last = {cursor["task"]: tree["train_states"] for _, tree, cursor in store.saved if cursor["steps"]}
    assert [state.trained[0].tolist() for state in last.values()] == [
        t.new.tolist() for t in small_run.tasks()
    ]


def replaced(learner, path, value):
    """A learner with another value of an attribute of attributes, a.b.c."""
    name, _, rest = path.partition(".")
    return learner.replace(**{name: replaced(getattr(learner, name), rest, value) if rest else value})


OTHER_VALUES = {
    "learner.optimizer.learning_rate": 0.2,
    "learner.optimizer.weight_decay": 0.01,
    "learner.optimizer.momentum": 0.5,
    "learner.optimizer.decay": 0.3,
    "learner.label_smoothing": 0.3,
    "learner.average_decay": 0.05,
    "loss_weight": 2.0,
}


def test_one_compiled_program_serves_every_value_of_every_number(small_run):
    optimizer = sgd(0.05, 5e-4, schedule="step", milestones=(1,))
    setup = small_run.setup(optimizer=optimizer, label_smoothing=0.1, average_decay=0.9)
    learner = fpcil(supervised(setup), loss_weight=0.5)
    surroundings = tasks.Surroundings(chunk=2)
    train = functools.partial(small_run.learn, auxiliary=FUTURE, count=1, surroundings=surroundings)
    first, _ = train(learner)
    leaves = [
        jax.tree_util.keystr(path, simple=True, separator=".")
        for path, _ in jax.tree_util.tree_leaves_with_path(learner)
    ]
    assert sorted(leaves) == sorted(OTHER_VALUES)
    for path, value in OTHER_VALUES.items():
        states, _ = train(replaced(learner, path, value))
        assert differ(states, first), path
    (program,) = surroundings.programs.values()
    assert program._cache_size() == 1


RATES = (0.01, 0.05, 0.2)


@functools.cache
def trained_at(small_run, rates, policy="vmap"):
    """Training states [runs] after the first task's steps, at a learning rate per run or at one for all."""
    learner = supervised(small_run.setup())
    (state,), task, key = small_run.states(learner), small_run.tasks()[0], keys.root_key(0)
    runs = len(rates) if isinstance(rates, tuple) else 1
    axes = jax.tree.map(lambda leaf: None, learner)
    if runs > 1:
        axes = replaced(axes, "optimizer.learning_rate", 0)
    start = learner.begin(state, task, key)
    program = loop.program(Supervised.step, policy, axes, make_batch)
    return loop.train(
        program,
        replaced(learner, "optimizer.learning_rate", jnp.asarray(rates)),
        jax.tree.map(lambda leaf: jnp.stack([leaf] * runs), start),
        small_run.pool().batches(task, (), learner.steps, None),
        [learner.parts(state, task, key)] * runs,
        jnp.stack([key] * runs),
        steps=learner.steps,
        chunk=2,
        mesh=mesh.training_mesh(runs, jax.devices()[:1]),
    )


@pytest.mark.parametrize("policy", ["vmap", "map", "loop"])
def test_three_learning_rates_next_to_each_other_are_three_runs(policy, small_run):
    together = trained_at(small_run, RATES, policy)
    for run, rate in enumerate(RATES):
        for leaf, alone in zip(*map(jax.tree.leaves, (together, trained_at(small_run, rate)))):
            # XLA sums in an order of its own in each program: equal bits at this batch size, up to 4e-7 at others
            np.testing.assert_allclose(leaf[run], alone[0], rtol=1e-5, atol=1e-6)
    assert differ(trained_at(small_run, RATES[0]), trained_at(small_run, RATES[1]))


def test_a_step_is_exported_for_every_platform(small_run):
    network = ResNetCIFAR(blocks=1, width=4, convolution=convolution.conv_general_dilated)
    learner = fpcil(supervised(small_run.setup(network=network)), loss_weight=0.5)
    (training,), task = learner.phases(0), small_run.tasks(FUTURE)[0]
    data = jax.tree.map(lambda leaf: leaf[:8], small_run.pool(FUTURE).batches(task, (), 3, None))

    def step(learner, data, seed):
        key = jax.random.key(seed)
        begun = training.begin(learner, learner.init(key, jnp.zeros((1, 8, 8, 3))), task, key)
        clock = loop.Clock(*map(jnp.int32, (0, 3, 0, 1)))
        return training.step(learner, begun, make_batch(data, clock), key)[1]

    exported = jax.export.export(jax.jit(step), platforms=("cpu", "cuda", "tpu"))(learner, data, 0)
    assert exported.platforms == ("cpu", "cuda", "tpu")
