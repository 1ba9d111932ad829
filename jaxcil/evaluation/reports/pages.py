"""Pages that hold all they show: templates that share one look, and pictures inside."""

import base64
import importlib.resources
from collections.abc import Sequence
from typing import Any

import jinja2


def render(template: str, **values: Any) -> str:
    """A page from one of the templates beside this file; a value that a template names and nobody gives is an error."""
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
    """A picture as the address of an image."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def count(number: int, one: str, many: str) -> str:
    """A number with its noun."""
    return f"{number} {one if number == 1 else many}"


def classes_per_task(sizes: Sequence[int]) -> str:
    """How the classes come, in words; the last task may take a remainder."""
    first, later = sizes[0], sizes[1:]
    if len(set(later[:-1])) > 1 or (len(later) > 1 and later[-1] > later[0]):
        return f"{', '.join(map(str, sizes))} classes a task"
    return f"{count(first, 'class', 'classes')} first" + (f", then {later[0]} a task" if later else "")
