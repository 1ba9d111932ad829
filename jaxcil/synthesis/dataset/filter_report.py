"""What people read of a filter: the share kept of each class, and a list and a sheet of what was dropped."""

import os
import pathlib

import numpy as np

from jaxcil.synthesis.dataset import filters, numbering, store
from jaxcil.synthesis.dataset.contact_sheet import SHEET_COLUMNS, SHEET_ROWS, contact_sheet
from jaxcil.synthesis.dataset.filters import Filter
from jaxcil.synthesis.dataset.manifest import Manifest, read_manifest


def share_table(manifest: Manifest, found: Filter) -> str:
    """A line a class, with the class that most of its dropped images were taken for, and one of all."""
    labels, _ = numbering.located(manifest.requests, range(len(found.kept)))
    known = found.classifier["class_names"]
    width = max(len("class"), *map(len, manifest.class_names))
    lines = [f"{'class':{width}}  {'kept':>9}  {'of':>9}  {'share':>7}  dropped were taken for"]
    for label, name in enumerate(manifest.class_names):
        mine = labels == label
        taken = np.bincount(found.taken_for[mine & ~found.kept], minlength=len(known))
        most = [f"{known[n]} ({taken[n]})" for n in np.argsort(-taken, kind="stable")[:3] if taken[n]]
        lines.append(_line(name, width, found.kept[mine]) + f"  {', '.join(most)}".rstrip())
    return "\n".join([*lines, _line("all", width, found.kept)])


def dropped_list(manifest: Manifest, found: Filter) -> str:
    """A line a dropped image, the lowest score first."""
    known = found.classifier["class_names"]
    lines = (
        f"{manifest.name_of(number)}  {found.rule.score} {found.scores[number]:.4g}  "
        f"taken for {known[found.taken_for[number]]}"
        for number in filters.dropped_numbers(found).tolist()
    )
    return "\n".join(lines) or "no image is dropped"


def write_dropped_sheet(directory: str | os.PathLike, name: str, found: Filter) -> pathlib.Path:
    """Writes SET/filters/NAME.png: a row a class, its dropped images with the lowest scores.

    Of many classes it shows those that lose the largest share.

    Args:
      directory: of the data set.
      name: of the filter.
      found: drops at least one image.
    """
    manifest = read_manifest(directory)
    labels, _ = numbering.located(manifest.requests, range(len(found.kept)))
    shares = np.array([*filters.shares_kept(manifest, found).values()])
    worst = np.argsort(shares, kind="stable")[:SHEET_ROWS]
    dropped = filters.dropped_numbers(found)
    chosen = [dropped[labels[dropped] == label][:SHEET_COLUMNS] for label in worst]
    shown = store.read(directory, np.concatenate(chosen).tolist())
    path = filters.folder(directory) / f"{name}.png"
    called = [manifest.phrases.get(name, (name,))[0] for name in shown.class_names]
    contact_sheet(shown.images, shown.labels, called, path, columns=SHEET_COLUMNS)
    return path


def _line(name: str, width: int, kept: np.ndarray) -> str:
    return f"{name:{width}}  {kept.sum():9}  {len(kept):9}  {kept.mean():7.1%}"
