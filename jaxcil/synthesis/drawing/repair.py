"""Draws the bad shards of a synthetic data set again, and no other.

An image has its noise from its class and index, so on the backend and at the batch size of the first drawing a
shard comes back with the same bytes. On another backend it may not: its sidecar then says so (`store`).
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
    """Puts right what drawing again can put right; interrupted, it goes on when called again.

    Shards that the manifest does not know stay: they may be good, and the manifest an old one.

    Args:
      directory: of the data set, which no other process writes.
      findings: of `verify`.
      model: as in `load_model`; None takes the one that the manifest names.

    Returns:
      Numbers of the shards that were drawn again.

    Raises:
      InputError: the manifest itself is at fault, or the model is not the one that drew the set; nothing
        is written then.
    """
    if any(finding.file == manifest.FILE for finding in findings):
        raise InputError(
            f"{directory} cannot be repaired while its {manifest.FILE} is in doubt. Bring back the one that the "
            "shards were drawn by, or delete the sidecars that are at fault."
        )
    held = read_manifest(directory)
    shards = sorted({finding.shard for finding in findings if finding.shard is not None})
    drawn_by = _same_model(directory, held, model) if shards else None
    for shard in shards:
        store.withdraw(directory, shard)
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
            f"no model drew the images in {directory}, so none can draw them again. Make the set again from its source."
        )
    name = model or held.notes.get("model")
    if name is None:
        raise InputError(f"the {manifest.FILE} in {directory} does not name its model; give --model=FOLDER.")
    # the model of the manifest at its revision; of another one what it is now
    revision = held.notes.get("revision") if model is None else None
    loaded = load_model(name, revision, held.notes.get("dtype", "float32"), held.notes.get("variant"))
    there, now = held.config["model"]["sha256"], fingerprint(loaded)
    if there != now:
        raise InputError(
            f"{directory} was drawn by a model with SHA-256 {there}, but {name} has {now}. "
            "Give the folder of that very model with --model=FOLDER."
        )
    return loaded
