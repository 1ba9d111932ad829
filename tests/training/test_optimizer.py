"""Stochastic gradient descent: its schedules, and that it is torch's by its update rule."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcil.errors import InputError
from jaxcil.training.optimizer import sgd


def rates(optimizer, steps):
    return [float(optimizer.share(step, steps)) for step in range(steps)]


def test_a_cosine_goes_from_one_to_zero_and_is_half_in_the_middle():
    found = rates(sgd(0.1, 0.0), 101)
    assert found[0] == 1
    assert found[-1] < 1e-3
    assert all(a > b for a, b in itertools.pairwise(found))
    np.testing.assert_allclose(float(sgd(0.1, 0.0).share(50, 100)), 0.5)


def test_milestones_divide_the_rate_from_their_step_on():
    found = rates(sgd(0.1, 0.0, schedule="step", milestones=(3, 5), decay=0.1), 7)
    np.testing.assert_allclose(found, [1, 1, 1, 0.1, 0.1, 0.01, 0.01], rtol=1e-6)


def test_a_warm_up_rises_evenly_and_the_cosine_begins_behind_it():
    found = rates(sgd(0.1, 0.0, warmup_steps=4), 20)
    np.testing.assert_allclose(found[:5], [0.2, 0.4, 0.6, 0.8, 1.0], rtol=1e-6)
    np.testing.assert_allclose(found[4:], rates(sgd(0.1, 0.0), 16), rtol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_steps_follow_the_update_rule_of_torch(nesterov):
    # torch.optim.SGD: d = g + wd w; v = m v + d; w -= lr (d + m v if nesterov else v)
    optimizer = sgd(0.1, 0.01, momentum=0.9, schedule="step", milestones=(1000,), nesterov=nesterov)
    transformation = optimizer.build(100)
    weights, velocity = 2.0, 0.0
    parameters = jnp.float32(weights)
    state = transformation.init(parameters)
    for gradient in (1.0, -0.5, 0.25, 2.0):
        updates, state = transformation.update(jnp.float32(gradient), state, parameters)
        parameters = optax.apply_updates(parameters, updates)
        decayed = gradient + 0.01 * weights
        velocity = 0.9 * velocity + decayed
        weights -= 0.1 * (decayed + 0.9 * velocity if nesterov else velocity)
        np.testing.assert_allclose(parameters, weights, rtol=1e-6)


def test_momentum_and_decay_of_a_schedule_may_be_swept():
    def last(momentum, decay):
        optimizer = sgd(0.1, 0.0, momentum=momentum, schedule="step", milestones=(1,), decay=decay)
        transformation = optimizer.build(3)
        value, state = jnp.float32(1), transformation.init(jnp.float32(1))
        for _ in range(3):
            updates, state = transformation.update(value, state, value)
            value = value + updates
        return value

    swept = jax.vmap(last)(jnp.array([0.0, 0.9]), jnp.array([0.1, 0.5]))
    np.testing.assert_allclose(swept, [last(0.0, 0.1), last(0.9, 0.5)], rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "cosin"}, "no schedule 'cosin'.*Did you mean 'cosine'"),
        ({"schedule": "step"}, "milestones belong to the schedule 'step'"),
        ({"milestones": (3,)}, "milestones belong to the schedule 'step'"),
        ({"schedule": "step", "milestones": (5, 3)}, "growing numbers of steps"),
        ({"warmup_steps": -1}, "must not be negative"),
    ],
)
def test_schedules_that_cannot_be_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        sgd(0.1, 0.0, **settings)
