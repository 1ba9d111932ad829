"""The card of a synthetic data set: README.md, in the form that the Hugging Face hub reads, and its contact sheet.

All in it follows from the manifest, from the filters beside it, and from a worth.json of `jaxcil evaluate-synthetic`
if one was laid into the folder; so equal sets have equal cards.
"""

import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxcil.errors import InputError
from jaxcil.synthesis.dataset import conditions, filters, numbering, store
from jaxcil.synthesis.dataset.contact_sheet import SHEET_COLUMNS, SHEET_ROWS, contact_sheet
from jaxcil.synthesis.dataset.licences import header_fields
from jaxcil.synthesis.dataset.manifest import FILE, Manifest, read_manifest
from jaxcil.workdir import files

WORTH = "worth.json"
ACCURACIES = {
    "recognised": "these images, of a classifier that was trained on real ones",
    "real_test_trained_on_synthetic": "real test images, of a classifier that was trained on these",
    "real_test_trained_on_real": "real test images, of a classifier that was trained on real ones",
}
# A card lists so many prompts, if there are as many, and so many classes in a table.
EXAMPLES, TABLE_ROWS = 20, 100
SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
)
LIMITS = """- A label is {label}. Nobody has looked at each image{judged}.
- {biases}
- Images may be near-duplicates of each other{copies}.
- {worth}"""


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
    worth = files.read_json(directory / WORTH) if (directory / WORTH).exists() else None
    files.write(directory / "README.md", card(manifest, _filters(directory), worth))


def card(
    manifest: Manifest,
    found: Mapping[str, filters.Filter] | None = None,
    worth: Mapping[str, Any] | None = None,
) -> str:
    """The text of README.md.

    Args:
      manifest: of the set.
      found: its filters by name.
      worth: what `jaxcil evaluate-synthetic` writes about it.
    """
    found = found or {}
    imported, total = "sources" in manifest.config, manifest.requests.total
    height, width = manifest.image_size
    title = f"{total} synthetic images of {len(manifest.class_names)} classes"
    came = (
        "made by another tool and imported by `jaxcil import-images`"
        if imported
        else "drawn by a text-to-image diffusion model from the names of their classes; no real image is among them"
    )
    return f"""---
{_header(manifest, title, imported)}---

# {title}

{manifest.encoding.name} images of {height} x {width} pixels, {came}.

![Some images of each class](contact_sheet.png)

## How they were made

{_sources(manifest) if imported else _drawing(manifest)}

`{FILE}` has the whole config (SHA-256 `{manifest.config_hash}`); the `.json` file beside each shard has its checksum
and the versions and the device that made it.

## Classes

{_classes(manifest, found)}

{_filter_section(found)}{_worth_section(worth)}## Known limits

{_limits(imported, bool(found), worth is not None)}

## Licence

{_licence(manifest, imported)}

## Use

    import tensorflow_datasets as tfds
    source = tfds.builder_from_directory("THIS_DIRECTORY").as_data_source(split="train")

or, as arrays, in the order in which the images were asked for:

    from jaxcil.synthesis import filters
    images, labels, class_names = filters.read("THIS_DIRECTORY", {_a_filter(found)})

{_keeping(imported)}
"""


def _header(manifest: Manifest, title: str, imported: bool) -> str:
    """The YAML fields that the hub reads."""
    from huggingface_hub import DatasetCardData  # here, since it takes a third of a second

    size = next((name for most, name in SIZES if manifest.requests.total < most), "10M<n<100M")
    otherwise = "that-of-the-source" if imported else "that-of-the-model"
    fields: dict[str, Any] = header_fields(manifest.notes.get("licence"), otherwise)
    data = DatasetCardData(
        pretty_name=title,
        task_categories=["image-classification"],
        size_categories=[size],
        tags=["synthetic", "jaxcil"],
        **fields,
    )
    return f"{data.to_yaml()}\n"


def _drawing(manifest: Manifest) -> str:
    """Model, solver, guidance and prompts of a set that `generate` made."""
    config, notes = manifest.config, manifest.notes
    name, phrases = manifest.class_names[0], manifest.phrases.get(manifest.class_names[0], ())
    turns = len(config["templates"]) * max(1, len(phrases))
    shown = [conditions.prompt_of(manifest, 0, n) for n in range(min(turns, EXAMPLES))]
    revision = f", revision `{notes['revision']}`" if notes.get("revision") else ""
    named = f"`{notes['model']}`{revision}, " if notes.get("model") else ""
    rows = (
        ("model", f"{named}SHA-256 `{config['model']['sha256']}`"),
        ("solver", f"{_solver(notes)}, {len(config['plan']['keep'])} calls of the network an image"),
        ("guidance scale", _scales(config["guidance_scale"])),
        ("negative prompt", _code(config["negative_prompt"]) if config.get("negative_prompt") else "none"),
        ("templates of the prompts, in turn", ", ".join(map(_code, config["templates"]))),
        ("seed", str(config["seed"])),
    )
    more = f", the first {EXAMPLES} of {turns}" if turns > EXAMPLES else ""
    return f"{_table(('setting', 'value'), rows)}\n\nPrompts of {_text(name)}{more}:\n\n" + "\n".join(
        f"- {_text(prompt)}" for prompt in shown
    )


def _sources(manifest: Manifest) -> str:
    """Where the images of an imported set lay."""
    pixels, sources = manifest.config["pixels"], manifest.config["sources"]
    brought = "cut to the central square and resized" if pixels["resize"] else "in their own size"
    listed = "\n".join(f"- `{name}` {checksum}" for name, checksum in sources.items())
    return (
        f"What made them, and from what, is not known here. They were taken {brought}; what was transparent is "
        f"{pixels['behind_alpha']}.\n\nSources, with SHA-256 (of a folder, that of its list of checksums and "
        f"names):\n\n{listed}"
    )


