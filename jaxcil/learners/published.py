"""From a learner's published recipe and a run's settings to what it trains with; a setting takes precedence."""

from typing import Any, NamedTuple

import numpy as np

from jaxcil.errors import InputError
from jaxcil.learners.incremental import Incremental, Recipe
from jaxcil.memory.exemplars import Exemplars
from jaxcil.training.learner import Setup
from jaxcil.training.optimizer import sgd


class Published(NamedTuple):
    """The recipe of the tasks after the first; milestones count epochs."""

    epochs: int
    learning_rate: float
    weight_decay: float
    milestones: tuple[int, ...] = ()  # () is a cosine
    batch_size: int = 128


def learner(
    setup: Setup, method: Any, published: Published, memory: Exemplars | None = None, **recipes: Recipe
) -> Incremental:
    """An `Incremental` for a run.

    Args:
      setup: of the run.
      method: what is special about the learner.
      published: its recipe of later tasks.
      memory: its published memory; None: it keeps no exemplars, and has no reading "nme".
      **recipes: of further trainings, by name.
    """
    return Incremental(
        method=method,
        recipes={"first": first_recipe(setup), "later": later_recipe(setup, published), **recipes},
        num_classes=setup.num_classes,
        network=setup.network,
        task_sizes=setup.task_sizes,
        augmentation=setup.augmentation,
        exemplars=None if memory is None else exemplars(setup, memory),
        other_classes=setup.other_classes,
        images_per_class=setup.images_per_class,
    )


def first_recipe(setup: Setup) -> Recipe:
    """That of the first training, which the run's settings describe."""
    return Recipe(setup.optimizer, steps=setup.steps, batch_size=setup.batch_size)


def later_recipe(setup: Setup, published: Published) -> Recipe:
    """That of the trainings of later tasks; published milestones keep their place in one of another length.

    Raises:
      InputError: milestones beyond the end of the training, or a schedule that does not go with them.
    """
    own = setup.later_training
    length = own.steps or own.epochs or published.epochs
    milestones = tuple(own.milestones)
    if milestones and milestones[-1] >= length:
        raise InputError(
            f"milestones of later tasks must end before their training does, after {length} "
            f"{'steps' if own.steps else 'epochs'}; got {milestones}"
        )
    if not milestones and own.schedule in (None, "step"):
        scaled = {round(milestone * length / published.epochs) for milestone in published.milestones}
        milestones = tuple(sorted(milestone for milestone in scaled if 0 < milestone < length))
    schedule = own.schedule or ("step" if milestones else "cosine")
    rate, decay = own.learning_rate, own.weight_decay
    optimizer = sgd(
        published.learning_rate if rate is None else rate,
        published.weight_decay if decay is None else decay,
        schedule=schedule,
        milestones=milestones,
    )
    epochs = None if own.steps is not None else own.epochs or published.epochs
    size = own.batch_size or (setup.batch_size if own.steps is not None else published.batch_size)
    return Recipe(optimizer, epochs=epochs, steps=own.steps, batch_size=size)


def exemplars(setup: Setup, published: Exemplars) -> Exemplars | None:
    """The memory of a run; None where the settings leave none.

    Raises:
      InputError: both sizes are given, or a total that leaves a class without any.
    """
    own = setup.memory
    if own.per_class is not None and own.total is not None:
        raise InputError(f"give memory.per_class or memory.total, not both; got {own.per_class}, {own.total}")
    if own.total and own.total < setup.num_classes:
        raise InputError(
            f"memory.total must be at least 1 for each of {setup.num_classes} classes, or 0; got {own.total}"
        )
    sizes = {"per_class": published.per_class, "total": published.total}
    if own.per_class is not None or own.total is not None:
        sizes = {"per_class": own.per_class, "total": own.total}
    kept = Exemplars(**sizes, rule=own.rule or published.rule)
    return kept if max(map(kept.quota, np.cumsum(setup.task_sizes))) else None
