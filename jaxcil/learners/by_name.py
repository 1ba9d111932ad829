"""The learners that configs and results name: a maker of (setup, **options) and the options that a config may set."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxcil.learners.frozen import frozen


class LearnerChoice(NamedTuple):
    """What a name means."""

    maker: Callable[..., Any]  # (setup, **options) -> learner
    options: dict[str, Any]  # fields of the config, at their defaults


DEFAULT = "frozen"  # the files of its lanes are called by their variants alone
LEARNERS = {DEFAULT: LearnerChoice(frozen, {})}
