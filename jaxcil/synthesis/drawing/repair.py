"""Draws the damaged shards of a synthetic data set again, and no others.

An image's noise follows from its class and index, so a shard gets the same bytes on the backend and at the batch size
of the first drawing. On another backend it may not; its sidecar then records this (`store`).
"""

import os
from collections.abc import Sequence

from jaxcil.diffusion.model import StableDiffusion
from jaxcil.errors import InputError
from jaxcil.synthesis.dataset import card, manifest, store
from jaxcil.synthesis.dataset.manifest import Manifest, read_manifest
from jaxcil.synthesis.dataset.verify import Finding
from jaxcil.synthesis.drawing.generate import draw_missing, fingerprint
from jaxcil.synthesis.drawing.models import load_model


def repair(directory: str | os.PathLike, findings: Sequence[Finding], model: str | None = None) -> list[int]:
    """Repairs what drawing again can repair; after an interruption, call it again to resume.

    Shards that the manifest does not have are kept: they may be good and the manifest old.

    Args:
      directory: of the data set, which no other process writes.
      findings: of `verify`.
      model: as in `load_model`; None: the one that the manifest names.

    Returns:
      Numbers of the shards that were drawn again.

    Raises:
      InputError: the manifest itself is at fault, or the model is not the one that drew the set; nothing is
        written then.
    """
    if any(finding.file == manifest.FILE for finding in findings):
        raise InputError(
            f"{directory} cannot be repaired while its {manifest.FILE} is in doubt. Restore the one by which the "
            "shards were drawn, or delete the sidecars that are at fault."
        )
    held = read_manifest(directory)
    shards = sorted({finding.shard for finding in findings if finding.shard is not None})
    drawn_by = _same_model(directory, held, model) if shards else None
    for shard in shards:
        store.invalidate(directory, shard)
    if drawn_by is not None:
        draw_missing(directory, held, drawn_by)
    store.finish(directory, held)
    if shards:
        card.write_card(directory)
    return shards


def _same_model(directory: str | os.PathLike, held: Manifest, model: str | None) -> StableDiffusion:
    """The model that drew a data set."""
    if "model" not in held.config:
        raise InputError(
            f"no model drew the images in {directory}, so none can draw them again. Import the set again."
        )
    name = model or held.notes.get("model")
    if name is None:
        raise InputError(f"the {manifest.FILE} in {directory} does not name its model; give --model=FOLDER.")
    # the manifest's model at its revision; another model as it is now
    revision = held.notes.get("revision") if model is None else None
    loaded = load_model(name, revision, held.notes.get("dtype", "float32"), held.notes.get("variant"))
    expected, actual = held.config["model"]["sha256"], fingerprint(loaded)
    if expected != actual:
        raise InputError(
            f"{directory} was drawn by a model with SHA-256 {expected}, but {name} has {actual}. "
            "Give the folder of the same model with --model=FOLDER."
        )
    return loaded
