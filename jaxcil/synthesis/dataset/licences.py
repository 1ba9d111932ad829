"""The licence of a synthetic data set: what a user says, or else what its model says of itself."""

import os
import pathlib
import re

# As the hub writes them: "apache-2.0", "creativeml-openrail-m".
IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9.+-]*")


def model_licence(model: str | os.PathLike) -> str | None:
    """The licence in the header of the model card in a folder, if there is one that says it."""
    from huggingface_hub import metadata_load  # here, since it takes a third of a second

    path = pathlib.Path(model) / "README.md"
    try:
        said = (metadata_load(path) or {}).get("license") if path.is_file() else None
    except Exception:  # whatever a YAML reader may raise on what somebody wrote; a card is no part of a model
        return None
    return said if isinstance(said, str) else None


def header_fields(licence: str | None, otherwise: str) -> dict[str, str]:
    """A licence as the header of a data-set card has it.

    Args:
      licence: in any words.
      otherwise: what stands for it where there is none.
    """
    if licence is not None and IDENTIFIER.fullmatch(licence):
        return {"license": licence}
    return {"license": "other", "license_name": licence or otherwise}
