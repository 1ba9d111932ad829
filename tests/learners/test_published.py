"""From a published recipe and a run's settings to what a learner trains with."""

import pytest

from jaxcil.errors import InputError
from jaxcil.experiment.fields import LaterTrainingSettings, MemorySettings
from jaxcil.learners.bic import bic
from jaxcil.learners.by_name import LEARNERS, check_options, divided
from jaxcil.learners.der import der
from jaxcil.learners.foster import foster
from jaxcil.learners.icarl import icarl
from jaxcil.learners.lucir import lucir
from jaxcil.learners.lwf import lwf
from jaxcil.learners.podnet import podnet
from jaxcil.learners.wa import wa

PUBLISHED = LaterTrainingSettings()


def later(small_run, maker=icarl, **fields):
    return maker(small_run.setup(later_training=LaterTrainingSettings(**fields))).recipes["later"]


@pytest.mark.parametrize(
    ("maker", "epochs", "rate", "decay", "milestones"),
    [
        (icarl, 170, 0.1, 2e-4, (80, 120)),
        (wa, 170, 0.1, 2e-4, (60, 100, 140)),
        (lwf, 250, 0.1, 2e-4, (60, 120, 180, 220)),
        (lucir, 160, 0.1, 5e-4, (80, 120)),
        (podnet, 160, 0.1, 5e-4, ()),
        (foster, 170, 0.1, 5e-4, ()),
        (der, 160, 0.1, 5e-4, (100, 120)),
    ],
)
def test_without_settings_a_recipe_is_the_published_one(maker, epochs, rate, decay, milestones, small_run):
    recipe = later(small_run, maker)
    optimizer = recipe.optimizer
    assert (recipe.epochs, recipe.steps, recipe.batch_size) == (epochs, None, 128)
    assert (optimizer.learning_rate, optimizer.weight_decay) == (rate, decay)
    assert (optimizer.schedule, optimizer.milestones) == ("step" if milestones else "cosine", milestones)


def test_a_setting_takes_the_place_of_a_published_value_and_leaves_the_others(small_run):
    recipe = later(small_run, learning_rate=0.02)
    assert recipe.optimizer.learning_rate == 0.02
    assert (recipe.epochs, recipe.optimizer.milestones) == (170, (80, 120))


def test_a_number_of_steps_takes_the_place_of_epochs_and_milestones_keep_their_place(small_run):
    recipe = later(small_run, steps=170)
    assert (recipe.epochs, recipe.steps, recipe.batch_size) == (None, 170, 7)
    assert (recipe.optimizer.schedule, recipe.optimizer.milestones) == ("step", (80, 120))
    assert later(small_run, epochs=17).optimizer.milestones == (8, 12)
    assert later(small_run, steps=40, milestones=(20,)).optimizer.milestones == (20,)


def test_a_training_too_short_for_its_milestones_has_a_cosine(small_run):
    assert later(small_run, steps=1).optimizer.schedule == "cosine"


def test_milestones_beyond_the_end_are_refused(small_run):
    with pytest.raises(
        InputError, match=r"must end before their training does, after 20 epochs; got \(10, 20\)"
    ):
        later(small_run, epochs=20, milestones=(10, 20))


def test_another_schedule_takes_the_place_of_milestones(small_run):
    assert later(small_run, schedule="cosine").optimizer.milestones == ()


def test_memory_is_the_published_one_unless_settings_give_one(small_run):
    assert icarl(small_run.setup(memory=MemorySettings())).exemplars.per_class == 20
    total = icarl(small_run.setup(memory=MemorySettings(total=12))).exemplars
    assert (total.per_class, total.total) == (None, 12)
    assert icarl(small_run.setup(memory=MemorySettings(rule="random"))).exemplars.rule == "random"


def test_a_learner_without_exemplars_has_no_reading_of_their_means(small_run):
    assert icarl(small_run.setup(memory=MemorySettings(per_class=0))).reading_names == ("cnn",)


def test_two_sizes_of_a_memory_are_refused(small_run):
    with pytest.raises(InputError, match=r"memory.per_class or memory.total, not both; got 3, 12"):
        icarl(small_run.setup(memory=MemorySettings(per_class=3, total=12)))


def test_a_total_that_leaves_a_class_without_exemplars_is_refused(small_run):
    with pytest.raises(
        InputError, match=r"memory\.total must be at least 1 for each of 6 classes, or 0; got 5"
    ):
        icarl(small_run.setup(memory=MemorySettings(total=5)))


def test_options_of_a_recipe_are_told_from_those_of_the_maker():
    own, recipe = divided({"temperature": 3.0, "epochs": 5, "milestones": ()}, ["temperature"])
    assert own == {"temperature": 3.0}
    # in place of steps, and of milestones that count them, that later_training has
    assert recipe == {"steps": None, "epochs": 5, "milestones": ()}
    assert divided({"schedule": "cosine"}, [])[1] == {"milestones": (), "schedule": "cosine"}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("icarl", {"temprature": 2.0}, "Did you mean 'temperature'"),
        ("icarl", {"temperature": "hot"}, "learner_options.icarl.temperature must be like its default 2.0"),
        ("lucir", {"balanced": 1}, "must be like its default False"),
    ],
)
def test_an_option_that_a_learner_does_not_have_or_of_another_type_is_refused(name, options, message):
    with pytest.raises(InputError, match=message):
        check_options(name, options)


@pytest.mark.parametrize("name", LEARNERS)
def test_the_default_options_of_every_learner_are_fine(name):
    check_options(name, LEARNERS[name].options)


@pytest.mark.parametrize(
    ("maker", "options", "message"),
    [
        (icarl, {"loss": "mse"}, "no loss of icarl 'mse'"),
        (icarl, {"temperature": 0.0}, "temperature of icarl must be > 0"),
        (lwf, {"distillation_weight": -1.0}, "distillation_weight of lwf must be >= 0"),
        (lucir, {"mirror": "up"}, "no mirror of lucir 'up'"),
        (lucir, {"balanced_epochs": 0}, "balanced_epochs of lucir must be a whole number >= 1"),
        (podnet, {"preset": "nmi"}, "Did you mean 'nme'"),
        (podnet, {"proxies": 0}, "proxies of podnet must be a whole number >= 1"),
        (podnet, {"pooling": "all"}, "no pooling of podnet 'all'"),
        (bic, {"aside": 1.5}, r"aside of bic must lie in \(0, 1\]"),
        (der, {"form": "paper"}, "no form of der 'paper'"),
        (der, {"head_epochs": -1}, "must not be negative"),
        (foster, {"beta_boosting": (0.9, 0.9, 0.9)}, "one for each of 2 tasks"),
        (foster, {"beta_boosting": (1.0,)}, r"must lie in \[0, 1\)"),
        (foster, {"compression_epochs": 0}, "at least 1"),
        (wa, {"temperature": float("nan")}, "temperature of wa must be > 0 and finite"),
    ],
)
def test_a_value_out_of_its_range_is_refused(maker, options, message, small_run):
    with pytest.raises(InputError, match=message):
        maker(small_run.setup(), **options)


def test_bias_correction_without_exemplars_is_refused(small_run):
    with pytest.raises(InputError, match="bic sets exemplars aside, so it needs some"):
        bic(small_run.setup(memory=MemorySettings(per_class=0)))
