"""The learners that configs and results name: a maker of (setup, **options) and the options that a config may set."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from jaxcil.errors import InputError, unknown_name
from jaxcil.learners.bic import bic
from jaxcil.learners.der import der
from jaxcil.learners.finetune import finetune
from jaxcil.learners.foster import foster
from jaxcil.learners.frozen import frozen
from jaxcil.learners.icarl import icarl
from jaxcil.learners.joint import joint
from jaxcil.learners.lucir import lucir
from jaxcil.learners.lwf import lwf
from jaxcil.learners.podnet import podnet
from jaxcil.learners.replay import replay
from jaxcil.learners.wa import wa
from jaxcil.workdir.settings import argument_comments

# The recipe of later tasks, which each learner that keeps training may have of its own: fields of `later_training`
RECIPE = {
    "epochs": None,
    "steps": None,
    "batch_size": None,
    "learning_rate": None,
    "weight_decay": None,
    "schedule": None,
    "milestones": (),
}


class LearnerChoice(NamedTuple):
    """What a name means."""

    maker: Callable[..., Any]  # (setup, **options) -> learner
    options: dict[str, Any]  # fields of the config, at their defaults; of RECIPE too
    keeps_training: bool  # whether it trains in tasks after the first
    memory: bool  # whether it chooses exemplars
    distils: bool  # whether it has a distillation loss


def _choice(
    maker: Callable[..., Any], *, keeps_training: bool = True, memory: bool = True, distils: bool = True
) -> LearnerChoice:
    _, *parameters = inspect.signature(maker).parameters.values()
    own = {each.name: each.default for each in parameters}
    options = {**own, **RECIPE} if keeps_training else own
    return LearnerChoice(maker, options, keeps_training, memory, distils)


def option_comments(name: str) -> dict[str, str]:
    """What each option of a learner is."""
    comments = argument_comments(LEARNERS[name].maker)
    of_recipe = {
        field: f"of its later tasks; {'empty' if field == 'milestones' else 'none'}: as later_training"
        for field in RECIPE
    }
    return {option: {**of_recipe, **comments}[option] for option in LEARNERS[name].options}


def divided(options: Mapping[str, Any], taken: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of a learner: those that its maker takes, by their names, and those of RECIPE that are set."""
    mine = set(taken)
    own = {name: value for name, value in options.items() if name in mine or name not in RECIPE}
    recipe = {name: value for name, value in options.items() if name not in own and value != RECIPE[name]}
    # one takes the place of the other, which milestones count
    if "steps" in recipe or "epochs" in recipe:
        recipe = {"steps": None, "epochs": None, "milestones": (), **recipe}
    if recipe.get("schedule", "step") != "step":
        recipe = {"milestones": (), **recipe}
    return own, recipe


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuses options of a learner that it does not have, or of another type.

    Raises:
      InputError: the first of them.
    """
    known = LEARNERS[name].options
    for option, value in options.items():
        if option not in known:
            raise unknown_name(f"option of {name}", option, known)
        field, default = f"learner_options.{name}.{option}", known[option]
        kinds: Any = (
            float if isinstance(default, int | float) and not isinstance(default, bool) else type(default)
        )
        if value == default or option in RECIPE:  # of which the settings know the ranges
            continue
        if default is None:
            kinds = float
        kinds = (int, float) if kinds is float else kinds
        if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
            like = "a number" if default is None else f"like its default {default!r}"
            raise InputError(f"{field} must be {like}, got {value!r}")


DEFAULT = "frozen"  # the files of its lanes are called by their variants alone
LEARNERS = {
    DEFAULT: _choice(frozen, keeps_training=False, memory=False, distils=False),
    "finetune": _choice(finetune, memory=False, distils=False),
    "replay": _choice(replay, distils=False),
    "joint": _choice(joint, memory=False, distils=False),
    "lwf": _choice(lwf, memory=False),
    "der": _choice(der, distils=False),
    **{maker.__name__: _choice(maker) for maker in (icarl, lucir, podnet, wa, bic, foster)},
}
