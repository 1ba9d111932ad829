"""Self-contained HTML pages from templates, with embedded pictures, and numbers in words."""

import base64
import importlib.resources
from collections.abc import Sequence
from typing import Any

import jinja2


def render(template: str, **values: Any) -> str:
    """A page from one of the templates in this folder; a value that the template needs and does not get is an error."""
    folder = importlib.resources.files("jaxcil.evaluation.reports")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text("utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def inline(png: bytes) -> str:
    """A picture as the address of an image, in the page itself."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def count(number: int, one: str, many: str) -> str:
    """A number with its noun, and commas between thousands."""
    return f"{number:,} {one if number == 1 else many}"


def classes_per_task(sizes: Sequence[int]) -> str:
    """The sizes of the tasks in words; a smaller last task, the remainder, is not mentioned."""
    first, later = sizes[0], sizes[1:]
    if len(set(later[:-1])) > 1 or (len(later) > 1 and later[-1] > later[0]):
        return f"tasks of {', '.join(map(str, sizes))} classes"
    return f"{count(first, 'class', 'classes')} first" + (f", then {later[0]} per task" if later else "")
