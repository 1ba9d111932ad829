"""Class names and their synonyms: from a file, a known data set, or a TFDS builder.

A file has one class per line, in the order of the labels:

    # a line that starts so is a comment
    sea_lion
    tench, Tinca tinca                          synonyms behind commas; the first names the class
    crane, whooping crane; a large bird         a definition behind a semicolon
    n03126707: crane; a machine                 a class of another name before a colon

The name of a class is what synthetic and real images join by and what a label means; the words are what
prompts contain. Known lists are next to this file in the same form, with their sources.

ImageNet-Subset is two data sets: two choices of 100 of the 1,000 classes, with 9 in common. Results on one say nothing
about the other, so neither is called ImageNet-100 alone. Both keep the order of the sorted WordNet ids; papers that
permute it ("seed-1993") do so within their own 100.
"""

import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxcil.errors import InputError, unknown_name
from jaxcil.workdir import files


def imagenet100_lucir(ids: Sequence[str]) -> list[str]:
    """The classes of LUCIR (Hou et al., CVPR 2019), PyCIL, FeTrIL and FOSTER.

    Args:
      ids: the 1,000 WordNet ids, sorted.

    Returns:
      The 100 that NumPy's legacy generator draws without replacement from the seed 1993, sorted.
    """
    return sorted(np.random.RandomState(1993).choice(np.asarray(ids), 100, replace=False).tolist())


def imagenet100_podnet(ids: Sequence[str]) -> list[str]:
    """The classes of PODNet (Douillard et al., ECCV 2020), DER and DyTox: the first 100 of the sorted WordNet ids."""
    return list(ids[:100])


SUBSETS = {"imagenet100_lucir": imagenet100_lucir, "imagenet100_podnet": imagenet100_podnet}
FOLDER = pathlib.Path(__file__).parent
WHOLE = ("cifar10", "cifar100", "imagenet1k")
KNOWN = (*WHOLE, *SUBSETS)
TFDS = "tfds:"
WORDNET_ID = re.compile(r"n\d{8}")  # names that ImageNet and its subsets give to classes


class ClassEntry(NamedTuple):
    """One class of a list."""

    name: str
    words: tuple[str, ...]  # what it is called, the most usual first; at least one
    definition: str  # "" where the list has none


def read_class_list(source: str) -> tuple[ClassEntry, ...]:
    """All classes of a list, in the order of their labels.

    Args:
      source: "cifar10", "cifar100", "imagenet1k", "imagenet100_lucir" or "imagenet100_podnet"; the path of a file; or
        "tfds:NAME" with the name of a TFDS builder that knows the names of its labels.

    Raises:
      InputError: there is no such list, or a line of it cannot be used; the message has its number.
    """
    if source.startswith(TFDS):
        return tuple(ClassEntry(name, (name,), "") for name in _label_names(source.removeprefix(TFDS)))
    if source in SUBSETS:
        whole = {entry.name: entry for entry in read_class_list("imagenet1k")}
        return tuple(whole[name] for name in SUBSETS[source](list(whole)))
    path = FOLDER / f"{source}.txt" if source in WHOLE else pathlib.Path(source)
    if not files.is_file(str(path)):
        raise InputError(
            f"{unknown_name('class list', source, KNOWN)} Or give the path of a file with a class per line, or "
            f"{TFDS}NAME for the label names of a TFDS builder."
        )
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a list of classes in UTF-8: {error}") from None
    entries: dict[str, ClassEntry] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        entry = _entry(line, f"line {number} of {path}")
        if entry.name in entries:
            raise InputError(
                f"line {number} of {path} names the class {entry.name!r} again. Give it another name before a "
                f"colon: `another_name: {line.strip()}`."
            )
        entries[entry.name] = entry
    if not entries:
        raise InputError(f"{path} holds no class; write one name per line.")
    return tuple(entries.values())


def _entry(line: str, where: str) -> ClassEntry:
    before, semicolon, definition = line.partition(";")
    name, colon, rest = before.partition(":")
    words = tuple(word.strip() for word in (rest if colon else before).split(","))
    name, definition = name.strip() if colon else words[0], definition.strip()
    if not (name and all(words)) or (semicolon and not definition) or ";" in definition:
        raise InputError(
            f"{where} must have the form `name`, `name, synonym, ...`, `class: name, ...` or `name; definition`, "
            f"without empty parts, got {line.strip()!r}."
        )
    return ClassEntry(name, words, definition)


def _label_names(builder_name: str) -> list[str]:
    """The label names of a TFDS builder."""
    import tensorflow_datasets as tfds  # here, since it takes seconds and most lists do without

    try:
        info = tfds.builder(builder_name).info
    except Exception as error:  # TFDS has an exception for each of its many ways to find no builder
        first = str(error).strip().splitlines()[:1]
        raise InputError(
            f"TFDS gives no builder {builder_name!r}: {''.join(first) or type(error).__name__}"
        ) from None
    every: Any = info.features  # typed as if it had no names
    features = {
        name: feature for name, feature in every.items() if isinstance(feature, tfds.features.ClassLabel)
    }
    feature = features.get("label") or (next(iter(features.values())) if len(features) == 1 else None)
    if feature is None:
        raise InputError(
            f"the TFDS builder {builder_name!r} has no feature 'label' with class names (it has: "
            f"{', '.join(features) or 'none'}). Write the names into a file, one per line."
        )
    names = list(feature.names)
    if not names or names == [str(number) for number in range(len(names))]:
        raise InputError(
            f"the TFDS builder {builder_name!r} does not know the names of its labels: many know them only where "
            "the data set is prepared. Prepare it, or write the names into a file, one per line."
        )
    return names
