"""The prompt and the guidance scale of each image of a data set.

A template holds {} where the class goes, and may hold choices: "a {photo|picture} of a {}". Image (class, index)
has template number index modulo the number of templates, so that every class has the same mix of prompts,
whatever its number of images. A class may have several phrases ("couch", "sofa"); they are taken in turn as well, so
that every pair of template and phrase occurs. Choices are drawn by a hash of class and index. Several guidance scales
are taken in turn with the pairs of template and phrase, so that a class has the same mix of prompts at each scale.

All of it is a function of (class, index), of the class's phrases and of the config: nothing depends on what else is in
the data set, so an image always has the same prompt and scale.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxcil.data.class_names.class_list import ClassEntry
from jaxcil.errors import InputError, unknown_name
from jaxcil.synthesis.dataset.manifest import Manifest

# For natural images; some of the templates that CLIP was evaluated with (Radford et al., arXiv:2103.00020).
PHOTO_TEMPLATES = ("a photo of a {}", "a good photo of a {}", "a close-up photo of a {}", "a photo of the {}")
SYNONYMS = ("first", "all")
CHOICE = re.compile(r"\{([^{}]*\|[^{}]*)\}")


def readable(class_name: str) -> str:
    """A class name as words: "sea_lion" is "sea lion"."""
    return " ".join(class_name.replace("_", " ").split())


def prompt(templates: Sequence[str], class_name: str, index: int, phrases: Sequence[str] = ()) -> str:
    """The prompt of image `index` of a class.

    Args:
      templates: taken in turn.
      class_name: used as words if there are no phrases.
      index: of the image within its class.
      phrases: names for the class, taken in turn.
    """
    template = templates[index % len(templates)]
    phrase = phrases[in_turn(index, len(templates), len(phrases))] if phrases else readable(class_name)
    places = iter(range(len(template)))

    def chosen(match: re.Match[str]) -> str:
        options = match[1].split("|")
        return options[_drawn(f"{class_name}\n{index}\n{next(places)}", len(options))]

    return CHOICE.sub(chosen, template).replace("{}", phrase)


def in_turn(index: int, period: int, size: int) -> int:
    """Which of `size` items image `index` has, independently of others that repeat every `period` images.

    They are taken one after the other, with an additional step whenever both would repeat together: any
    `period * size` consecutive images have each pair once.
    """
    together = math.lcm(period, size)
    return (index + index // together % math.gcd(period, size)) % size


def prompt_of(manifest: Manifest, label: int, index: int) -> str:
    """The prompt of image `index` of a class."""
    name = manifest.class_names[label]
    return prompt(manifest.config["templates"], name, index, manifest.phrases.get(name, ()))


def scale_of(manifest: Manifest, label: int, index: int) -> float:
    """The guidance scale of image `index` of a class."""
    scales = manifest.config["guidance_scale"]
    if not isinstance(scales, list):
        return scales
    phrases = manifest.phrases.get(manifest.class_names[label], ())
    period = len(manifest.config["templates"]) * max(1, len(phrases))
    return scales[in_turn(index, period, len(scales))]


def checked_scales(guidance_scale: float | Sequence[float]) -> float | list[float]:
    """Guidance scales as the manifest holds them: one number, or a list of several.

    Raises:
      InputError: the list is empty, or a value is not a finite number.
    """
    given: list[Any] = list(guidance_scale) if isinstance(guidance_scale, tuple | list) else [guidance_scale]
    numbers = all(isinstance(scale, int | float | np.number) for scale in given)
    if not given or not numbers or not np.isfinite(given).all():
        raise InputError(
            f"guidance_scale must be finite, a number or several in a tuple, got {guidance_scale!r}."
        )
    scales = [float(scale) for scale in given]
    return scales[0] if len(scales) == 1 else scales


def listed_phrases(
    entries: Sequence[ClassEntry], class_names: Sequence[str], synonyms: str = "first"
) -> dict[str, tuple[str, ...]]:
    """The phrases by which prompts name the classes of a list, each with its definition: "crane, a large bird".

    Args:
      entries: the whole list.
      class_names: the classes to name.
      synonyms: "first" takes the first of several names, "all" takes all except those shared with another class.

    Returns:
      Phrases by class name; classes whose only phrase is their name are omitted.

    Raises:
      InputError: an unknown class or setting, or two classes that would have the same prompts.
    """
    if synonyms not in SYNONYMS:
        raise unknown_name("setting of synonyms", synonyms, SYNONYMS)
    known = {entry.name: entry for entry in entries}
    for name in class_names:
        if name not in known:
            raise unknown_name("class in the list", name, known)
    # names are compared without case: CLIP's tokenizer lowers it
    shared = Counter(word for entry in entries for word in {_same(word) for word in entry.words})
    phrases, named = {}, {}
    for entry in (known[name] for name in class_names):
        first, *others = dict.fromkeys(readable(word) for word in entry.words)
        words = [first, *(word for word in others if synonyms == "all" and shared[_same(word)] == 1)]
        texts = tuple(f"{word}, {entry.definition}" if entry.definition else word for word in words)
        for text in texts:
            other = named.setdefault(_same(text), entry.name)
            if other != entry.name:
                raise InputError(
                    f"the classes {other!r} and {entry.name!r} would both be prompted as {text!r}. Add "
                    "definitions in a file of classes: `name; definition`."
                )
        if texts != (readable(entry.name),):
            phrases[entry.name] = texts
    return phrases


def check_templates(templates: Sequence[str]) -> None:
    """Refuses templates that would not name the class.

    Raises:
      InputError: the list is empty, or a template does not hold {} exactly once, or has braces that are not a choice.
    """
    if isinstance(templates, str) or not templates:
        raise InputError(
            f"expected one or more templates such as 'a photo of a {{}}' in a tuple, got {templates!r}."
        )
    for template in templates:
        if not isinstance(template, str) or template.count("{}") != 1:
            raise InputError(
                f"a template holds {{}} once, where the class name goes, got {template!r}. "
                "Write for instance 'a photo of a {}'."
            )
        if set("{}") & set(CHOICE.sub("", template).replace("{}", "")):
            raise InputError(
                f"in the template {template!r} some braces are neither {{}} nor a choice. Write for instance "
                "'a {photo|picture} of a {}'; choices cannot be nested."
            )


def check_negative_prompt(text: str) -> None:
    """Refuses a negative prompt that is not one line of plain text; the empty one is allowed.

    Raises:
      InputError: it is no text, has several lines, or holds braces, which have no meaning in it.
    """
    if not isinstance(text, str) or set(text) & set("{}") or len(text.splitlines()) > 1:
        raise InputError(
            f"negative_prompt must be one line of text without braces, the same for all images, got {text!r}."
        )


def check_class_names(class_names: Sequence[str]) -> None:
    """Refuses class names that are not a list of distinct names.

    Raises:
      InputError: the list is empty, or a name occurs twice, is empty or holds a line break.
    """
    if isinstance(class_names, str) or not class_names:
        raise InputError(f"expected at least one class name, got {class_names!r}.")
    for name in class_names:
        if not readable(name) or name != name.strip() or len(name.splitlines()) != 1:
            raise InputError(
                f"a class name is a line of text without spaces at its ends, got {name!r}. Rename the class."
            )
    twice = [name for name, times in Counter(class_names).items() if times > 1]
    if twice:
        raise InputError(f"class names must differ, but {', '.join(map(repr, twice))} occur more than once.")


def check_phrases(phrases: Mapping[str, Sequence[str]], class_names: Sequence[str]) -> None:
    """Refuses phrases for unknown classes, and empty ones.

    Raises:
      InputError: names the class.
    """
    for name, texts in phrases.items():
        if name not in class_names:
            raise unknown_name("class for these phrases", name, class_names)
        if isinstance(texts, str) or not texts or not all(map(_is_text, texts)):
            raise InputError(f"the phrases of {name!r} must be a tuple of texts, none empty, got {texts!r}.")


def _same(text: str) -> str:
    """Equal for texts that CLIP's tokenizer does not distinguish."""
    return readable(text).casefold()


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _drawn(what: str, count: int) -> int:
    """A number in [0, count) that depends on a text only; from 64 bits, so that it is uniform."""
    return int.from_bytes(hashlib.sha256(what.encode()).digest()[:8], "big") % count
