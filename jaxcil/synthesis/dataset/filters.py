"""Filters: which images of a synthetic data set a classifier accepts.

A label is the class that was asked for, but a generator may draw another. Two rules keep what a classifier recognises,
with s_c its score of class c, y the label, and a score of the image for its own label:

    recognised     argmax_c s_c = y                                                                          (1)
    top            the fraction of each class with the highest score                                        (2)
    probability    softmax(s)_y = 1 / (1 + sum_{c != y} exp(s_c - s_y))                                     (3)
    margin         s_y - max_{c != y} s_c                                                                   (4)

Requests are numbered once and shards never change, so a filter removes nothing: it is a file next to the manifest,
SET/filters/NAME.json, with a score for every request, and a reader skips what the filter drops.
"""

import json
import math
import os
import pathlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from jaxcil.data.datasets import ImageSet
from jaxcil.errors import InputError, unknown_name
from jaxcil.synthesis.dataset import numbering, old_names, store
from jaxcil.synthesis.dataset.manifest import Manifest, read_manifest
from jaxcil.workdir import files
from jaxcil.workdir.progress import Progress

KEEPS = ("recognised", "top")
SCORES = ("probability", "margin")


class Rule(NamedTuple):
    """What a filter keeps."""

    keep: str  # "recognised", equation (1) of this module, or "top", (2)
    score: str  # "probability", (3), or "margin", (4)
    fraction: float | None = None  # of "top", in (0, 1]; per class, rounded up


class Filter(NamedTuple):
    """The result of a rule and a classifier for a data set of N requests."""

    rule: Rule
    # JSON values: class_names by position, sha256 of its scores of its training images, how it was trained
    classifier: dict[str, Any]
    content_hash: str  # of the data set
    kept: np.ndarray  # bool [N], by request number
    scores: np.ndarray  # float64 [N], each for the own label
    taken_for: np.ndarray  # int64 [N], positions in the classifier's class names


def judge(
    directory: str | os.PathLike,
    rule: Rule,
    scores: Callable[[np.ndarray], np.ndarray],
    classifier: dict[str, Any],
) -> Filter:
    """Scores every image of a data set, and decides which are kept.

    Args:
      directory: of a complete set.
      rule: what is kept; of two equal scores, the lower request number.
      scores: uint8 images [N, H, W, 3] -> [N, C]; called once per shard.
      classifier: JSON values that describe the classifier: class_names, C of them in the order of the scores, including
        all of the set's; sha256; and anything else.

    Raises:
      InputError: the rule is invalid, a class of the set is unknown to the classifier or loses all its images, a
        score is not finite, or the set cannot be read.
    """
    check_rule(rule)
    manifest, known = read_manifest(directory), tuple(classifier["class_names"])
    check_class_names(directory, known)
    positions = np.array([known.index(name) for name in manifest.class_names])
    total = manifest.requests.total
    own_scores, taken_for = np.empty(total), np.empty(total, np.int64)
    with Progress("judged", total, "image") as progress:
        for shard, (start, stop) in enumerate(manifest.requests.shards):
            images, labels = store.read_shard(directory, manifest, shard)
            given = np.asarray(scores(images), np.float64)
            if given.shape != (stop - start, len(known)) or not np.isfinite(given).all():
                raise InputError(
                    f"expected finite scores [{stop - start}, {len(known)}], got shape {given.shape} with "
                    f"{int((~np.isfinite(given)).sum())} that are not. Was the classifier trained on every class?"
                )
            taken_for[start:stop] = given.argmax(1)
            own_scores[start:stop] = own_score(given, positions[labels], rule.score)
            progress.reach(stop)
    labels, _ = numbering.located(manifest.requests, range(total))
    kept = taken_for == positions[labels] if rule.keep == "recognised" else _top(own_scores, labels, rule)
    result = Filter(rule, classifier, manifest.content_hash, kept, own_scores, taken_for)
    _check_every_class_left(manifest, result, labels)
    return result


