"""The learners that configs and results name: a maker of (setup, **options) and the options that a config may set."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxcil.learners.bic import bic
from jaxcil.learners.finetune import finetune
from jaxcil.learners.frozen import frozen
from jaxcil.learners.icarl import icarl
from jaxcil.learners.joint import joint
from jaxcil.learners.lucir import lucir
from jaxcil.learners.lwf import lwf
from jaxcil.learners.podnet import podnet
from jaxcil.learners.replay import replay
from jaxcil.learners.wa import wa
from jaxcil.workdir.settings import argument_comments


class LearnerChoice(NamedTuple):
    """What a name means."""

    maker: Callable[..., Any]  # (setup, **options) -> learner
    options: dict[str, Any]  # fields of the config, at their defaults
    keeps_training: bool  # whether it trains in tasks after the first


def _choice(maker: Callable[..., Any], keeps_training: bool = True) -> LearnerChoice:
    _, *parameters = inspect.signature(maker).parameters.values()
    return LearnerChoice(maker, {each.name: each.default for each in parameters}, keeps_training)


def option_comments(name: str) -> dict[str, str]:
    """What each option of a learner is."""
    comments = argument_comments(LEARNERS[name].maker)
    return {option: comments[option] for option in LEARNERS[name].options}


DEFAULT = "frozen"  # the files of its lanes are called by their variants alone
LEARNERS = {
    DEFAULT: _choice(frozen, keeps_training=False),
    **{
        maker.__name__: _choice(maker)
        for maker in (finetune, replay, joint, lwf, icarl, lucir, podnet, wa, bic)
    },
}
