"""Stochastic gradient descent: its schedules, and that its steps are those of torch and optax."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcil.errors import InputError
from jaxcil.training.optimizer import sgd

CHOICES = {
    "cosine": sgd(0.1, 5e-4),
    "cosine_warmup_nesterov": sgd(0.1, 5e-4, warmup_steps=3, nesterov=True),
    "step_warmup": sgd(0.05, 0.0, schedule="step", milestones=(7, 20), decay=0.1, warmup_steps=2),
}


def factors(optimizer, steps, unit=1):
    return [float(optimizer.schedule_factor(step, steps, unit)) for step in range(steps)]


def test_a_cosine_goes_from_one_to_zero_and_is_half_in_the_middle():
    values = factors(sgd(0.1, 0.0), 101)
    assert values[0] == 1
    assert values[-1] < 1e-3
    assert all(a > b for a, b in itertools.pairwise(values))
    np.testing.assert_allclose(float(sgd(0.1, 0.0).schedule_factor(50, 100)), 0.5)


def test_milestones_multiply_the_rate_from_their_step():
    values = factors(sgd(0.1, 0.0, schedule="step", milestones=(3, 5), decay=0.1), 7)
    np.testing.assert_allclose(values, [1, 1, 1, 0.1, 0.1, 0.01, 0.01], rtol=1e-6)


def test_a_warm_up_rises_evenly_and_the_cosine_begins_after_it():
    values = factors(sgd(0.1, 0.0, warmup_steps=4), 20)
    np.testing.assert_allclose(values[:5], [0.2, 0.4, 0.6, 0.8, 1.0], rtol=1e-6)
    np.testing.assert_allclose(values[4:], factors(sgd(0.1, 0.0), 16), rtol=1e-6)


def test_milestones_and_warm_up_may_count_epochs():
    in_steps = sgd(0.1, 0.0, schedule="step", milestones=(12, 16), warmup_steps=8)
    in_epochs = sgd(0.1, 0.0, schedule="step", milestones=(3, 4), warmup_steps=2)
    assert factors(in_epochs, 20, unit=4) == factors(in_steps, 20)


@pytest.mark.parametrize("optimizer", CHOICES.values(), ids=CHOICES)
def test_one_program_for_any_length_has_the_bits_of_optax_at_a_fixed_one(optimizer):
    # What saved runs and published tables were trained with; optax divides by a constant number of steps.
    def reference(steps, start, gradients):
        length = optax.cosine_decay_schedule(1.0, steps - optimizer.warmup_steps)

        def rate(step):
            if optimizer.schedule == "cosine":
                value = length(step - optimizer.warmup_steps)
            else:
                value = jnp.float32(0.1) ** (step >= jnp.asarray(optimizer.milestones)).sum()
            warming = (step + 1) / (optimizer.warmup_steps + 1)
            return -optimizer.learning_rate * jnp.where(step < optimizer.warmup_steps, warming, value)

        transformation = optax.chain(
            optax.add_decayed_weights(optimizer.weight_decay),
            optax.trace(decay=optimizer.momentum, nesterov=optimizer.nesterov),
            optax.scale_by_schedule(rate),
        )

        def step(carry, gradient):
            parameters, state = carry
            updates, state = transformation.update(gradient, state, parameters)
            parameters = optax.apply_updates(parameters, updates)
            return (parameters, state), parameters

        return jax.lax.scan(step, (start, transformation.init(start)), gradients)[1]

    @jax.jit
    def ours(optimizer, steps, start, gradients):
        def step(carry, numbered):
            number, gradient = numbered
            factor = optimizer.schedule_factor(number, steps)
            carry = optimizer.update(gradient, carry[1], carry[0], factor)
            return carry, carry[0]

        numbers = jnp.arange(len(gradients))
        return jax.lax.scan(step, (start, optimizer.init(start)), (numbers, gradients))[1]

    start, gradients = (
        jax.random.normal(jax.random.key(0), (8,)),
        jax.random.normal(jax.random.key(1), (31, 8)),
    )
    for steps in (31, 50):
        expected = jax.jit(reference, static_argnums=0)(steps, start, gradients)
        np.testing.assert_array_equal(ours(optimizer, jnp.int32(steps), start, gradients), expected)
    assert ours._cache_size() == 1


# p = 2; for g in (1, -0.5, 2): p.grad = g; torch.optim.SGD([p], lr=0.1, momentum=0.9, weight_decay=0.01,
# nesterov=...).step(), in torch 2.13.0
TORCH = {False: (1.898, 1.85430205, 1.61311960), True: (1.80620003, 1.81514823, 1.39637840)}


@pytest.mark.parametrize("nesterov", [False, True])
def test_steps_are_those_of_torch(nesterov):
    optimizer = sgd(0.1, 0.01, momentum=0.9, nesterov=nesterov)
    parameter = jnp.float32(2.0)
    velocity = optimizer.init(parameter)
    for gradient, expected in zip((1.0, -0.5, 2.0), TORCH[nesterov], strict=True):
        parameter, velocity = optimizer.update(jnp.float32(gradient), velocity, parameter, 1.0)
        np.testing.assert_allclose(parameter, expected, rtol=1e-6)


def test_momentum_and_decay_of_a_schedule_may_be_swept():
    def last(momentum, decay):
        optimizer = sgd(0.1, 0.0, momentum=momentum, schedule="step", milestones=(1,), decay=decay)
        value, velocity = jnp.float32(1), jnp.float32(0)
        for step in range(3):
            value, velocity = optimizer.update(value, velocity, value, optimizer.schedule_factor(step, 3))
        return value

    swept = jax.vmap(last)(jnp.array([0.0, 0.9]), jnp.array([0.1, 0.5]))
    np.testing.assert_allclose(swept, [last(0.0, 0.1), last(0.9, 0.5)], rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "cosin"}, "no schedule 'cosin'.*Did you mean 'cosine'"),
        ({"schedule": "step"}, "milestones belong to the schedule 'step'"),
        ({"milestones": (3,)}, "milestones belong to the schedule 'step'"),
        ({"schedule": "step", "milestones": (5, 3)}, "increasing numbers of steps"),
        ({"warmup_steps": -1}, "must not be negative"),
    ],
)
def test_schedules_that_cannot_be_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        sgd(0.1, 0.0, **settings)
