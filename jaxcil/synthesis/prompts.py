"""Class names to prompts.

Image (class, index) has template number index modulo the number of templates, so that every class has the
same mix of prompts, however many images it gets.
"""

from collections.abc import Sequence

from jaxcil.errors import InputError

# For natural images; a few of the templates that CLIP was tested with (Radford et al., arXiv:2103.00020).
PHOTO_TEMPLATES = ("a photo of a {}", "a good photo of a {}", "a close-up photo of a {}", "a photo of the {}")


def readable(class_name: str) -> str:
    """A class name as words: "sea_lion" is "sea lion"."""
    return " ".join(class_name.replace("_", " ").split())


def prompt(templates: Sequence[str], class_name: str, index: int) -> str:
    """The prompt of image `index` of a class."""
    return templates[index % len(templates)].replace("{}", readable(class_name))


def check_templates(templates: Sequence[str]) -> None:
    """Refuses templates that would not name the class.

    Raises:
      InputError: there are none, or one does not hold {} exactly once.
    """
    if isinstance(templates, str) or not templates:
        raise InputError(
            f"expected one or more templates such as 'a photo of a {{}}' in a tuple, got {templates!r}."
        )
    for template in templates:
        if template.count("{}") != 1:
            raise InputError(
                f"a template holds {{}} once, where the class name goes, got {template!r}. "
                "Write for instance 'a photo of a {}'."
            )


def check_class_names(class_names: Sequence[str]) -> None:
    """Refuses class names that are not a list of distinct names.

    Raises:
      InputError: there are none, one stands there twice, or one is empty or holds a line break.
    """
    if isinstance(class_names, str) or not class_names:
        raise InputError(f"expected at least one class name, got {class_names!r}.")
    for name in class_names:
        if not readable(name) or name != name.strip() or len(name.splitlines()) != 1:
            raise InputError(
                f"a class name is a line of text without blanks at its ends, got {name!r}. Rename the class."
            )
    twice = [name for name in dict.fromkeys(class_names) if list(class_names).count(name) > 1]
    if twice:
        raise InputError(f"class names must differ, but {', '.join(map(repr, twice))} came more than once.")