def _solver(notes: Mapping[str, Any]) -> str:
    made_by = notes.get("made_by") or notes
    if "solver" not in made_by:
        return f"the table of coefficients in `{FILE}`"
    order = f" of order {made_by['order']}" if "order" in made_by else ""
    derivative = f", {made_by['derivative']} derivatives" if "derivative" in made_by else ""
    calibrated = ", its noise calibrated to the model" if "made_by" in notes else ""
    return f"{made_by['solver'].replace('er_sde', 'ER-SDE')}{order}{derivative}{calibrated}"


def _scales(scales: float | Sequence[float]) -> str:
    return (
        ", ".join(f"{scale:g}" for scale in scales) + " in turn"
        if isinstance(scales, list)
        else f"{scales:g}"
    )


def _classes(manifest: Manifest, found: Mapping[str, filters.Filter]) -> str:
    """Every class with its count, as a table where there are not too many."""
    counts = manifest.requests.images_per_class()
    shares = {name: filters.shares_kept(manifest, item) for name, item in found.items()}
    if len(counts) > TABLE_ROWS:
        listed = ", ".join(f"{_text(name)} ({counts[n]})" for n, name in enumerate(manifest.class_names))
        return f"With the number of images: {listed}."
    rows = [
        (
            str(label),
            _text(name),
            *([_text("; ".join(manifest.phrases.get(name, ())))] if manifest.phrases else []),
            str(counts[label]),
            *(f"{share[name]:.1%}" for share in shares.values()),
        )
        for label, name in enumerate(manifest.class_names)
    ]
    called = ["called"] if manifest.phrases else []
    return _table(("label", "class", *called, "images", *(f"kept by {_text(n)}" for n in found)), rows)


def _filter_section(found: Mapping[str, filters.Filter]) -> str:
    if not found:
        return ""
    rows = [
        (
            _code(name),
            item.rule.keep
            if item.rule.share is None
            else f"{item.rule.keep} {item.rule.share:g} of each class",
            item.rule.score,
            f"{item.kept.sum()} of {len(item.kept)} ({item.kept.mean():.1%})",
            f"`{item.classifier['sha256'][:16]}`",
        )
        for name, item in found.items()
    ]
    head = ("filter", "keeps", "by", "images kept", "classifier, SHA-256")
    return (
        f"## Filters\n\n{_table(head, rows)}\n\nNo image is taken away; `filters/` has the scores of all.\n\n"
    )


def _worth_section(worth: Mapping[str, Any] | None) -> str:
    """The accuracies of `evaluate-synthetic`, each with its standard error."""
    if worth is None:
        return ""
    try:
        of_all, dataset = worth["all"], worth["config"]["dataset"]
        judged = of_all["images"]["synthetic"]
        rows = [
            (
                said,
                f"{of_all['accuracy'][name]['value']:.1%} ± {of_all['accuracy'][name]['standard_error']:.1%}",
            )
            for name, said in ACCURACIES.items()
        ]
    except (KeyError, TypeError) as error:
        raise InputError(f"{WORTH} is not of `jaxcil evaluate-synthetic`: {error!r}. Take it away.") from None
    return (
        f"## Worth\n\nOf {judged} images, beside real ones of {_text(str(dataset))}, by `jaxcil evaluate-synthetic`; "
        f"`{WORTH}` has more.\n\n{_table(('', 'accuracy'), rows)}\n\n"
    )


def _limits(imported: bool, filtered: bool, measured: bool) -> str:
    return LIMITS.format(
        label="the folder or the archive an image lay in" if imported else "the class that was asked for",
        judged=", but a classifier has: see the filters" if filtered else "",
        biases="What made the images has biases, which are in them: look at the contact sheet for what is shown and "
        "what never is.",
        copies="" if imported else ", or of what the model was trained on",
        worth="What these images teach a classifier was measured by small networks alone: see their worth."
        if measured
        else "Whether they teach a classifier anything was not measured here; `jaxcil evaluate-synthetic` does.",
    )


def _licence(manifest: Manifest, imported: bool) -> str:
    licence = manifest.notes.get("licence")
    if licence:
        return f"{_text(licence)}."
    return f"Follows from that of {'their source' if imported else 'the model that drew them'}."


def _keeping(imported: bool) -> str:
    """How to look after the set."""
    repaired = (
        "finds what is damaged." if imported else "finds what is damaged, and with `--repair` draws it again."
    )
    more = (
        ""
        if imported
        else " The command that made the set, given again with more images a class, "
        "or more classes behind these, extends it; what is there stays as it is."
    )
    return f"`jaxcil verify THIS_DIRECTORY` {repaired}{more}"


def _filters(directory: pathlib.Path) -> dict[str, filters.Filter]:
    """The filters of a data set that are of the set as it is."""
    current = {}
    for name in filters.filter_names(directory):
        try:
            current[name] = filters.read_filter(directory, name)
        except InputError:  # stale: who uses it is told so
            continue
    return current


def _a_filter(found: Iterable[str]) -> str:
    return f'"{next(iter(found))}"' if found else "None"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(words: str) -> str:
    """Words that Markdown leaves alone, in a table too."""
    for mark in "\\`*[]<>|":
        words = words.replace(mark, f"\\{mark}")
    return words


def _code(words: str) -> str:
    return "`" + words.replace("`", "'").replace("|", "\\|") + "`"