def own_score(scores: np.ndarray, labels: np.ndarray, kind: str) -> np.ndarray:
    """The score [N] of the own label, by equation (3) or (4), of scores [N, C] and labels [N]."""
    rows = np.arange(len(labels))
    beyond = scores - scores[rows, labels][:, None]  # s_c - s_y
    beyond[rows, labels] = -np.inf
    if kind == "margin":
        return -beyond.max(1)
    with np.errstate(over="ignore"):  # exp may overflow to infinity; the probability is then 0
        return 1 / (1 + np.exp(beyond).sum(1))


def write_filter(directory: str | os.PathLike, name: str, result: Filter) -> pathlib.Path:
    """Writes SET/filters/NAME.json, replacing a filter of the same name.

    Raises:
      InputError: the name is not a valid file name, or the data set was changed since it was judged.
    """
    path, manifest = _path(directory, name), read_manifest(directory)
    if result.content_hash != manifest.content_hash:
        raise InputError(f"{directory} was changed while it was judged. Judge it again.")
    value = {
        "schema": 1,
        **_described(manifest, result),
        "kept": np.flatnonzero(result.kept).tolist(),
        "scores": [float(f"{score:.6g}") for score in result.scores],
        "taken_for": result.taken_for.tolist(),
    }
    # one field per line: a million lines would not be readable
    lines = (f"  {json.dumps(key)}: {json.dumps(item, allow_nan=False)}" for key, item in value.items())
    path.with_suffix(".png").unlink(missing_ok=True)  # the dropped images of the filter it replaces
    files.write(path, "{\n" + ",\n".join(lines) + "\n}\n")
    return path


def read_filter(directory: str | os.PathLike, name: str) -> Filter:
    """A filter of a data set in its present state.

    Raises:
      InputError: there is no such filter, its file is damaged, or the data set is not the one that it judged.
    """
    path, manifest = _path(directory, name), read_manifest(directory)
    if not path.exists():
        known = filter_names(directory)
        how = f"`jaxcil filter {directory} --config=FILE --name={name}` makes one."
        if not known:
            raise InputError(f"{directory} has no filters, so none named {name!r}. {how}")
        raise InputError(f"{unknown_name(f'filter in {directory}', name, known)} {how}")
    value = files.read_json(path)
    try:
        kept = np.zeros(value["judged"], bool)
        kept[value["kept"]] = True
        entry = Filter(
            Rule(**old_names.translated(value["rule"], old_names.RULE)),
            value["classifier"],
            value["content_hash"],
            kept,
            np.array(value["scores"], np.float64),
            np.array(value["taken_for"], np.int64),
        )
        sizes = {len(entry.kept), len(entry.scores), len(entry.taken_for)}
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not a filter: {error!r}. Make it again with `jaxcil filter`.") from None
    if len(sizes) > 1:
        raise InputError(f"{path} is damaged: it judges {sizes} images. Make it again with `jaxcil filter`.")
    if (entry.content_hash, len(entry.kept)) != (manifest.content_hash, manifest.requests.total):
        raise InputError(
            f"the filter {name!r} is stale: it judged {len(entry.kept)} images, and {directory} now has "
            f"{manifest.requests.total}, or others. Run `jaxcil filter {directory} --config=FILE --name={name}` again."
        )
    return entry


def read(directory: str | os.PathLike, name: str | None) -> ImageSet:
    """The images of a data set that a filter keeps, in the order of their requests; all if `name` is None.

    Raises:
      InputError: as in `read_filter` and `store.read`.
    """
    if name is None:
        return store.read(directory)
    manifest, kept = read_manifest(directory), read_filter(directory, name).kept
    parts = []
    for shard, (start, stop) in enumerate(manifest.requests.shards):
        images, labels = store.read_shard(directory, manifest, shard)
        parts.append((images[kept[start:stop]], labels[kept[start:stop]]))
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts))
    return ImageSet(images, labels, manifest.class_names)


def folder(directory: str | os.PathLike) -> pathlib.Path:
    """The folder of a data set's filters."""
    return pathlib.Path(directory) / "filters"


def summary(directory: str | os.PathLike, name: str) -> dict[str, Any]:
    """A filter as results record it: everything except the figures of single images.

    Raises:
      InputError: as in `read_filter`.
    """
    return {"name": name, **_described(read_manifest(directory), read_filter(directory, name))}


