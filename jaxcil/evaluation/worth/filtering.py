"""From a config to a filter: the driver of `jaxcil filter`."""

import os
from collections.abc import Callable
from typing import Any

from jax import Array

from jaxcil import keys
from jaxcil.data import datasets
from jaxcil.errors import InputError, check_counts, unknown_name
from jaxcil.evaluation.worth import judge
from jaxcil.evaluation.worth.scores import image_scores, on_features
from jaxcil.extractors.saved import load_features
from jaxcil.heads.by_name import HEADS, make_head
from jaxcil.synthesis.dataset import filters
from jaxcil.workdir.progress import Progress

OWN = "linear"  # the layer that the network is trained with


def judged(directory: str | os.PathLike, config: Any) -> filters.Filter:
    """The filter of a data set that a config describes; trains a classifier of real images for it.

    Args:
      directory: of the synthetic set.
      config: a ConfigDict with the fields of configs/filter_digits.py.

    Raises:
      InputError: anything in the config that cannot be done, before the training; or as in `filters.judge`.
    """
    rule = filters.Rule(config.keep, config.score, config.share)
    filters.check_rule(rule)
    check_counts(config.judge, "judge", "blocks", "steps", "batch_size")
    if config.head != OWN and config.head not in HEADS:
        raise unknown_name("head", config.head, (OWN, *HEADS))
    if config.head == OWN and config.extractor is not None:
        raise InputError(
            f"the extractor of a run needs a head on its features: {', '.join(HEADS)}; got {OWN!r}."
        )
    data = datasets.load(config.dataset, config.split, config.image_size, config.data_dir)
    filters.check_class_names(directory, data.class_names)
    trained = image_scores(_program(config, data), data)
    described = config.to_dict()
    for name in ("keep", "share", "score", "data_dir"):
        del described[name]
    described |= {"class_names": data.class_names, "sha256": trained.sha256}
    return filters.judge(directory, rule, trained.scores, described)


def _program(config: Any, data: datasets.ImageSet) -> Callable[[Array], Array]:
    """From images to scores, compiled."""
    if config.extractor is not None:
        features = load_features(config.extractor)
    else:
        with Progress("classifier", config.judge.steps, "step") as progress:
            network = judge.train_classifier(
                data,
                judge.Judge(**config.judge),
                tell=lambda told: progress.reach(told.done, told.note),
            )
        if config.head == OWN:
            return network.scores
        features = network.features
    key = keys.purpose_key(keys.root_key(config.judge.seed), "head")
    return on_features(make_head(config.head, data.labels), features, data, key)
