"""From settings to a filter: what `jaxcil filter` does."""

import os
from collections.abc import Callable

from jax import Array

from jaxcil import keys
from jaxcil.data import datasets
from jaxcil.evaluation.worth import judge
from jaxcil.evaluation.worth.scores import image_scores, on_features
from jaxcil.evaluation.worth.settings import OWN, FilterSettings
from jaxcil.extractors.saved import load_features
from jaxcil.heads.by_name import make_head
from jaxcil.synthesis.dataset import filters
from jaxcil.workdir.progress import Progress
from jaxcil.workdir.settings import as_dict


def judged(directory: str | os.PathLike, settings: FilterSettings) -> filters.Filter:
    """The filter of a data set, by a classifier of real images that is trained for it or taken from a run.

    Args:
      directory: of the synthetic set.
      settings: the rule, and how the classifier is made.

    Raises:
      InputError: what cannot be done, before the training; or as in `filters.judge`.
    """
    rule = filters.Rule(settings.keep, settings.score, settings.fraction)
    filters.check_rule(rule)
    data = datasets.load(settings.dataset, settings.split, settings.image_size, settings.data_dir)
    filters.check_class_names(directory, data.class_names)
    trained = image_scores(_program(settings, data), data)
    classifier = as_dict(settings)
    for name in ("keep", "fraction", "score", "data_dir"):
        del classifier[name]
    classifier |= {"class_names": data.class_names, "sha256": trained.sha256}
    return filters.judge(directory, rule, trained.scores, classifier)


def _program(settings: FilterSettings, data: datasets.ImageSet) -> Callable[[Array], Array]:
    """From images to scores, compiled."""
    if settings.extractor is not None:
        features = load_features(settings.extractor)
    else:
        with Progress("classifier", settings.judge.steps, "step") as progress:
            trained = judge.train_judge(
                data, settings.judge, notify=lambda report: progress.reach(report.done, report.note)
            )
        if settings.head == OWN:
            return trained.scores
        features = trained.features
    key = keys.purpose_key(keys.root_key(settings.judge.seed), "head")
    return on_features(make_head(settings.head, data.labels), features, data, key)
