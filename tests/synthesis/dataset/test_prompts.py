import collections

import pytest

from jaxcil.data.class_names.class_list import ClassEntry, read_class_list
from jaxcil.errors import InputError
from jaxcil.synthesis.dataset import prompts

CHOICES = ("a {photo|picture|drawing} of a {}{| outdoors}",)


def test_images_take_the_templates_in_turn():
    templates = ("a {}", "the {}", "{}!")
    texts = [prompts.prompt(templates, "sea_lion", index) for index in range(4)]
    assert texts == ["a sea lion", "the sea lion", "sea lion!", "a sea lion"]


def test_every_phrase_meets_every_template_equally_often():
    templates, phrases = ("a {}", "the {}", "{}!", "my {}"), ("couch", "sofa")
    texts = [prompts.prompt(templates, "couch", index, phrases) for index in range(16)]
    wanted = {template.replace("{}", phrase) for template in templates for phrase in phrases}
    assert collections.Counter(texts) == dict.fromkeys(wanted, 2)


@pytest.mark.parametrize(("period", "size"), [(1, 3), (4, 3), (4, 2), (6, 4), (5, 5), (8, 1)])
def test_turns_meet_in_every_pair_and_are_even_within_a_period(period, size):
    turns = [prompts.in_turn(index, period, size) for index in range(3 * period * size)]
    for start in range(2 * period * size):
        window = range(start, start + period * size)
        assert len({(index % period, turns[index]) for index in window}) == period * size
    first = turns[: size if period % size else period]
    assert set(collections.Counter(first).values()) <= {len(first) // size, len(first) // size + 1}


def test_choices_are_all_drawn_about_equally_often_and_apart_from_each_other():
    texts = collections.Counter(prompts.prompt(CHOICES, "cat", index) for index in range(6000))
    wanted = {
        f"a {medium} of a cat{end}" for medium in ("photo", "picture", "drawing") for end in ("", " outdoors")
    }
    assert set(texts) == wanted
    # 6000 draws of 1/6: the standard deviation of a count is 29; five of them
    assert all(abs(count - 1000) < 145 for count in texts.values())


def test_choices_depend_on_class_and_index_alone():
    texts = [prompts.prompt(CHOICES, name, index) for name in ("cat", "dog") for index in range(40)]
    assert texts[:40] == [prompts.prompt(CHOICES, "cat", index) for index in range(40)]
    assert texts[:40] != [text.replace("dog", "cat") for text in texts[40:]]
    # What old images were drawn from may not change with a release: from the first, and by sha256sum.
    stored = [prompts.prompt(("{a|b|c|d}{}",), "sea_lion", index)[0] for index in range(12)]
    assert "".join(stored) == STORED


STORED = "addcaaddbcbc"


def test_a_phrase_stands_in_the_prompt_as_it_is():
    assert prompts.prompt(("a {}",), "x", 0, ("{a|b} {}",)) == "a {a|b} {}"


@pytest.mark.parametrize(
    "templates",
    [
        (),
        "a {}",
        ("a cat",),
        ("{} and {}",),
        (3,),
        ("a {photo} of {}",),
        ("{a|{}}",),
        ("{} } {",),
        ("{a|{b|c}} {}",),
    ],
)
def test_templates_that_do_not_name_the_class_once_are_refused(templates):
    with pytest.raises(InputError, match="template"):
        prompts.check_templates(templates)


@pytest.mark.parametrize("text", ["a {blurry|dark} photo", "two\nlines", None])
def test_a_negative_prompt_is_one_plain_line(text):
    with pytest.raises(InputError, match="negative_prompt must be one line"):
        prompts.check_negative_prompt(text)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "at least one class name"),
        ("cat", "at least one class name"),
        (("cat", "dog", "cat"), "'cat' occur more than once"),
        (("cat", ""), "a line of text"),
        (("cat", "dog\n"), "a line of text"),
    ],
)
def test_class_names_that_are_no_list_of_distinct_names_are_refused(names, message):
    with pytest.raises(InputError, match=message):
        prompts.check_class_names(names)


@pytest.mark.parametrize(
    ("phrases", "message"),
    [
        ({"cta": ("cat",)}, "Did you mean 'cat'"),
        ({"cat": ()}, "phrases of 'cat'"),
        ({"cat": "kitten"}, "phrases of 'cat'"),
        ({"cat": ("kitten", " ")}, "phrases of 'cat'"),
    ],
)
def test_phrases_that_say_nothing_are_refused(phrases, message):
    with pytest.raises(InputError, match=message):
        prompts.check_phrases(phrases, ("cat", "dog"))


ENTRIES = (
    ClassEntry("sea_lion", ("sea_lion",), ""),
    ClassEntry("n1", ("crane", "whooping_crane"), "a large bird"),
    ClassEntry("n2", ("tub", "vat"), ""),
    ClassEntry("bathtub", ("bathtub", "Tub", "bath"), ""),
)


def test_the_first_name_with_its_definition_is_what_prompts_say():
    names = [entry.name for entry in ENTRIES]
    assert prompts.listed_phrases(ENTRIES, names) == {"n1": ("crane, a large bird",), "n2": ("tub",)}


def test_all_names_are_taken_but_further_ones_that_another_class_has_too():
    assert prompts.listed_phrases(ENTRIES, ["bathtub", "n1", "n2"], "all") == {
        "bathtub": ("bathtub", "bath"),
        "n1": ("crane, a large bird", "whooping crane, a large bird"),
        "n2": ("tub", "vat"),
    }


@pytest.mark.parametrize("synonyms", prompts.SYNONYMS)
@pytest.mark.parametrize("source", ["cifar10", "cifar100", "imagenet1k"])
def test_no_two_classes_of_a_known_list_have_a_prompt_in_common(source, synonyms):
    entries = read_class_list(source)
    phrases = prompts.listed_phrases(entries, [entry.name for entry in entries], synonyms)
    texts = [text for entry in entries for text in phrases.get(entry.name, (prompts.readable(entry.name),))]
    assert len({text.lower() for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("entries", "names", "synonyms", "message"),
    [
        (ENTRIES, ["n3"], "first", "no class in the list 'n3'"),
        (ENTRIES, ["n1"], "firts", "Did you mean 'first'"),
        (
            (ClassEntry("a", ("Crane",), ""), ClassEntry("b", ("crane",), "")),
            ["a", "b"],
            "first",
            "'a' and 'b' would both be prompted as 'crane'",
        ),
    ],
    ids=["class", "setting", "homonyms"],
)
def test_lists_that_do_not_tell_the_classes_apart_are_refused(entries, names, synonyms, message):
    with pytest.raises(InputError, match=message):
        prompts.listed_phrases(entries, names, synonyms)
