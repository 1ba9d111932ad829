"""Models by name: pipelines on the Hugging Face hub, fetched once and kept in its cache."""

import pathlib
import re
from collections.abc import Iterable

from jaxcil.diffusion.tensor_files import STEMS, chosen_files
from jaxcil.errors import InputError

DEFAULT_MODEL = "stable-diffusion-v1-5/stable-diffusion-v1-5"

INDEX = "model_index.json"
CONFIGS = (INDEX, "scheduler/scheduler_config.json", *(f"{part}/config.json" for part in STEMS))


def is_name(text: str) -> bool:
    """Whether a text has the form of a hub model's name: OWNER/MODEL."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", text) is not None


def resolve(name: str, revision: str | None = None, variant: str | None = None) -> tuple[pathlib.Path, str]:
    """The folder and the commit of a model on the hub; files that are not in the cache are fetched.

    These are the configurations, the tokenizer, and the weights of each network in one form, see
    `tensor_files.chosen_files`; never pickles, never the safety checker. If the hub cannot be reached, only the cache
    is used.

    Args:
      name: OWNER/MODEL.
      revision: a branch, a tag or a commit; None: the main branch. The files of a commit never change.
      variant: the tag in the names of the weights, such as "fp16".

    Returns:
      The folder in the cache, and the commit of 40 hexadecimal digits.

    Raises:
      InputError: there is no such model, revision or variant; access to it must be requested; or the hub cannot be
        reached and the cache does not hold it.
    """
    from huggingface_hub import errors  # here, since only names need it

    try:
        folder = _fetched(name, revision, variant)
    except InputError:
        raise
    except errors.GatedRepoError:
        raise InputError(
            f"access to {name} must be requested: accept its terms on https://huggingface.co/{name}, then log in "
            "with `hf auth login`."
        ) from None
    except errors.RevisionNotFoundError:
        raise InputError(
            f"{name} has no revision {revision!r}; see https://huggingface.co/{name}/tree/main for its branches "
            "and tags, or omit revision."
        ) from None
    except errors.RepositoryNotFoundError:
        raise InputError(
            f"{name!r} is neither a folder here nor a public model on the hub. Is it spelled as on "
            "https://huggingface.co/models? For a private model, log in with `hf auth login`."
        ) from None
    except errors.HFValidationError as error:
        raise InputError(f"{name!r} cannot be the name of a model on the hub: {error}") from None
    except errors.LocalEntryNotFoundError:
        raise InputError(
            f"{name!r} is not a folder here, and the hub's cache does not hold it"
            f"{'' if revision is None else f' at the revision {revision!r}'}; the hub itself "
            f"{_why_not()}. Fetch it on a machine with a network, or give a folder."
        ) from None
    except Exception as error:  # of the HTTP library, which differs between versions
        raise InputError(
            f"{name} cannot be fetched: {error}. Fetched files are kept: try again to resume."
        ) from error
    return pathlib.Path(folder), pathlib.Path(folder).name


def needed_files(names: Iterable[str], variant: str | None, where: str) -> list[str]:
    """The files of a model that `load` reads.

    Args:
      names: of all its files, with "/" between folder and file.
      variant: as in `resolve`.
      where: the model, for messages.
    """
    names = list(names)
    needed = [name for name in names if name in CONFIGS or name.startswith("tokenizer/")]
    for part in STEMS:
        own = [name.removeprefix(f"{part}/") for name in names if name.startswith(f"{part}/")]
        needed += [f"{part}/{file}" for file in chosen_files(own, part, variant, f"{where}/{part}")]
    return needed


def _fetched(name: str, revision: str | None, variant: str | None) -> str:
    """The folder in the cache; missing files are fetched if the hub lists them."""
    import huggingface_hub
    from huggingface_hub import errors

    try:
        listing = huggingface_hub.HfApi().model_info(name, revision=revision)
    except (errors.RevisionNotFoundError, errors.HFValidationError):
        raise
    except Exception as error:  # for whatever reason the hub does not answer, a cached model is used
        try:
            return huggingface_hub.snapshot_download(
                name, revision=revision, allow_patterns=[*CONFIGS, "tokenizer/*"], local_files_only=True
            )
        except errors.LocalEntryNotFoundError:
            if isinstance(error, errors.RepositoryNotFoundError):
                raise error from None
            raise
    names = [item.rfilename for item in listing.siblings or ()]
    if INDEX not in names:
        raise InputError(
            f"{name} is not a diffusers pipeline: it has no {INDEX}. Convert single files with "
            "jaxcil convert-pipeline."
        )
    return huggingface_hub.snapshot_download(
        name, revision=revision, allow_patterns=needed_files(names, variant, name)
    )


def _why_not() -> str:
    from huggingface_hub import constants

    return "is not asked, because HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "cannot be reached"
