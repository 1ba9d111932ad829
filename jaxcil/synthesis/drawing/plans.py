"""Plans for a model: ER-SDE on its noise levels, or the table of any solver from a JSON file.

    {"schema": 1, "plan": {"time": [...], "alpha": [...], "sigma": [...], "keep": [...], "history": [[...]],
     "noise": [...]}, "made_by": {...}}

Numbers are float32 and are read back bit for bit. `made_by` says where the plan came from, for people; nothing depends
on it.
"""

import dataclasses
import os
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxcil.diffusion.model import StableDiffusion
from jaxcil.errors import InputError
from jaxcil.solvers import Grid, Plan, er_sde, scheduler_grid
from jaxcil.workdir import files

SCHEMA = 1
ORDERS = (1, 2, 3)
LEAVES = tuple(field.name for field in dataclasses.fields(Plan))


def model_grid(model: StableDiffusion, nfe: int) -> Grid:
    """Nodes for a number of calls of a model's network.

    The times are trailing: the first is the noisiest that the model was trained on, and the last step denoises fully,
    whatever the scheduler's file says.

    Args:
      model: its scheduler_config gives the noise levels.
      nfe: calls of the network, 1 to 1000; guidance evaluates each for two texts.
    """
    if not 1 <= nfe <= 1000:
        raise InputError(f"nfe, the number of network calls, must lie in [1, 1000], got {nfe}")
    config = {**model.scheduler_config, "timestep_spacing": "trailing"}
    try:
        # "dpm": lam stays finite if a model's schedule has no signal left at its last time
        return scheduler_grid(config, nfe, "dpm", final="zero")
    except ValueError as error:
        raise InputError(f"the model's scheduler_config.json gives no grid: {error}") from None


def er_sde_plan(model: StableDiffusion, order: int, nfe: int) -> Plan:
    """The ER-SDE solver (arXiv:2309.06169) with the paper's default noise scale, for a model.

    Order 3 has the corrected derivatives and starts with an Euler step: in `jaxcil compare-samplers` this was best or
    tied at 10 and 20 calls, on mixtures and on the embedded digits (jaxcil/solvers/README.md). It was not tried on a
    full-size Stable Diffusion.

    Args:
      model: as in `model_grid`.
      order: 1, 2 or 3.
      nfe: as in `model_grid`.
    """
    if order not in ORDERS:
        raise InputError(f"the order of the solver must be 1, 2 or 3, got {order}")
    return er_sde(model_grid(model, nfe), order=order, derivative="corrected")


def write_plan(path: str | os.PathLike, plan: Plan, made_by: dict[str, Any]) -> None:
    """Writes a plan, and JSON values that say where it came from."""
    table = {name: np.asarray(getattr(plan, name), np.float32).tolist() for name in LEAVES}
    files.write_json(path, {"schema": SCHEMA, "plan": table, "made_by": made_by})


def read_plan(path: str | os.PathLike) -> tuple[Plan, dict[str, Any]]:
    """The plan in a file, float32, and where it came from.

    Raises:
      InputError: the file does not have this schema; names every part that is missing, unknown, not finite, or has
        another shape than [N + 1], [N] or [N, K].
    """
    content = files.read_json(path)
    _check_fields(path, "the file", content, ("schema", "plan", "made_by"))
    if content["schema"] != SCHEMA:
        raise InputError(f"{path} must have schema {SCHEMA}, got {content['schema']!r}.")
    _check_fields(path, "its plan", content["plan"], LEAVES)
    if not isinstance(content["made_by"], dict):
        raise InputError(f"{path}: made_by must be a JSON object, got {content['made_by']!r:.60}.")
    arrays = {name: _numbers(path, name, content["plan"][name]) for name in LEAVES}
    _check_shapes(path, {name: array.shape for name, array in arrays.items()})
    broken = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if broken:
        raise InputError(f"{path}: {', '.join(broken)} must be finite in float32.")
    return Plan(**{name: jnp.asarray(array) for name, array in arrays.items()}), content["made_by"]


def _check_fields(path: str | os.PathLike, what: str, value: Any, expected: tuple[str, ...]) -> None:
    if not isinstance(value, dict):
        raise InputError(f"{path} does not hold a plan: {what} must be a JSON object, got {value!r:.60}.")
    missing = [name for name in expected if name not in value]
    unknown = [name for name in value if name not in expected]
    if missing or unknown:
        raise InputError(
            f"{path} does not hold a plan: {what} lacks {', '.join(missing) or 'nothing'} and has unknown "
            f"{', '.join(unknown) or 'nothing'}; it must hold {', '.join(expected)}."
        )


def _numbers(path: str | os.PathLike, name: str, value: Any) -> np.ndarray:
    """The array of nested lists of numbers, float32."""
    try:
        array = np.asarray(value)
    except ValueError:  # rows of unequal length
        array = np.asarray(None)
    if array.dtype.kind not in "if":
        raise InputError(f"{path}: {name} must be an array of numbers, got {value!r:.60}.")
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _check_shapes(path: str | os.PathLike, shapes: dict[str, tuple[int, ...]]) -> None:
    rows, width = (*shapes["keep"], 0)[0], (*shapes["history"], 0, 0)[1]
    nodes = dict.fromkeys(("time", "alpha", "sigma"), (rows + 1,))
    expected = nodes | {"keep": (rows,), "history": (rows, width), "noise": (rows,)}
    wrong = [
        f"{name} {shape} instead of {expected[name]}"
        for name, shape in shapes.items()
        if shape != expected[name]
    ]
    if wrong or not rows or not width:
        raise InputError(
            f"{path}: a plan of N rows has time, alpha, sigma [N + 1], keep, noise [N] and history [N, K], N and K "
            f"at least 1; got N = {rows}, K = {width}{''.join(f', {part}' for part in wrong)}."
        )
