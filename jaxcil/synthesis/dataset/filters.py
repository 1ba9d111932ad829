"""Filters: which images of a synthetic data set a classifier lets pass.

A label is the class that was asked for, and a generator may draw another. Two rules keep what a classifier finds
in the image, with s_c its score of class c, y the label and a score of the image for its own label:

    recognised     argmax_c s_c = y                                                                          (1)
    top            the share of each class with the highest score                                           (2)
    probability    softmax(s)_y = 1 / (1 + sum_{c != y} exp(s_c - s_y))                                     (3)
    margin         s_y - max_{c != y} s_c                                                                   (4)

Requests are numbered for ever and shards never change, so a filter takes nothing away: it is a file beside the
manifest, SET/filters/NAME.json, with a score for every request, and a reader leaves out what the filter drops.
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
from jaxcil.synthesis.dataset import numbering, store
from jaxcil.synthesis.dataset.manifest import Manifest, read_manifest
from jaxcil.workdir import files
from jaxcil.workdir.progress import Progress

KEEPS = ("recognised", "top")
SCORES = ("probability", "margin")


class Rule(NamedTuple):
    """What a filter keeps."""

    keep: str  # "recognised", equation (1) of this module, or "top", (2)
    score: str  # "probability", (3), or "margin", (4)
    share: float | None = None  # of "top", in (0, 1]; of each class, rounded up


class Filter(NamedTuple):
    """What a rule and a classifier made of a data set of N requests."""

    rule: Rule
    classifier: dict[
        str, Any
    ]  # JSON values: class_names by position, sha256 of its scores of its training images, how it was trained
    content_hash: str  # of the data set
    kept: np.ndarray  # bool [N], by request number
    scores: np.ndarray  # float64 [N], of the own label
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
      rule: what is kept; where two scores are equal, the lower request number.
      scores: uint8 images [N, H, W, 3] -> [N, C]; called with the images of a shard.
      classifier: JSON values that say what gave the scores: class_names, C of them in the order of the scores, all
        of the set's among them; sha256; and whatever tells more.

    Raises:
      InputError: the rule says nothing, a class of the set is unknown to the classifier or loses all its images, a
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
    found = Filter(rule, classifier, manifest.content_hash, kept, own_scores, taken_for)
    _check_every_class_left(manifest, found, labels)
    return found


def own_score(scores: np.ndarray, labels: np.ndarray, kind: str) -> np.ndarray:
    """The score [N] of the own label, by equation (3) or (4), of scores [N, C] and labels [N]."""
    rows = np.arange(len(labels))
    beyond = scores - scores[rows, labels][:, None]  # s_c - s_y
    beyond[rows, labels] = -np.inf
    if kind == "margin":
        return -beyond.max(1)
    with np.errstate(over="ignore"):  # exp of much is infinite, and the probability then 0
        return 1 / (1 + np.exp(beyond).sum(1))


def write_filter(directory: str | os.PathLike, name: str, found: Filter) -> pathlib.Path:
    """Writes SET/filters/NAME.json, in place of a filter of that name.

    Raises:
      InputError: the name cannot be that of a file, or the data set was changed since it was judged.
    """
    path, manifest = _path(directory, name), read_manifest(directory)
    if found.content_hash != manifest.content_hash:
        raise InputError(f"{directory} was changed while it was judged. Judge it again.")
    value = {
        "schema": 1,
        **_described(manifest, found),
        "kept": np.flatnonzero(found.kept).tolist(),
        "scores": [float(f"{score:.6g}") for score in found.scores],
        "taken_for": found.taken_for.tolist(),
    }
    # a field a line: a million numbers each on its own would be no file for people
    lines = (f"  {json.dumps(key)}: {json.dumps(item, allow_nan=False)}" for key, item in value.items())
    path.with_suffix(".png").unlink(missing_ok=True)  # what a filter of that name dropped before
    files.write(path, "{\n" + ",\n".join(lines) + "\n}\n")
    return path


def read_filter(directory: str | os.PathLike, name: str) -> Filter:
    """A filter of a data set as it is now.

    Raises:
      InputError: there is no such filter, its file is damaged, or the data set is another than the one it judged.
    """
    path, manifest = _path(directory, name), read_manifest(directory)
    if not path.exists():
        known = filter_names(directory)
        how = f"`jaxcil filter {directory} --config=FILE --name={name}` makes one."
        if not known:
            raise InputError(f"{directory} has no filter {name!r}, and no other. {how}")
        raise InputError(f"{unknown_name(f'filter in {directory}', name, known)} {how}")
    value = files.read_json(path)
    try:
        kept = np.zeros(value["judged"], bool)
        kept[value["kept"]] = True
        found = Filter(
            Rule(**value["rule"]),
            value["classifier"],
            value["content_hash"],
            kept,
            np.array(value["scores"], np.float64),
            np.array(value["taken_for"], np.int64),
        )
        sizes = {len(found.kept), len(found.scores), len(found.taken_for)}
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not a filter: {error!r}. Make it again with `jaxcil filter`.") from None
    if len(sizes) > 1:
        raise InputError(f"{path} is damaged: it judges {sizes} images. Make it again with `jaxcil filter`.")
    if (found.content_hash, len(found.kept)) != (manifest.content_hash, manifest.requests.total):
        raise InputError(
            f"the filter {name!r} is stale: it judged {len(found.kept)} images, and {directory} now has "
            f"{manifest.requests.total}, or others. Run `jaxcil filter {directory} --config=FILE --name={name}` again."
        )
    return found


def read(directory: str | os.PathLike, name: str | None) -> ImageSet:
    """The images of a data set that a filter keeps, in the order of their requests; of None: all.

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
    """Where the filters of a data set lie."""
    return pathlib.Path(directory) / "filters"


