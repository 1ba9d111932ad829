"""What draws the images: a model by name, and a plan on its noise levels, of ER-SDE or from a file."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

from jaxcil.data.class_names.class_list import read_class_list
from jaxcil.diffusion import folder, hub, pipeline
from jaxcil.diffusion.model import StableDiffusion
from jaxcil.errors import InputError, unknown_name
from jaxcil.parallel import mesh
from jaxcil.solvers import Grid, Plan, er_sde, scheduler_grid
from jaxcil.synthesis.dataset import prompts
from jaxcil.synthesis.dataset.licences import model_licence
from jaxcil.synthesis.dataset.manifest import FILE, Manifest, read_manifest
from jaxcil.synthesis.drawing.generate import generate
from jaxcil.synthesis.drawing.plan_file import read_plan
from jaxcil.workdir import files

# Pipelines that the package brings along.
EMBEDDED = {"digits": pathlib.Path(__file__).parents[2] / "data" / "digits" / "generator"}
ORDERS = (1, 2, 3)
DTYPES = ("float32", "bfloat16")


def located(model: str, revision: str | None = None, variant: str | None = None) -> tuple[str, str | None]:
    """What `load_model` reads of a model, for ever the same: a name or a folder, and of the hub the commit.

    Args:
      model: the name of an embedded generator, a folder that holds a pipeline, or OWNER/MODEL on the hub.
      revision: of a model on the hub: a branch, a tag or a commit.
      variant: the tag in the names of the weights, such as "fp16".
    """
    if model in EMBEDDED or files.is_directory(model) or not hub.is_name(model):
        if revision is not None:
            raise InputError(
                f"revision={revision!r} is of a model on the hub, and {model} is none: leave it away."
            )
        return model, None
    there, commit = hub.resolve(model, revision, variant)
    return str(there), commit


def load_model(
    model: str, revision: str | None = None, dtype: str | None = "float32", variant: str | None = None
) -> StableDiffusion:
    """A model by its name.

    Args:
      model: as in `located`, as are the revision and the variant.
      revision: as above.
      dtype: of parameters and networks, "float32" or "bfloat16"; None: float32 on a CPU, bfloat16 elsewhere.
      variant: as above.
    """
    if dtype not in (None, *DTYPES):
        raise unknown_name("dtype of networks", dtype, DTYPES)
    if dtype is None:
        dtype = "float32" if mesh.platform(mesh.generation_mesh()) == "cpu" else "bfloat16"
    where, _ = located(model, revision, variant)
    if where in EMBEDDED or files.is_directory(where):
        return folder.load(EMBEDDED.get(where, where), dtype, variant=variant)
    raise InputError(
        f"{unknown_name('embedded generator', model, EMBEDDED)} Or give a folder that holds a pipeline, or the name "
        "OWNER/MODEL of one on the hub."
    )


def model_grid(model: StableDiffusion, calls: int) -> Grid:
    """Nodes for that many calls of a model's network.

    The times are trailing, so that the first is the noisiest that the model was trained on, and the last step
    denoises fully, whatever the scheduler's file says.

    Args:
      model: its scheduler_config gives the noise levels.
      calls: of the network, at least 1; guidance takes each twice.
    """
    if not 1 <= calls <= 1000:
        raise InputError(f"the number of calls must lie in [1, 1000], got {calls}")
    config = {**model.scheduler_config, "timestep_spacing": "trailing"}
    try:
        # "dpm": lam stays finite where a model's schedule has no signal left at its last time
        return scheduler_grid(config, calls, "dpm", final="zero")
    except ValueError as error:
        raise InputError(f"the model's scheduler_config.json cannot be followed: {error}") from None


def er_sde_plan(model: StableDiffusion, order: int, calls: int) -> Plan:
    """The ER-SDE solver (arXiv:2309.06169) with the paper's default noise scale, for a model.

    Order 3 has the corrected derivatives and starts with Euler's step: what `jaxcil compare-samplers` found best or
    even at 10 and 20 calls, on mixtures and on the embedded digits (jaxcil/solvers/README.md); not tried on a
    full-size Stable Diffusion.

    Args:
      model: as in `model_grid`, as are the calls.
      order: 1, 2 or 3.
      calls: of the network.
    """
    if order not in ORDERS:
        raise InputError(f"the order of the solver must be 1, 2 or 3, got {order}")
    return er_sde(model_grid(model, calls), order=order, derivative="corrected")


def generate_by_name(
    directory: str | os.PathLike,
    class_names: Sequence[str] | None,
    *,
    model: str,
    order: int,
    calls: int,
    images_per_class: int,
    revision: str | None = None,
    dtype: str | None = None,
    variant: str | None = None,
    plan: str | os.PathLike | None = None,
    class_list: str | None = None,
    synonyms: str = "first",
    licence: str | None = None,
    **options: Any,
) -> Manifest:
    """A synthetic data set from what a config says.

    Args:
      directory: as in `generate`, as are the class names, images_per_class and the options.
      class_names: as above; None takes all of the list.
      model: as in `load_model`.
      order: as in `er_sde_plan`, as are the calls.
      calls: as above.
      images_per_class: as above.
      revision: as in `load_model`, as are the next two; of a branch or a tag the manifest keeps the commit, and None
        goes on with it.
      dtype: as above.
      variant: as above.
      plan: a file of `plan_file`, in place of ER-SDE with that order and those calls.
      class_list: as in `read_class_list`: what prompts call the classes. None: by their names.
      synonyms: of the list; as in `prompts.listed_phrases`.
      licence: of the images, for the card; None takes what the model's own card says, if it does.
      **options: as above.
    """
    files.writable_directory(directory)  # said before a large model is read
    table, made_by = (None, {}) if plan is None else read_plan(plan)
    phrases = {}
    if class_list is not None:
        entries = read_class_list(class_list)
        class_names = [entry.name for entry in entries] if class_names is None else class_names
        phrases = prompts.listed_phrases(entries, class_names, synonyms)
    elif class_names is None:
        raise InputError("expected class names, or a class list to take them from, got neither.")
    elif synonyms != "first":
        raise InputError(f"synonyms={synonyms!r} needs a class list that tells them; give class_list.")
    if revision is None:
        revision = _revision_begun_with(directory, model)
    where, commit = located(model, revision, variant)
    pipe = load_model(where, dtype=dtype, variant=variant)
    if table is None:
        table = er_sde_plan(pipe, order, calls)
        notes = {
            "model": model,
            "solver": "er_sde",
            "order": order,
            "derivative": "corrected",
            "calls": calls,
        }
    else:
        pipeline.check_plan(pipe, table)
        notes = {"model": model, "plan": str(plan), "calls": table.rows, "made_by": made_by}
    notes |= {"dtype": pipe.unet.dtype.name, **({"revision": commit} if commit else {})}
    if variant:
        notes["variant"] = variant
    if class_list is not None:
        notes |= {"class_list": class_list, "synonyms": synonyms}
    if licence := licence or model_licence(EMBEDDED.get(where, where)):
        notes["licence"] = licence
    return generate(
        directory, pipe, table, class_names, images_per_class, phrases=phrases, notes=notes, **options
    )


def _revision_begun_with(directory: str | os.PathLike, model: str) -> str | None:
    """The commit of a model on the hub that a data set was begun with, whatever its branch has become since."""
    if not (pathlib.Path(directory) / FILE).exists():
        return None
    notes = read_manifest(directory).notes
    return notes.get("revision") if notes.get("model") == model else None
