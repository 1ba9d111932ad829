"""What people read about a filter: the fraction kept per class, and a list and a sheet of the dropped images."""

import os
import pathlib

import numpy as np

from jaxcil import tables
from jaxcil.synthesis.dataset import filters, numbering, store
from jaxcil.synthesis.dataset.contact_sheet import SHEET_COLUMNS, SHEET_ROWS, contact_sheet
from jaxcil.synthesis.dataset.filters import Filter
from jaxcil.synthesis.dataset.manifest import Manifest, read_manifest


def fraction_table(manifest: Manifest, judged: Filter) -> str:
    """A table with a row per class, naming the classes its dropped images were taken for, and a row for all."""
    labels, _ = numbering.located(manifest.requests, range(len(judged.kept)))
    known = judged.classifier["class_names"]

    def row(name: str, kept: np.ndarray, taken_for: str = "") -> list[str]:
        return [name, str(kept.sum()), str(len(kept)), f"{kept.mean():.1%}", taken_for]

    rows = []
    for label, name in enumerate(manifest.class_names):
        mine = labels == label
        taken = np.bincount(judged.taken_for[mine & ~judged.kept], minlength=len(known))
        most = [f"{known[n]} ({taken[n]})" for n in np.argsort(-taken, kind="stable")[:3] if taken[n]]
        rows.append(row(name, judged.kept[mine], ", ".join(most)))
    header = ("class", "kept", "of", "fraction", "dropped were taken for")
    return tables.plain(header, [*rows, row("all", judged.kept)])


def dropped_list(manifest: Manifest, judged: Filter) -> str:
    """A line per dropped image, lowest score first."""
    known = judged.classifier["class_names"]
    lines = (
        f"{manifest.name_of(number)}  {judged.rule.score} {judged.scores[number]:.4g}  "
        f"taken for {known[judged.taken_for[number]]}"
        for number in filters.dropped_numbers(judged).tolist()
    )
    return "\n".join(lines) or "no image is dropped"


def write_dropped_sheet(directory: str | os.PathLike, name: str, judged: Filter) -> pathlib.Path:
    """Writes SET/filters/NAME.png: a row per class with its dropped images, lowest scores first.

    If there are many classes, it shows those that lose the largest fraction.

    Args:
      directory: of the data set.
      name: of the filter.
      judged: a filter that drops at least one image.
    """
    manifest = read_manifest(directory)
    labels, _ = numbering.located(manifest.requests, range(len(judged.kept)))
    fractions = np.array([*filters.fractions_kept(manifest, judged).values()])
    worst = np.argsort(fractions, kind="stable")[:SHEET_ROWS]
    dropped = filters.dropped_numbers(judged)
    chosen = [dropped[labels[dropped] == label][:SHEET_COLUMNS] for label in worst]
    shown = store.read(directory, np.concatenate(chosen).tolist())
    path = filters.folder(directory) / f"{name}.png"
    called = [manifest.phrases.get(name, (name,))[0] for name in shown.class_names]
    contact_sheet(shown.images, shown.labels, called, path, columns=SHEET_COLUMNS)
    return path
