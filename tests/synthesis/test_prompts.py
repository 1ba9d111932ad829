import pytest

from jaxcil.errors import InputError
from jaxcil.synthesis import prompts


def test_images_take_the_templates_in_turn():
    templates = ("a {}", "the {}", "{}!")
    texts = [prompts.prompt(templates, "sea_lion", index) for index in range(4)]
    assert texts == ["a sea lion", "the sea lion", "sea lion!", "a sea lion"]


@pytest.mark.parametrize("templates", [(), "a {}", ("a cat",), ("{} and {}",)])
def test_templates_that_do_not_name_the_class_once_are_refused(templates):
    with pytest.raises(InputError, match="template"):
        prompts.check_templates(templates)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "at least one class name"),
        ("cat", "at least one class name"),
        (("cat", "dog", "cat"), "'cat' came more than once"),
        (("cat", ""), "a line of text"),
        (("cat", "dog\n"), "a line of text"),
    ],
)
def test_class_names_that_are_no_list_of_distinct_names_are_refused(names, message):
    with pytest.raises(InputError, match=message):
        prompts.check_class_names(names)
