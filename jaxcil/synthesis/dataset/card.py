"""The card of a synthetic data set: README.md, in the form that the Hugging Face hub reads, and its contact sheet.

Everything in it follows from the manifest, from the set's filters, and from the worth.json of
`jaxcil evaluate-synthetic` if one was put into the folder; so equal sets have equal cards.
"""

import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np

from jaxcil import tables
from jaxcil.errors import InputError
from jaxcil.synthesis.dataset import filters, numbering, prompts, store
from jaxcil.synthesis.dataset.contact_sheet import SHEET_COLUMNS, SHEET_ROWS, contact_sheet
from jaxcil.synthesis.dataset.manifest import FILE, Manifest, read_manifest
from jaxcil.workdir import files, record

WORTH = "worth.json"
ACCURACIES = {
    "recognised": "these images, by a classifier trained on real ones",
    "real_test_trained_on_synthetic": "real test images, by a classifier trained on these",
    "real_test_trained_on_real": "real test images, by a classifier trained on real ones",
}
# Maximum numbers of example prompts, and of classes in a table.
EXAMPLES, TABLE_ROWS = 20, 100
SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
)
# Licences as the hub names them: "apache-2.0", "creativeml-openrail-m".
IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9.+-]*")
# What Markdown takes for markup: anywhere, and at the start of a line.
MARKUP = re.compile(r"[\\`*\[\]<>|~&]|(?<!\w)_|_(?!\w)")
MARKUP_FIRST = re.compile(r"^(?=[#+=-])|(?<=^\d)(?=[.)])")


def write_card(directory: str | os.PathLike) -> None:
    """Writes README.md and contact_sheet.png of a complete data set."""
    directory = pathlib.Path(directory)
    manifest = read_manifest(directory)
    rows = np.linspace(0, len(manifest.class_names) - 1, SHEET_ROWS).round()
    chosen = sorted({int(row) for row in rows})
    labels, indices = numbering.located(manifest.requests, range(manifest.requests.total))
    shown = np.flatnonzero(np.isin(labels, chosen) & (indices < SHEET_COLUMNS))
    sheet = store.read(directory, [int(n) for n in shown])
    called = [manifest.phrases.get(name, (name,))[0] for name in sheet.class_names]
    contact_sheet(sheet.images, sheet.labels, called, directory / "contact_sheet.png", columns=SHEET_COLUMNS)
    worth = record.read_result(directory / WORTH) if (directory / WORTH).exists() else None
    files.write(directory / "README.md", card(manifest, _current_filters(directory), worth))


def card(
    manifest: Manifest,
    judged: Mapping[str, filters.Filter] | None = None,
    worth: Mapping[str, Any] | None = None,
) -> str:
    """The text of README.md.

    Args:
      manifest: of the set.
      judged: its filters by name.
      worth: the file that `jaxcil evaluate-synthetic` writes about it.
    """
    judged, imported = judged or {}, "sources" in manifest.config
    title = f"{manifest.requests.total} synthetic images of {len(manifest.class_names)} classes"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"text": text, "code": code}
    return environment.get_template("card.md.jinja").render(
        manifest=manifest,
        title=title,
        imported=imported,
        header=_header(manifest, title, imported),
        licence=manifest.notes.get("licence"),
        classes=_classes(manifest, judged),
        filters=_filter_table(judged),
        worth=_worth(worth),
        a_filter=f'"{next(iter(judged))}"' if judged else None,
        **({} if imported else _drawing(manifest)),
    )


def model_licence(model: str | os.PathLike) -> str | None:
    """The licence in the header of a model folder's card, if there is one."""
    from huggingface_hub import metadata_load  # here, since it takes a third of a second

    path = pathlib.Path(model) / "README.md"
    try:
        licence = (metadata_load(path) or {}).get("license") if path.is_file() else None
    except (
        Exception
    ):  # a YAML reader may raise anything on what people wrote; a model does not depend on its card
        return None
    return licence if isinstance(licence, str) else None


def text(words: object) -> str:
    """Words in one line of Markdown, without markup, in a table too."""
    line = MARKUP.sub(lambda mark: f"\\{mark[0]}", " ".join(str(words).split()))
    return MARKUP_FIRST.sub(r"\\", line)


