import jinja2
import pytest

from jaxcil.evaluation.reports.pages import classes_per_task, render


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ([10], "10 classes first"),
        ([1, 1, 1], "1 class first, then 1 per task"),
        ([50, 10, 10, 5], "50 classes first, then 10 per task"),
        ([2, 3, 1, 4], "tasks of 2, 3, 1, 4 classes"),
        ([2, 3, 4], "tasks of 2, 3, 4 classes"),
    ],
)
def test_the_sizes_of_tasks_in_words_hide_no_unevenness_but_a_remainder(sizes, words):
    assert classes_per_task(sizes) == words


def test_a_value_that_nobody_gives_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        render("page.html.jinja")
