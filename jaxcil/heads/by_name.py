"""The heads that configs and results name, with the options of each."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxcil import heads
from jaxcil.workdir.settings import argument_comments

SGD = ("learning_rate", "weight_decay", "epochs", "batch_size")


class HeadChoice(NamedTuple):
    """What a name means."""

    maker: Callable[..., Any]
    given: dict[str, Any]  # decided by the name
    options: tuple[str, ...]  # fields of the config, at the maker's default


HEADS = {
    "ncm": HeadChoice(heads.ncm, {}, ("means",)),
    "ncm_euclidean": HeadChoice(heads.ncm, {"metric": "euclidean"}, ("means",)),
    "fetril": HeadChoice(heads.fetril, {}, ("regularisation",)),
    "fetril_pycil": HeadChoice(heads.fetril, {"preset": "pycil"}, ("regularisation",)),
    "fetril_fc": HeadChoice(heads.fetril, {"preset": "pycil", "classifier": "fc"}, SGD),
    "fetril_ridge": HeadChoice(heads.fetril, {"classifier": "ridge"}, ("ridge",)),
    "fecam": HeadChoice(heads.fecam, {}, ("beta", "gamma1", "gamma2", "correlation", "first_task")),
    "fecam_common": HeadChoice(heads.fecam, {"mode": "common"}, ("beta", "gamma1", "gamma2", "first_task")),
    "fecam_diagonal": HeadChoice(heads.fecam, {"mode": "diagonal"}, ("beta", "gamma1")),
    "slda": HeadChoice(heads.slda, {}, ("shrinkage",)),
    "acil": HeadChoice(heads.acil, {}, ("ridge", "buffer_size")),
    "ds_al": HeadChoice(heads.ds_al, {}, ("ridge", "compensation_ridge", "ratio", "buffer_size")),
    "ranpac": HeadChoice(heads.ranpac, {}, ("projection_size",)),
    "linear": HeadChoice(heads.linear, {}, SGD),
}
GROUPS_CLASSES = (heads.fetril, heads.fecam)  # they need a bound on the images of one class


def default_options(name: str) -> dict[str, Any]:
    """The options of a head that a config may set, at their defaults."""
    parameters = inspect.signature(HEADS[name].maker).parameters
    return {option: parameters[option].default for option in HEADS[name].options}


def option_comments(name: str) -> dict[str, str]:
    """What each option of a head is."""
    comments = argument_comments(HEADS[name].maker)
    return {option: comments[option] for option in HEADS[name].options}


def make_head(name: str, train_labels: np.ndarray, **options: Any) -> Any:
    """A head by its name.

    Args:
      name: one of HEADS.
      train_labels: int32 [N], of all training images: their largest class bounds the memory that a head allocates.
      **options: in addition to those that the name decides.

    Raises:
      InputError: a value that the head refuses.
    """
    maker, given, _ = HEADS[name]
    options = {**given, **options}
    if maker in GROUPS_CLASSES:
        options["images_per_class"] = int(np.bincount(train_labels).max())
    return maker(**options)