def code(words: object) -> str:
    """Words as a code span of Markdown, whatever they hold."""
    line = " ".join(str(words).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if "`" in (line[:1], line[-1:]) else ""
    return f"{fence}{space}{line}{space}{fence}"


def _cell(words: object) -> str:
    """A code span in a table, where a bar ends the cell even within code."""
    return code(words).replace("|", "\\|")


def _header(manifest: Manifest, title: str, imported: bool) -> str:
    """The YAML fields that the hub reads."""
    from huggingface_hub import DatasetCardData  # here, since it takes a third of a second

    size = next((name for most, name in SIZES if manifest.requests.total < most), "10M<n<100M")
    licence = manifest.notes.get("licence")
    fields: dict[str, Any] = {"license": licence}
    if licence is None or not IDENTIFIER.fullmatch(licence):
        fields = {
            "license": "other",
            "license_name": licence or ("that-of-the-source" if imported else "that-of-the-model"),
        }
    data = DatasetCardData(
        pretty_name=title,
        task_categories=["image-classification"],
        size_categories=[size],
        tags=["synthetic", "jaxcil"],
        **fields,
    )
    return data.to_yaml()


def _drawing(manifest: Manifest) -> dict[str, Any]:
    """Model, solver, guidance and prompts of a set that `generate` made."""
    config, notes = manifest.config, manifest.notes
    phrases = manifest.phrases.get(manifest.class_names[0], ())
    turns = len(config["templates"]) * max(1, len(phrases))
    revision = f", revision {_cell(notes['revision'])}" if notes.get("revision") else ""
    named = f"{_cell(notes['model'])}{revision}, " if notes.get("model") else ""
    scales = config["guidance_scale"]
    several = isinstance(scales, list)
    rows = (
        ("model", f"{named}SHA-256 `{config['model']['sha256']}`"),
        ("solver", f"{_solver(notes)}, {len(config['plan']['keep'])} calls of the network per image"),
        (
            "guidance scale",
            ", ".join(f"{scale:g}" for scale in scales) + " in turn" if several else f"{scales:g}",
        ),
        ("negative prompt", _cell(config["negative_prompt"]) if config.get("negative_prompt") else "none"),
        ("templates of the prompts, in turn", ", ".join(map(_cell, config["templates"]))),
        ("seed", str(config["seed"])),
    )
    shown = [prompts.prompt_of(manifest, 0, n) for n in range(min(turns, EXAMPLES))]
    return {"settings": tables.markdown(("setting", "value"), rows), "turns": turns, "prompts": shown}


def _solver(notes: Mapping[str, Any]) -> str:
    made_by = notes.get("made_by") or notes
    if "solver" not in made_by:
        return f"the table of coefficients in `{FILE}`"
    order = f" of order {made_by['order']}" if "order" in made_by else ""
    derivative = f", {made_by['derivative']} derivatives" if "derivative" in made_by else ""
    calibrated = ", its noise calibrated to the model" if "made_by" in notes else ""
    return text(f"{made_by['solver'].replace('er_sde', 'ER-SDE')}{order}{derivative}{calibrated}")


def _classes(manifest: Manifest, judged: Mapping[str, filters.Filter]) -> str:
    """Every class with its count, as a table unless there are too many."""
    counts = manifest.requests.images_per_class()
    if len(counts) > TABLE_ROWS:
        listed = ", ".join(f"{text(name)} ({counts[n]})" for n, name in enumerate(manifest.class_names))
        return f"With the number of images: {listed}."
    fractions = [filters.fractions_kept(manifest, item) for item in judged.values()]
    rows = [
        (
            str(label),
            text(name),
            *([text("; ".join(manifest.phrases.get(name, ())))] if manifest.phrases else []),
            str(counts[label]),
            *(f"{kept[name]:.1%}" for kept in fractions),
        )
        for label, name in enumerate(manifest.class_names)
    ]
    called = ["called"] if manifest.phrases else []
    return tables.markdown(
        ("label", "class", *called, "images", *(f"kept by {text(name)}" for name in judged)), rows
    )


def _filter_table(judged: Mapping[str, filters.Filter]) -> str | None:
    rows = [
        (
            _cell(name),
            item.rule.keep
            if item.rule.fraction is None
            else f"{item.rule.keep} {item.rule.fraction:g} of each class",
            item.rule.score,
            f"{item.kept.sum()} of {len(item.kept)} ({item.kept.mean():.1%})",
            f"`{item.classifier['sha256'][:16]}`",
        )
        for name, item in judged.items()
    ]
    header: Sequence[str] = ("filter", "keeps", "by", "images kept", "classifier, SHA-256")
    return tables.markdown(header, rows) if rows else None


def _worth(worth: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The accuracies of `evaluate-synthetic`, each with its standard error."""
    if worth is None:
        return None
    try:
        of_all = worth["all"]
        rows = [
            (
                meaning,
                f"{of_all['accuracy'][name]['value']:.1%} ± {of_all['accuracy'][name]['standard_error']:.1%}",
            )
            for name, meaning in ACCURACIES.items()
        ]
        return {
            "images": of_all["images"]["synthetic"],
            "dataset": worth["config"]["dataset"],
            "table": tables.markdown(("", "accuracy"), rows),
        }
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{WORTH} was not written by `jaxcil evaluate-synthetic`: {error!r}. Remove it."
        ) from None


def _current_filters(directory: pathlib.Path) -> dict[str, filters.Filter]:
    """The filters of a data set that belong to its present state."""
    current = {}
    for name in filters.filter_names(directory):
        try:
            current[name] = filters.read_filter(directory, name)
        except InputError:  # stale: reported to those who use it
            continue
    return current
