"""Fields of a config as text: the list of `--help-config`, and where renamed ones went."""

import dataclasses

import pytest

from jaxcil.cli.fields import help_config, unknown_field
from jaxcil.workdir.settings import field, group


@dataclasses.dataclass(frozen=True)
class Crop:
    """Random crops."""

    pixels: int | None = field(None, "padding; none: no crop", low=1, high=64)
    border: str = field("black", "what is outside the image", choices=("black", "edge"))


@dataclasses.dataclass(frozen=True)
class Training:
    steps: int = field(300, "optimiser steps", low=1, high=10**9)
    decay: float | None = field(None, "of the average", low=0, below=1)
    nesterov: bool = field(False, "Nesterov's momentum")
    crop: Crop = group(Crop)


@dataclasses.dataclass(frozen=True)
class Settings:
    seeds: tuple[int, ...] = field((0, 1), "training seeds, one run each", low=0, high=2**32 - 1)
    training: Training = group(Training, "how the network of the first task is trained")
    heads: tuple[str, ...] = field(("ncm",), "on frozen features", choices=("ncm", "fecam"))
    policy: str | None = field(None, "of augmentation", choices=("auto", "trivial"))
    prompt: str = field("", "what is not to be drawn")
    templates: tuple[str, ...] = field(("a photo of a {}", "a {}, drawn", "the {}"), "prompts in turn")
    options: dict[str, dict[str, object]] = field({"fecam": {"beta": 0.5, "fast": True}}, "options of heads")


def test_help_config_is_a_table_by_groups():
    table = """\
  seeds      0,1         training seeds, one run each [list of whole numbers from 0 to
                         4,294,967,295]
  heads      ncm         on frozen features [list out of ncm, fecam]
  policy     none        of augmentation [one of auto, trivial, or none]
  prompt     ''          what is not to be drawn [text]
  templates  'a photo of a {}','a {}, drawn','the {}'
                         prompts in turn [list of texts]

training: how the network of the first task is trained
  training.steps     300         optimiser steps [whole number from 1 to 1,000,000,000]
  training.decay     none        of the average [number at least 0 and less than 1, or none]
  training.nesterov  false       Nesterov's momentum [true or false]

training.crop: Random crops.
  training.crop.pixels  none        padding; none: no crop [whole number from 1 to 64, or none]
  training.crop.border  black       what is outside the image [one of black, edge]

options: options of heads
  options.fecam.beta  0.5         [number]
  options.fecam.fast  true        [true or false]"""
    assert help_config(Settings) == table


RUN = ("variants", "training.steps", "auxiliary.future.images_per_class", "auxiliary.future.known_fraction")
FILTER = ("fraction", "judge.network", "judge.crop")


@pytest.mark.parametrize(
    ("known", "old", "new"),
    [
        (RUN, "extractors", "variants"),
        (RUN, "extractor.steps", "training.steps"),
        (RUN, "future_proof.images_a_class", "auxiliary.future.images_per_class"),
        (RUN, "future_proof.known_share", "auxiliary.future.known_fraction"),
        (FILTER, "share", "fraction"),
        (("worker", "nfe"), "share", "worker"),
    ],
)
def test_a_renamed_field_is_refused_with_its_new_name(known, old, new):
    assert str(unknown_field(old, known)) == f"no config field {old!r}: it is called {new}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("extractor.stepps", "no config field 'extractor.stepps'; --help-config lists those that exist."),
        ("judge", "judge is a group of fields: judge.network, judge.crop"),
        (
            "fractoin",
            "no config field 'fractoin'; --help-config lists those that exist. Did you mean 'fraction'?",
        ),
    ],
)
def test_any_other_field_is_refused_with_the_nearest(name, message):
    assert str(unknown_field(name, FILTER)) == message
