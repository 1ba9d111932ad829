"""The settings of a run: what is refused before any data are read, and what is said to have no effect."""

import pytest

from jaxcil.cli import configs
from jaxcil.errors import InputError
from jaxcil.experiment.settings import defaults, inert, lanes, resolve, without_effect


def settings_of(*, outside=(), **changes):
    config = defaults()
    config.training.steps = 10
    for name, value in changes.items():
        *groups, field = name.replace("__", ".").split(".")
        place = config
        for group in groups:
            place = place[group]
        place[field] = value
    return resolve(config, outside)


@pytest.mark.parametrize(
    "name", [name for name, path in configs.shipped().items() if configs.verb_of(path) == "run"]
)
def test_shipped_runs_pass_every_check(name):
    resolve(configs.load(name, defaults()))


def test_settings_that_are_resolved_are_taken_as_they_are():
    settings = settings_of()
    assert resolve(settings) is settings


REFUSED = [
    # a field by itself: its type, range or choices
    ({"heads": ("nmc",)}, r"no heads\[0\] 'nmc'.*Did you mean 'ncm'"),
    ({"variants": ("plane",)}, r"no variants\[0\] 'plane'.*Did you mean 'plain'"),
    ({"learners": ("freezing",)}, "no learner 'freezing'.*'frozen'"),
    ({"seeds": ("a",)}, r"seeds\[0\] must be a whole number, got 'a'"),
    ({"seeds": (-1,)}, r"seeds\[0\] must be at least 0 and less than 4,294,967,296, got -1"),
    ({"evaluate_on": "training"}, "no evaluate_on 'training'"),
    ({"stream": "hole"}, "no stream 'hole'.*'whole'"),
    ({"scenario.first_classes": 0}, r"scenario\.first_classes must be from 1"),
    ({"scenario.classes_per_task": 0}, r"scenario\.classes_per_task must be from 1"),
    ({"training.network": "resnet9"}, r"no training\.network 'resnet9'"),
    ({"training.classifier": "cosin"}, r"no training\.classifier 'cosin'.*Did you mean 'cosine'"),
    ({"training.dtype": "float16"}, r"no training\.dtype 'float16'"),
    ({"training.schedule": "linear"}, r"no training\.schedule 'linear'"),
    ({"training.steps": 0}, r"training\.steps must be from 1"),
    ({"training.batch_size": 0}, r"training\.batch_size must be from 1"),
    ({"training.learning_rate": -0.1}, r"training\.learning_rate must be from 0"),
    ({"training.momentum": 1.0}, r"training\.momentum must be at least 0 and less than 1"),
    ({"training.label_smoothing": 1.0}, r"training\.label_smoothing must be at least 0 and less than 1"),
    ({"training.average_decay": 1.0}, r"training\.average_decay must be at least 0 and less than 1"),
    ({"training.augmentation.crop": -1}, r"training\.augmentation\.crop must be from 0"),
    ({"training.augmentation.policy": "autoaugmnt"}, "Did you mean 'autoaugment'"),
    ({"auxiliary.future.loss_weight": -1.0}, r"auxiliary\.future\.loss_weight must be from 0"),
    ({"auxiliary.future.images_per_class": 0}, r"auxiliary\.future\.images_per_class must be from 1"),
    (
        {"auxiliary.future.known_fraction": 1.5},
        r"auxiliary\.future\.known_fraction must be from 0 to 1, got 1\.5",
    ),
    ({"auxiliary.future.classes": (0, 1)}, r"auxiliary\.future\.classes\[0\] must be text"),
    ({"synthetic.guidance_scale": float("nan")}, r"synthetic\.guidance_scale must be finite"),
    ({"synthetic.images_per_class": 0}, r"synthetic\.images_per_class must be from 1"),
    ({"synthetic.order": 4}, r"synthetic\.order must be from 1 to 3, got 4"),
    ({"synthetic.nfe": 0}, r"synthetic\.nfe must be from 1"),
    # names
    ({"heads": ()}, "heads is empty; give at least one head"),
    ({"heads": ("ncm", "ncm")}, "heads names one twice: ncm, ncm"),
    ({"seeds": (0, 1, 0)}, "seeds names one twice: 0, 1, 0"),
    ({"lanes": ("plain",)}, "lanes has 'plain'; expected VARIANT/LEARNER"),
    ({"lanes": ("known_clases/frozen",)}, "no variant in lanes 'known_clases'.*Did you mean 'known_classes'"),
    ({"lanes": ("plain/icral",)}, "no learner in lanes 'icral'.*Did you mean 'icarl'"),
    ({"variants": ("sddr",)}, "no variant of sddr goes with a learner of frozen"),
    (
        {"stream": "whole", "image_size": 8, "learners": ("icarl",)},
        "icarl choose other images with every seed, so a stream can serve one seed",
    ),
    (
        {
            "stream": "whole",
            "image_size": 8,
            "learners": ("icarl",),
            "seeds": (0,),
            "variants": ("plain", "real_past"),
        },
        "real_past mixes real images of past classes into batches, which a stream cannot",
    ),
    ({"learner_options": {"icarl": {"epochs": 0}}}, "learner_options.icarl.epochs must be from 1"),
    (
        {"learner_options": {"icarl": {"epochs": "ten"}}},
        "learner_options.icarl.epochs must be a whole number",
    ),
    ({"learner_options": {"icarl": {"learning_rate": -0.1}}}, "icarl.learning_rate must be from 0"),
    ({"learner_options": {"podnet": {"spatial": "much"}}}, "podnet.spatial must be a number, got 'much'"),
    ({"later_training.steps": 3, "later_training.epochs": 3}, "later_training.epochs, not both; got 3, 3"),
    ({"later_training.milestones": (3, 2)}, r"later_training\.milestones must grow, got \(3, 2\)"),
    (
        {"later_training.milestones": (3,), "later_training.schedule": "cosine"},
        "later_training.milestones are for later_training.schedule=step, got 'cosine'",
    ),
    ({"learner_options": {"icarl": {"loss": 3}}}, "learner_options.icarl.loss must be like its default 'ce'"),
    ({"head_options": {"nmc": {}}}, "no head with options 'nmc'"),
    ({"learner_options": {"freezing": {}}}, "no learner with options 'freezing'"),
    ({"head_options.fecam": {"gama1": 1.0}}, "no option of fecam 'gama1'.*'gamma1'"),
    ({"head_options.fecam.beta": -1.0}, "beta must be > 0"),
    # fields that exclude each other
    ({"training.epochs": 3}, "one of them; got 10, 3"),
    ({"training.steps": None}, "one of them; got None, None"),
    ({"training.warmup": 10}, r"training\.warmup must end before the training does, after 10 steps; got 10"),
    ({"training.schedule": "step", "training.milestones": (3, 12)}, "milestones must end before"),
    ({"training.schedule": "step"}, "which needs them"),
    ({"training.milestones": (3,)}, r"are for training\.schedule=step"),
    ({"training.schedule": "step", "training.milestones": (3, 3)}, r"must grow, got \(3, 3\)"),
    (
        {"training.augmentation.crop": 2, "training.augmentation.random_resized_crop": True},
        "set crop or random_resized_crop, not both",
    ),
    (
        {"training.network": "resnet32_podnet"},
        r"features are signed; switch it off with head_options\.fecam\.beta=1\.0",
    ),
    ({"auxiliary.future.batch_fraction": 1.0}, "must leave real and auxiliary images in a batch of 128"),
    ({"auxiliary.future.known_fraction": 0.0}, "must leave at least one class, got 0"),
    ({"auxiliary.future.source": "somewhere"}, r"needs auxiliary\.future\.classes"),
    (
        {"auxiliary.future.source": "a", "auxiliary.future.classes": ("b",), "synthetic.path": "c"},
        r"takes the place of synthetic images; omit synthetic\.path",
    ),
    (
        {
            "auxiliary.future.source": "digits",
            "auxiliary.future.classes": ("b",),
            "evaluate_on": "held_out",
        },
        "held out",
    ),
    ({"synthetic.filter": "first"}, r"give its folder as synthetic\.path"),
    ({"stream": "whole"}, "a stream needs image_size"),
    ({"stream": "whole", "image_size": 8, "evaluate_on": "held_out"}, "evaluated on the test images"),
    ({"stream": "random", "image_size": 8}, "crops real images alone"),
    (
        {
            "stream": "random",
            "image_size": 8,
            "variants": ("plain",),
            "training.augmentation.crop": 2,
        },
        "crops already",
    ),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        settings_of(**changes)


def test_signed_features_are_no_matter_to_other_heads_or_without_the_transform():
    settings_of(training__network="resnet32_podnet", heads=("ncm",))
    settings_of(training__network="resnet32_podnet", head_options__fecam__beta=1.0)


def test_learners_from_outside_are_known_by_the_names_that_they_are_given():
    assert settings_of(outside=("mine",), learners=("mine", "frozen")).learners == ("mine", "frozen")
    with pytest.raises(InputError, match=r"no learner 'mien'.*Did you mean 'mine'"):
        settings_of(outside=("mine",), learners=("mien",))


def test_lanes_are_every_variant_with_every_learner_unless_they_are_named():
    both = {"outside": ("mine",), "learners": ("frozen", "mine"), "variants": ("plain", "real_future")}
    assert lanes(settings_of(**both)) == (
        ("plain", "frozen"),
        ("real_future", "frozen"),
        ("plain", "mine"),
        ("real_future", "mine"),
    )
    named = ("plain/frozen", "plain/mine", "real_future/mine")
    assert lanes(settings_of(**both, lanes=named)) == (
        ("plain", "frozen"),
        ("plain", "mine"),
        ("real_future", "mine"),
    )


def test_a_variant_or_learner_that_no_lane_names_goes_with_all():
    both = {"outside": ("mine",), "learners": ("frozen", "mine"), "variants": ("plain", "real_future")}
    one = lanes(settings_of(**both, lanes=("plain/mine",)))  # names neither real_future nor frozen
    assert one == (
        ("plain", "frozen"),
        ("real_future", "frozen"),
        ("plain", "mine"),
        ("real_future", "mine"),
    )


def test_one_loss_alone_goes_with_learners_that_have_both():
    fields = {"learners": ("replay", "icarl"), "variants": ("plain", "sddr_distillation")}
    assert lanes(settings_of(**fields)) == (
        ("plain", "replay"),
        ("plain", "icarl"),
        ("sddr_distillation", "icarl"),
    )


def test_a_lane_or_a_learner_that_is_not_run_is_said():
    fields = {"learners": ("frozen", "icarl"), "variants": ("plain", "sddr"), "lanes": ("real_past/icarl",)}
    assert any(
        "lane real_past/icarl: not run" in sentence for sentence in without_effect(settings_of(**fields))
    )
    none_for_frozen = settings_of(learners=("frozen", "icarl"), variants=("sddr",))
    assert any("learner frozen: not run" in sentence for sentence in without_effect(none_for_frozen))


def test_variants_of_past_classes_go_with_learners_that_keep_training_alone():
    fields = {"learners": ("frozen", "icarl"), "variants": ("plain", "sddr", "future_proof_sddr")}
    assert lanes(settings_of(**fields)) == (
        ("plain", "frozen"),
        ("future_proof_sddr", "frozen"),
        ("plain", "icarl"),
        ("sddr", "icarl"),
        ("future_proof_sddr", "icarl"),
    )


# (what is set, the fields that the sentences name)
EFFECTLESS = [
    ({}, []),
    (
        {"synthetic.path": "SET", "synthetic.images_per_class": 99999, "synthetic.guidance_scale": 55.0},
        [
            "synthetic.images_per_class, synthetic.guidance_scale: without effect, since images of synthetic.path"
        ],
    ),
    (
        {
            "auxiliary.future.source": "a",
            "auxiliary.future.classes": ("b",),
            "synthetic.nfe": 5,
        },
        ["synthetic.nfe: without effect, since images of auxiliary.future.source are not drawn"],
    ),
    (
        {
            "variants": ("plain", "real_future"),
            "auxiliary.future.images_per_class": 7,
            "synthetic.images_per_class": 3,
            "synthetic.path": "SET",
        },
        [
            "auxiliary.future.images_per_class, synthetic.path, synthetic.images_per_class: without effect, since no "
            "variant"
        ],
    ),
    (
        {"auxiliary.past.images_per_class": 7},
        [
            "auxiliary.past.images_per_class: without effect, since no variant of this run takes images of past"
        ],
    ),
    (
        {"memory.total": 2000, "later_training.epochs": 3},
        ["later_training.epochs, memory.total: without effect, since no learner of this run keeps training"],
    ),
    ({"head_options.acil.ridge": 5.0}, []),  # shipped configs set options of heads that users may choose
]


@pytest.mark.parametrize(("changes", "sentences"), EFFECTLESS)
def test_fields_that_are_set_and_have_no_effect_are_named_with_the_reason(changes, sentences):
    said = without_effect(settings_of(**changes))
    assert [one[: len(sentence)] for one, sentence in zip(said, sentences)] == sentences
    assert len(said) == len(sentences)


def test_what_a_learner_from_outside_may_read_is_not_without_effect():
    settings = settings_of(outside=("mine",), learners=("mine",), memory__total=2000)
    assert without_effect(settings) == []
    assert "head_options.acil" in inert(settings)
