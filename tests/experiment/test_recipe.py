"""What a config's `extractor` becomes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.cli.main import _shipped
from jaxcil.errors import InputError
from jaxcil.experiment import recipe
from jaxcil.experiment.settings import check, defaults
from jaxcil.extractors.by_name import make_network
from jaxcil.heads.by_name import HEADS, make_head


def settings(**changes):
    config = defaults()
    config.extractor.update({"steps": 10, **changes})
    return config.extractor


def test_epochs_are_passes_over_the_first_task_and_so_are_milestones_and_warm_up():
    made = recipe.training(
        settings(steps=None, epochs=160, schedule="step", milestones=(80, 120), warmup=5, batch_size=128),
        first_task_images=25000,
    )
    assert made["steps"] == 160 * 195
    assert made["optimizer"].milestones == (80 * 195, 120 * 195)
    assert made["optimizer"].warmup_steps == 5 * 195


def test_steps_are_steps_whatever_the_first_task_is():
    assert (
        recipe.training(settings(steps=7), 3)["steps"]
        == recipe.training(settings(steps=7), 30000)["steps"]
        == 7
    )


def test_the_augmentation_has_a_field_for_every_one_that_there_is():
    made = recipe.training(settings(), 100)["augmentation"]
    assert {field.name for field in dataclasses.fields(made)} == set(defaults().extractor.augmentation)
    assert made(jax.random.key(0), images := jnp.zeros((1, 4, 4, 3))) is images  # the default changes nothing


@pytest.mark.parametrize(
    "name", [n for n in sorted(_shipped()) if n.endswith("cifar100") or n == "fpcil_cifar10"]
)
def test_published_recipes_pass_the_checks_of_a_run(name):
    scope = {}
    exec(_shipped()[name].read_text(), scope)
    config = scope["get_config"]()
    check(config)
    recipe.training(config.extractor, 25000)
    make_network(config.extractor.network, config.extractor.dtype, jax.lax.conv_general_dilated)


@pytest.mark.parametrize("name", list(HEADS))
def test_every_head_of_a_run_can_be_made_from_its_options(name):
    made = make_head(name, np.array([0, 0, 1]), **defaults().head_options[name])
    assert made.init(2, 4, jax.random.key(0)) is not None


def test_an_option_of_a_head_reaches_it():
    config = defaults()
    config.head_options.fecam.gamma1 = 3.0
    assert make_head("fecam", np.array([0, 0, 1]), **config.head_options.fecam).gamma1 == 3.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 3}, "one of them; got 10, 3"),
        ({"steps": None}, "one of them; got None, None"),
        ({"augmentation.policy": "autoaugmnt"}, "Did you mean 'autoaugment'"),
        ({"schedule": "linear"}, "no schedule 'linear'"),
        ({"learning_rate": -0.1}, "learning_rate must lie in"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\)"),
        ({"warmup": 10}, "warmup must end before the training does, after 10 steps; got 10"),
        ({"schedule": "step", "milestones": (3, 12)}, "milestones must end before"),
    ],
)
def test_recipes_that_cannot_be_are_refused(change, message):
    config = defaults()
    config.extractor.steps = 10
    config.extractor.update_from_flattened_dict(change)
    with pytest.raises(InputError, match=message):
        recipe.training(config.extractor, 100)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extractor.classifier": "cosin"}, "no classifier 'cosin'.*Did you mean 'cosine'"),
        ({"extractor.dtype": "float16"}, "no dtype 'float16'"),
        ({"extractor.label_smoothing": 1.0}, r"label_smoothing must lie in \[0, 1\)"),
        ({"extractor.average_decay": 1.0}, r"average_decay must lie in \[0, 1\)"),
        ({"extractor.batch_size": 0}, r"extractor\.batch_size must be at least 1"),
        ({"future_proof.share": 1.0}, "must leave real and other images in a batch of 128"),
        ({"future_proof.loss_weight": -1.0}, "must not be negative"),
        ({"future_proof.images_per_class": 0}, "must be at least 1"),
        ({"future_proof.source": "somewhere"}, r"needs future_proof\.classes"),
        (
            {"future_proof.source": "a", "future_proof.classes": ("b",), "synthetic.path": "c"},
            "leave synthetic",
        ),
        (
            {"future_proof.source": "digits", "future_proof.classes": ("b",), "evaluate_on": "held_out"},
            "held out",
        ),
        ({"future_proof.classes": (0, 1)}, "must be names of classes"),
        ({"head_options.fecam.beta": -1.0}, "beta must be > 0"),
        ({"stream": "hole"}, "no stream 'hole'.*'whole'"),
        ({"stream": "whole"}, "a stream needs image_size"),
        ({"stream": "random", "image_size": 8}, "crops real images alone"),
        (
            {"stream": "random", "image_size": 8, "extractors": ("plain",), "extractor.augmentation.crop": 2},
            "crops already",
        ),
        ({"extractors": ("shuffled_label",)}, "no extractor 'shuffled_label'.*'shuffled_labels'"),
    ],
)
def test_runs_that_cannot_be_are_refused(change, message):
    config = defaults()
    config.extractor.steps = 10
    config.update_from_flattened_dict(change)
    with pytest.raises(InputError, match=message):
        check(config)
