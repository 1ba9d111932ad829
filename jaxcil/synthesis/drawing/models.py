"""Models by name, and data sets drawn by what a config names."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

from jaxcil.data.class_names.class_list import read_class_list
from jaxcil.diffusion import folder, hub, pipeline
from jaxcil.diffusion.model import StableDiffusion
from jaxcil.errors import InputError, unknown_name
from jaxcil.parallel import mesh
from jaxcil.synthesis.dataset import prompts
from jaxcil.synthesis.dataset.card import model_licence
from jaxcil.synthesis.dataset.manifest import FILE, Manifest, read_manifest
from jaxcil.synthesis.drawing.generate import generate
from jaxcil.synthesis.drawing.plans import er_sde_plan, read_plan
from jaxcil.synthesis.drawing.settings import DTYPES
from jaxcil.workdir import files

# Pipelines in the package.
EMBEDDED = {"digits": pathlib.Path(__file__).parents[2] / "data" / "digits" / "generator"}


def located(model: str, revision: str | None = None, variant: str | None = None) -> tuple[str, str | None]:
    """The fixed place that `load_model` reads a model from: a name or a folder, and on the hub its commit.

    Args:
      model: the name of an embedded generator, a folder that holds a pipeline, or OWNER/MODEL on the hub.
      revision: of a model on the hub: a branch, a tag or a commit.
      variant: the tag in the names of the weights, such as "fp16".
    """
    if model in EMBEDDED or files.is_directory(model) or not hub.is_name(model):
        if revision is not None:
            raise InputError(
                f"revision={revision!r} is for a model on the hub, and {model} is not one: omit it."
            )
        return model, None
    cached, commit = hub.resolve(model, revision, variant)
    return str(cached), commit


def load_model(
    model: str, revision: str | None = None, dtype: str | None = "float32", variant: str | None = None
) -> StableDiffusion:
    """A model by its name.

    Args:
      model: as in `located`.
      revision: as in `located`.
      dtype: of parameters and networks, "float32" or "bfloat16"; None: float32 on a CPU, bfloat16 elsewhere.
      variant: as in `located`.
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


def generate_by_name(
    directory: str | os.PathLike,
    class_names: Sequence[str] | None,
    *,
    model: str,
    order: int,
    nfe: int,
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
    """A synthetic data set as a config describes it.

    Args:
      directory: as in `generate`.
      class_names: as in `generate`; None takes all of the list.
      model: as in `load_model`.
      order: as in `er_sde_plan`.
      nfe: as in `er_sde_plan`.
      images_per_class: as in `generate`.
      revision: as in `load_model`. The manifest keeps the commit of a branch or a tag, with which None resumes.
      dtype: as in `load_model`.
      variant: as in `load_model`.
      plan: a file of `read_plan`, in place of ER-SDE of this order and nfe.
      class_list: as in `read_class_list`: how prompts name the classes. None: by their names.
      synonyms: of the list; as in `prompts.listed_phrases`.
      licence: of the images, for the card; None takes that in the model's own card, if there is one.
      **options: of `generate`.
    """
    files.writable_directory(directory)  # refused before a large model is read
    table, made_by = (None, {}) if plan is None else read_plan(plan)
    phrases = {}
    if class_list is not None:
        entries = read_class_list(class_list)
        class_names = [entry.name for entry in entries] if class_names is None else class_names
        phrases = prompts.listed_phrases(entries, class_names, synonyms)
    elif class_names is None:
        raise InputError("expected class names, or a class list, got neither.")
    elif synonyms != "first":
        raise InputError(f"synonyms={synonyms!r} needs a class list that has them; give class_list.")
    if revision is None:
        revision = _revision_begun_with(directory, model)
    where, commit = located(model, revision, variant)
    pipe = load_model(where, dtype=dtype, variant=variant)
    if table is None:
        table = er_sde_plan(pipe, order, nfe)
        notes = {"model": model, "solver": "er_sde", "order": order, "derivative": "corrected", "nfe": nfe}
    else:
        pipeline.check_plan(pipe, table)
        notes = {"model": model, "plan": str(plan), "nfe": table.rows, "made_by": made_by}
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
    """The commit of a hub model that a data set was begun with, wherever its branch is now."""
    if not (pathlib.Path(directory) / FILE).exists():
        return None
    notes = read_manifest(directory).notes
    return notes.get("revision") if notes.get("model") == model else None