def filter_names(directory: str | os.PathLike) -> list[str]:
    """The names of the filters of a data set, sorted."""
    return sorted(path.stem for path in folder(directory).glob("[!.]*.json"))


def fractions_kept(manifest: Manifest, result: Filter) -> dict[str, float]:
    """The fraction of each class's images that is kept, by class name."""
    labels, _ = numbering.located(manifest.requests, range(len(result.kept)))
    counts = np.bincount(labels, minlength=len(manifest.class_names))
    kept = np.bincount(labels[result.kept], minlength=len(manifest.class_names))
    return {name: float(part / count) for name, part, count in zip(manifest.class_names, kept, counts)}


def dropped_numbers(result: Filter) -> np.ndarray:
    """Request numbers of the dropped images, lowest score first."""
    numbers = np.flatnonzero(~result.kept)
    return numbers[np.argsort(result.scores[numbers], kind="stable")]


def check_rule(rule: Rule) -> None:
    """Refuses an invalid rule.

    Raises:
      InputError: names what is wrong.
    """
    for kind, name, known in (("rule", rule.keep, KEEPS), ("score", rule.score, SCORES)):
        if name not in known:
            raise unknown_name(kind, name, known)
    if rule.keep == "top" and not (rule.fraction is not None and 0 < rule.fraction <= 1):
        raise InputError(
            f"the fraction to keep of each class must lie in (0, 1], got {rule.fraction}; give for example 0.8."
        )
    if rule.keep != "top" and rule.fraction is not None:
        raise InputError(f"a fraction belongs to the rule 'top'; omit it with {rule.keep!r}.")


def check_class_names(directory: str | os.PathLike, known: Sequence[str]) -> None:
    """Refuses a classifier that does not know every class of a data set.

    Raises:
      InputError: names the class, or the classifier has only one.
    """
    for name in read_manifest(directory).class_names:
        if name not in known:
            raise unknown_name("class of the classifier", name, known)
    if len(known) < 2:
        raise InputError(
            f"a classifier of {known[0]!r} alone recognises it in every image; use one of several classes."
        )


def check_name(name: str) -> None:
    """Refuses the name of a filter that is not a valid file name.

    Raises:
      InputError: names the allowed characters.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise InputError(f"the name of a filter consists of letters, digits, '_', '-' and '.', got {name!r}.")


def _described(manifest: Manifest, result: Filter) -> dict[str, Any]:
    """The part of a filter that describes the whole set, as JSON values."""
    return {
        "rule": result.rule._asdict(),
        "classifier": result.classifier,
        "content_hash": result.content_hash,
        "judged": len(result.kept),
        "share_kept": fractions_kept(manifest, result),
    }


def _top(scores: np.ndarray, labels: np.ndarray, rule: Rule) -> np.ndarray:
    """Equation (2): bool [N]."""
    kept = np.zeros(len(scores), bool)
    for label in np.unique(labels):
        numbers = np.flatnonzero(labels == label)
        # of the decimal as written: 0.1 of 30 is 3, not 4 as the float 0.1 would give
        count = math.ceil(Fraction(str(rule.fraction)) * len(numbers))
        kept[numbers[np.argsort(-scores[numbers], kind="stable")[:count]]] = True
    return kept


def _check_every_class_left(manifest: Manifest, result: Filter, labels: np.ndarray) -> None:
    lost = [label for label in range(len(manifest.class_names)) if not result.kept[labels == label].any()]
    if lost:
        taken, times = Counter(result.taken_for[labels == lost[0]].tolist()).most_common(1)[0]
        names = [manifest.class_names[label] for label in lost]
        raise InputError(
            f"no image is left of {_listed(names)}: of the {int((labels == lost[0]).sum())} images of {names[0]!r} the "
            f"classifier takes {times} for {result.classifier['class_names'][taken]!r}. Look at them, use the rule "
            "'top', or a better classifier."
        )


def _listed(names: Sequence[str]) -> str:
    """The first names, and the number of others."""
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"{', '.join(map(repr, names[:10]))}{more}"


def _path(directory: str | os.PathLike, name: str) -> pathlib.Path:
    check_name(name)
    return folder(directory) / f"{name}.json"
