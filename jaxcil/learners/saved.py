"""Learners that keep training, as a finished run left them: their final states, for use outside the run."""

import os
import pathlib
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcil import keys
from jaxcil.data.augmentation.augmentation import Augmentation
from jaxcil.errors import InputError, unknown_name
from jaxcil.extractors import saved
from jaxcil.extractors.by_name import OUTPUT_LAYERS, make_network
from jaxcil.learners.by_name import LEARNERS
from jaxcil.training.learner import Setup
from jaxcil.training.optimizer import sgd
from jaxcil.workdir import record

STATE, DESCRIPTION = "state.safetensors", "learner.json"


class SavedLearner(NamedTuple):
    """A learner after its last task; `learner.scores(state, images)` gives [B, C] for images in [-1, 1]."""

    learner: Any
    state: Any
    class_names: tuple[str, ...]  # [C], of the columns of its scores


def save(
    folder: pathlib.Path, states: Any, setup: Setup, *, description: Mapping[str, Any], class_names: Any
) -> None:
    """Writes the final states [runs, ...] of a learner, and what `load` needs to make it again.

    Args:
      folder: of the lane.
      states: stacked.
      setup: from which the learner was made.
      description: its "name" and "options"; "network", "dtype" and "output_layer" by name; and "later_training" and
        "memory" as plain values.
      class_names: [C].
    """
    numbers = {
        name: getattr(setup, name)
        for name in ("num_classes", "other_classes", "task_sizes", "image_shape", "images_per_class")
    }
    memory = getattr(states, "memory", None)  # rows of images that are kept, of each run
    kept = 0 if memory is None else int((np.asarray(memory) >= 0).sum() // len(memory))
    about = {**description, "setup": numbers, "class_names": list(class_names), "exemplars": kept}
    record.write_checked_json(folder / DESCRIPTION, about)
    saved.save_states(folder / STATE, states)


def load(
    run: str | os.PathLike,
    learner: str,
    variant: str = "plain",
    seed: int | None = None,
    makers: Mapping[str, Callable[..., Any]] | None = None,
) -> SavedLearner:
    """A learner of a finished run.

    Args:
      run: the workdir of `jaxcil run`.
      learner: its name in the run's settings; one that keeps training. (A frozen extractor is read by
        `jaxcil.extractors.saved.load_features`.)
      variant: likewise.
      seed: one of the run's; None: its first one.
      makers: of learners from outside, as `experiment.run` takes them.

    Raises:
      InputError: the run has no such learner, variant or seed, or is not done with it; or a file is damaged.
    """
    run = pathlib.Path(run)
    groups = record.read_kept_json(run / "seeds.json", "Bring back the file that was written.")
    if groups is None:
        raise InputError(f"{run} is no workdir of `jaxcil run`: it has no seeds.json")
    seed = groups[0][0] if seed is None else seed
    number = next((n for n, group in enumerate(groups) if seed in group), None)
    if number is None:
        known = ", ".join(str(one) for group in groups for one in group)
        raise InputError(f"{run} has no seed {seed}; its seeds are {known}")
    folder = run / "learners" / f"{variant}-{learner}{saved.suffix(groups, number)}"
    if not (folder / STATE).exists():
        done = sorted(path.parent.name for path in run.glob(f"learners/*/{STATE}"))
        raise InputError(
            f"{run} has no final state of learner {learner} with variant {variant}; there are: {', '.join(done)}"
        )
    about = record.read_kept_json(folder / DESCRIPTION, saved.REMEDY)
    if about is None:
        raise InputError(f"{folder} has no {DESCRIPTION}; bring back the file that was written")
    choices = {**{name: choice.maker for name, choice in LEARNERS.items()}, **(makers or {})}
    if about["name"] not in choices:
        raise unknown_name("learner", about["name"], choices)
    made = choices[about["name"]](_setup(about), **_with_tuples(about["options"]))
    states = saved.load_states(
        folder / STATE, _shapes(made, about["setup"]["image_shape"], len(groups[number]))
    )
    if states is None:
        raise InputError(f"{folder / STATE} is damaged. {saved.REMEDY}")
    place = groups[number].index(seed)
    return SavedLearner(made, jax.tree.map(lambda leaf: leaf[place], states), tuple(about["class_names"]))


def _setup(about: Mapping[str, Any]) -> Setup:
    """For prediction: what only training looks at has any value."""
    return Setup(
        **_with_tuples(about["setup"]),
        network=make_network(about["network"], about["dtype"], jax.lax.conv_general_dilated),
        output_layer=OUTPUT_LAYERS[about["output_layer"]](),
        optimizer=sgd(0.1, 0.0),
        steps=1,
        batch_size=1,
        augmentation=Augmentation(),
        label_smoothing=None,
        average_decay=None,
        heads={},
        later_training=types.SimpleNamespace(**_with_tuples(about["later_training"])),
        memory=types.SimpleNamespace(**about["memory"]),
    )


def _shapes(learner: Any, image_shape: list[int], runs: int) -> Any:
    example = np.zeros((1, *image_shape, 3), np.float32)
    run_keys = jax.numpy.stack([keys.root_key(0)] * runs)
    return jax.eval_shape(jax.vmap(lambda key: learner.init(key, example)), run_keys)


def _with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