def summary(directory: str | os.PathLike, name: str) -> dict[str, Any]:
    """What a result says of the filter of its data: all but the numbers of single images.

    Raises:
      InputError: as in `read_filter`.
    """
    return {"name": name, **_described(read_manifest(directory), read_filter(directory, name))}


def filter_names(directory: str | os.PathLike) -> list[str]:
    """The names of the filters of a data set, sorted."""
    return sorted(path.stem for path in folder(directory).glob("[!.]*.json"))


def shares_kept(manifest: Manifest, found: Filter) -> dict[str, float]:
    """The share of each class's images that is kept, by class name."""
    labels, _ = numbering.located(manifest.requests, range(len(found.kept)))
    counts = np.bincount(labels, minlength=len(manifest.class_names))
    kept = np.bincount(labels[found.kept], minlength=len(manifest.class_names))
    return {name: float(part / count) for name, part, count in zip(manifest.class_names, kept, counts)}


def dropped_numbers(found: Filter) -> np.ndarray:
    """Request numbers of the dropped images, the lowest score first."""
    numbers = np.flatnonzero(~found.kept)
    return numbers[np.argsort(found.scores[numbers], kind="stable")]


def check_rule(rule: Rule) -> None:
    """Refuses a rule that says nothing.

    Raises:
      InputError: names what is wrong.
    """
    for kind, name, known in (("rule", rule.keep, KEEPS), ("score", rule.score, SCORES)):
        if name not in known:
            raise unknown_name(kind, name, known)
    if rule.keep == "top" and not (rule.share is not None and 0 < rule.share <= 1):
        raise InputError(
            f"the share to keep of each class must lie in (0, 1], got {rule.share}. Give it as 0.8."
        )
    if rule.keep != "top" and rule.share is not None:
        raise InputError(
            f"a share goes with the rule 'top'; {rule.keep!r} keeps what it keeps. Leave it out."
        )


def check_class_names(directory: str | os.PathLike, known: Sequence[str]) -> None:
    """Refuses a classifier that does not know every class of a data set.

    Raises:
      InputError: names the class, or says that there is only one to choose from.
    """
    for name in read_manifest(directory).class_names:
        if name not in known:
            raise unknown_name("class of the classifier", name, known)
    if len(known) < 2:
        raise InputError(
            f"a classifier that knows {known[0]!r} alone finds it in every image; take one of several."
        )


def check_name(name: str) -> None:
    """Refuses the name of a filter that cannot be that of a file.

    Raises:
      InputError: says what it may be made of.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise InputError(f"the name of a filter is of letters, digits, '_', '-' and '.', got {name!r}.")


def _described(manifest: Manifest, found: Filter) -> dict[str, Any]:
    """JSON values."""
    return {
        "rule": found.rule._asdict(),
        "classifier": found.classifier,
        "content_hash": found.content_hash,
        "judged": len(found.kept),
        "share_kept": shares_kept(manifest, found),
    }


def _top(scores: np.ndarray, labels: np.ndarray, rule: Rule) -> np.ndarray:
    """Equation (2): bool [N]."""
    kept = np.zeros(len(scores), bool)
    for label in np.unique(labels):
        numbers = np.flatnonzero(labels == label)
        # of the decimal that was written: 0.1 of 30 are 3, and not 4 for a digit of the float behind it
        count = math.ceil(Fraction(str(rule.share)) * len(numbers))
        kept[numbers[np.argsort(-scores[numbers], kind="stable")[:count]]] = True
    return kept


def _check_every_class_left(manifest: Manifest, found: Filter, labels: np.ndarray) -> None:
    lost = [label for label in range(len(manifest.class_names)) if not found.kept[labels == label].any()]
    if lost:
        taken, times = Counter(found.taken_for[labels == lost[0]].tolist()).most_common(1)[0]
        names = [manifest.class_names[label] for label in lost]
        raise InputError(
            f"nothing is left of {_listed(names)}: of the {int((labels == lost[0]).sum())} images of {names[0]!r} the "
            f"classifier takes {times} for {found.classifier['class_names'][taken]!r}. Look at them, take the rule "
            "'top', or a better classifier."
        )


def _listed(names: Sequence[str]) -> str:
    """The first names, and how many more."""
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"{', '.join(map(repr, names[:10]))}{more}"


def _path(directory: str | os.PathLike, name: str) -> pathlib.Path:
    check_name(name)
    return folder(directory) / f"{name}.json"
