"""What a learner is made of: tasks, phases and the states that pass between them."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from jax import Array


class Task(NamedTuple):
    """The images and classes of one step of class-incremental learning."""

    index: int
    rows: Array  # [R] int32 into the resident data set; -1 pads
    seen: Array  # [C] bool, classes of this task and of those before
    new: Array  # [C] bool, classes of this task


class Phase(NamedTuple):
    """One training within a task: pure functions that `training.loop` calls.

    Exactly one of `epochs` and `steps` says how long it lasts.
    """

    name: str
    begin: Callable[[Any, Task, Array], Any]  # (state, task, key) -> train_state
    step: Callable[[Any, Any, Array], tuple[Any, dict[str, Array]]]  # (train_state, batch, key)
    end: Callable[[Any, Any, Task], Any]  # (train_state, state, task) -> state
    epochs: int | None = None
    steps: int | None = None


class Learner(Protocol):
    """A whole method of class-incremental learning."""

    def init(self, key: Array, example_images: Array) -> Any:
        """The state before the first task."""
        ...

    def phases(self, task_index: int) -> tuple[Phase, ...]:
        """What is trained in a task, in order."""
        ...

    def scores(self, state: Any, images: Array) -> Array:
        """Scores [B, C] of images [B, H, W, 3] in [-1, 1]; -inf for classes not seen."""
        ...
