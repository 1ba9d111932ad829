"""What draws the images: a model by name, and the ER-SDE plan on its own noise levels."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

from jaxcil import files
from jaxcil.diffusion import pipeline
from jaxcil.errors import InputError, unknown_name
from jaxcil.solvers import Plan, er_sde, scheduler_grid
from jaxcil.synthesis.generate import generate
from jaxcil.synthesis.manifest import Manifest

# Pipelines that the package brings along.
EMBEDDED = {"digits": pathlib.Path(__file__).parent.parent / "data" / "digits" / "generator"}
ORDERS = (1, 2, 3)


def load_model(model: str) -> pipeline.StableDiffusion:
    """The embedded generator of that name, or the pipeline in a folder of diffusers' layout."""
    if model in EMBEDDED:
        return pipeline.load(str(EMBEDDED[model]))
    if pathlib.Path(model).is_dir():
        return pipeline.load(model)
    raise InputError(
        f"{unknown_name('embedded generator', model, EMBEDDED)} Or give a folder that holds a pipeline."
    )


def er_sde_plan(model: pipeline.StableDiffusion, order: int, calls: int) -> Plan:
    """The ER-SDE solver (arXiv:2309.06169) with the paper's default noise scale, for a model.

    The times are trailing, so that the first is the noisiest that the model was trained on, and the last step
    denoises fully, whatever the scheduler's file says.

    Args:
      model: its scheduler_config gives the noise levels.
      order: 1, 2 or 3.
      calls: of the network, at least 1; guidance takes each twice.
    """
    if order not in ORDERS:
        raise InputError(f"the order of the solver must be 1, 2 or 3, got {order}")
    if not 1 <= calls <= 1000:
        raise InputError(f"the number of calls must lie in [1, 1000], got {calls}")
    config = {**model.scheduler_config, "timestep_spacing": "trailing"}
    try:
        grid = scheduler_grid(config, calls, final="zero")
    except ValueError as error:
        raise InputError(f"the model's scheduler_config.json cannot be followed: {error}") from None
    return er_sde(grid, order=order)


def generate_by_name(
    directory: str | os.PathLike,
    class_names: Sequence[str],
    *,
    model: str,
    order: int,
    calls: int,
    images_a_class: int,
    **options: Any,
) -> Manifest:
    """A synthetic data set from what a config says; arguments as in `load_model`, `er_sde_plan` and `generate`."""
    files.writable_directory(directory)  # said before a large model is read
    pipe = load_model(model)
    plan = er_sde_plan(pipe, order, calls)
    notes = {"model": model, "solver": "er_sde", "order": order, "calls": calls}
    return generate(directory, pipe, plan, class_names, images_a_class, notes=notes, **options)
