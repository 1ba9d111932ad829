"""How a run may grow: the same workdir with more heads, variants, learners or seeds does what is missing."""

import pathlib
from typing import Any

from jaxcil.errors import InputError
from jaxcil.experiment.fields import Settings
from jaxcil.experiment.settings import inert, lanes
from jaxcil.workdir import record
from jaxcil.workdir import settings as fields

LISTS = ("heads", "variants", "learners", "seeds")  # that may have more entries than before
SEEDS = "seeds.json"
REMEDY = "Bring back the file that was written, or give another workdir."


def pin(settings: Settings, workdir: pathlib.Path) -> None:
    """Writes the config into a workdir without work; refuses where another has left work that this one would not do.

    More heads, variants, learners and seeds than before, in any order, are no other config; nor are other values of
    fields that had no effect before, such as the options of a head that is new.

    Args:
      settings: of the run.
      workdir: exists.

    Raises:
      InputError: names every field that differs otherwise, with both values; or as `record.pinned_config` does.
    """
    config, pinned = fields.as_dict(settings), record.pinned_config(workdir)
    begun = record.work(workdir) is not None
    if pinned is not None and begun:
        allowed = _allowed(pinned, settings)
        different = {
            name: values
            for name, values in record.differing(pinned, config).items()
            if not any(name == prefix or name.startswith(f"{prefix}.") for prefix in allowed)
        }
        if different:
            lines = "\n".join(f"  {name}: there {old}, now {new}" for name, (old, new) in different.items())
            raise InputError(
                f"{workdir} holds a run of another config:\n{lines}\nGive another workdir, or what this one was begun "
                f"with; only {', '.join(LISTS)} may have more entries than there."
            )
    if pinned != config and not begun:
        record.write_checked_json(workdir / record.CONFIG, config)


def grow(settings: Settings, workdir: pathlib.Path) -> list[list[int]]:
    """Writes the config and the seeds of a run that may have grown, once all is there that it needs.

    Until then the config may be corrected, as that of a run without work.

    Args:
      settings: that `pin` did not refuse.
      workdir: of the run.

    Returns:
      The seeds in the groups that are trained next to each other: those that came later by themselves. The bits of a
      training may depend on how many runs are next to it, so seeds that a run grew by are what they would be in a run
      of their own.
    """
    config = fields.as_dict(settings)
    if record.pinned_config(workdir) != config:
        record.write_checked_json(workdir / record.CONFIG, config)
    path = workdir / SEEDS
    groups: list[list[int]] = record.read_kept_json(path, REMEDY) or []
    if record.work(workdir) is None:
        groups = []
    added = [seed for seed in settings.seeds if not any(seed in group for group in groups)]
    if added:
        groups = [*groups, added]
        record.write_checked_json(path, groups)
    return groups


def _allowed(pinned: dict[str, Any], settings: Settings) -> list[str]:
    """Fields, or groups of fields, whose values may differ from those of the pinned config."""
    try:
        before = fields.resolve(Settings, pinned)
    except InputError:  # of a version with other fields: every difference counts
        return []
    allowed = [name for name in LISTS if set(getattr(before, name)) <= set(getattr(settings, name))]
    if set(lanes(before)) <= set(lanes(settings)):
        allowed.append("lanes")
    return [*allowed, *inert(before)]
