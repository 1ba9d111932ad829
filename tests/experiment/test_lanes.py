"""What settings become for a learner: optimiser, steps, augmentation, heads, and how auxiliary images are mixed in."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.data.scenario import make_scenario
from jaxcil.errors import InputError
from jaxcil.experiment import lanes
from jaxcil.experiment.auxiliary import AuxiliaryImages
from jaxcil.experiment.benchmark import Benchmark, Split
from jaxcil.experiment.lanes import Lane, Workplace
from jaxcil.experiment.pool import ImagePool
from jaxcil.experiment.settings import defaults, resolve
from jaxcil.experiment.variants import VARIANTS
from jaxcil.heads.by_name import HEADS, make_head
from jaxcil.learners.fpcil import FPCIL
from jaxcil.learners.frozen import Frozen
from jaxcil.training.learner import Setup
from jaxcil.training.tasks import Surroundings
from jaxcil.workdir.record import Timing

NAMES = ("ant", "bee", "cat", "dog")


def benchmark_of(images_per_class):
    labels = np.repeat(np.arange(4, dtype=np.int32), images_per_class)
    split = Split(labels, np.broadcast_to(np.uint8(0), (len(labels), 8, 8, 3)))
    return Benchmark(make_scenario(NAMES, 2, 2, class_order="label-order"), split, split, (8, 8))


def settings_of(**changes):
    config = defaults()
    config.training.steps = 10
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in changes.items()})
    return resolve(config)


def setup_of(images_per_class=4, **changes):
    """What a maker gets."""
    benchmark = benchmark_of(images_per_class)
    return lanes.setup_of(
        settings_of(**changes), benchmark, ImagePool(benchmark, None).tasks(VARIANTS["plain"])
    )


def learner_of(variant, tmp_path, makers=None, **changes):
    """The learner of a lane, with six auxiliary images next to eight real ones in its first task."""
    settings, extra = settings_of(**changes), np.repeat([2, 3, 4], 2).astype(np.int32)
    auxiliary = AuxiliaryImages(np.zeros((6, 8, 8, 3), np.uint8), extra, ("yak",), "somewhere")
    pool = ImagePool(benchmark_of(4), auxiliary, settings.stream)
    makers = lanes.makers(makers or {})
    place = Workplace(settings, pool, makers, Surroundings(), Timing(tmp_path / "timing.json"), tmp_path)
    return lanes.make(Lane(variant, settings.learners[0]), place)


def test_epochs_are_passes_over_the_first_task_and_so_are_milestones_and_warm_up():
    setup = setup_of(
        12500,
        training__steps=None,
        training__epochs=160,
        training__schedule="step",
        training__milestones=(80, 120),
        training__warmup=5,
        training__batch_size=128,
    )
    assert setup.steps == 160 * 195
    assert setup.optimizer.milestones == (80 * 195, 120 * 195)
    assert setup.optimizer.warmup_steps == 5 * 195


def test_steps_are_steps_whatever_the_first_task_is():
    assert setup_of(2, training__steps=7).steps == setup_of(200, training__steps=7).steps == 7


def test_the_augmentation_has_a_field_for_every_one_that_there_is():
    augmentation = setup_of().augmentation
    fields = {field.name for field in dataclasses.fields(augmentation)}
    assert fields == set(defaults().training.augmentation)
    assert (
        augmentation(jax.random.key(0), images := jnp.zeros((1, 4, 4, 3))) is images
    )  # the default changes nothing


def test_every_field_of_the_training_reaches_the_learner(tmp_path):
    learner = learner_of(
        "plain",
        tmp_path,
        training__learning_rate=0.25,
        training__momentum=0.5,
        training__nesterov=True,
        training__weight_decay=0.125,
        training__batch_size=4,
        training__label_smoothing=0.1,
        training__average_decay=0.99,
        training__augmentation__crop=3,
        training__classifier="cosine",
    )
    training = learner.training
    optimizer = training.optimizer
    assert (optimizer.learning_rate, optimizer.momentum, optimizer.nesterov) == (0.25, 0.5, True)
    assert optimizer.weight_decay == 0.125
    assert (training.steps, training.batch_size) == (10, 4)
    assert (training.label_smoothing, training.average_decay) == (0.1, 0.99)
    assert training.augmentation.crop == 3
    assert type(training.output_layer).__name__ == "Cosine"


def test_an_option_of_a_head_reaches_it_and_heads_keep_the_order_of_the_config():
    heads = setup_of(heads=("fecam", "ncm"), head_options__fecam__gamma1=3.0).heads
    assert list(heads) == ["fecam", "ncm"]
    assert heads["fecam"].gamma1 == 3.0


@pytest.mark.parametrize("name", list(HEADS))
def test_every_head_of_a_run_can_be_made_from_its_options(name):
    head = make_head(name, np.array([0, 0, 1]), **defaults().head_options[name])
    assert head.init(2, 4, jax.random.key(0)) is not None


def test_a_variant_without_synthetic_images_is_trained_as_it_is(tmp_path):
    assert isinstance(learner_of("plain", tmp_path, auxiliary__future__batch_fraction=0.5), Frozen)
    bound = learner_of("real_future", tmp_path, auxiliary__future__batch_fraction=0.5)
    assert isinstance(bound, FPCIL)
    assert (bound.loss_weight, bound.batch_fraction, bound.augmentation) == (None, None, None)


@pytest.mark.parametrize("variant", ["future_proof", "shuffled_labels", "known_classes"])
def test_auxiliary_images_are_mixed_in_as_the_settings_say(variant, tmp_path):
    usual = learner_of(variant, tmp_path)
    assert (usual.loss_weight, usual.batch_fraction, usual.augmentation) == (None, None, None)
    changed = learner_of(
        variant,
        tmp_path,
        auxiliary__future__loss_weight=0.5,
        auxiliary__future__batch_fraction=0.25,
        auxiliary__future__augment_alike=False,
        training__augmentation__crop=2,
    )
    assert (changed.loss_weight, changed.batch_fraction) == (0.5, 0.25)
    assert changed.augmentation == changed.learner.training.augmentation
    assert changed.learner.training.other_classes == (0 if variant == "known_classes" else 1)


def test_of_a_stream_auxiliary_images_have_their_part_of_all_images(tmp_path):
    learner = learner_of("future_proof", tmp_path, stream="whole", image_size=8)
    assert learner.batch_fraction == 6 / 14


def test_a_maker_from_outside_gets_the_setup_and_the_options_of_its_name(tmp_path):
    @dataclasses.dataclass
    class Mine:
        setup: Setup
        temperature: float
        frozen_after = None

    config = defaults()
    config.training.steps, config.learners = 10, ("mine",)
    config.learner_options = {"mine": {"temperature": 2.0}}
    settings = resolve(config, ("mine",))
    pool = ImagePool(benchmark_of(4), None)
    place = Workplace(
        settings,
        pool,
        lanes.makers({"mine": Mine}),
        Surroundings(),
        Timing(tmp_path / "timing.json"),
        tmp_path,
    )
    learner = lanes.make(Lane("plain", "mine"), place)
    assert learner.temperature == 2.0
    assert (learner.setup.num_classes, learner.setup.task_sizes) == (4, (2, 2))
    assert learner.setup.memory == settings.memory


def test_a_learner_that_freezes_later_is_refused(tmp_path):
    class Late:
        frozen_after = 1

        def __init__(self, setup):
            del setup

    config = defaults()
    config.training.steps, config.learners = 10, ("late",)
    pool = ImagePool(benchmark_of(4), None)
    place = Workplace(
        resolve(config, ("late",)),
        pool,
        lanes.makers({"late": Late}),
        Surroundings(),
        Timing(tmp_path / "timing.json"),
        tmp_path,
    )
    with pytest.raises(InputError, match="late: frozen_after must be 0 or None, got 1"):
        lanes.make(Lane("plain", "late"), place)
