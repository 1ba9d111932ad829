"""What people look at: the card of a synthetic data set, and a sheet with some of its images."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxcil import files
from jaxcil.data.png import png
from jaxcil.synthesis import conditions, prompts, requests, store
from jaxcil.synthesis.manifest import Manifest, read_manifest

# Small images are enlarged by whole factors up to this side, large ones made smaller.
CELL = 64
GAP = 2
# A sheet shows this many images a class, and classes evenly spread where there are more.
SHEET_COLUMNS, SHEET_ROWS = 10, 50
# A card shows so many prompts, if there are as many.
EXAMPLES = 20


def write_card(directory: str | os.PathLike) -> None:
    """Writes README.md and contact_sheet.png of a complete data set."""
    directory = pathlib.Path(directory)
    manifest = read_manifest(directory)
    rows = np.linspace(0, len(manifest.class_names) - 1, SHEET_ROWS).round()
    chosen = sorted({int(row) for row in rows})
    labels, indices = requests.located(manifest.requests, range(manifest.requests.total))
    shown = np.flatnonzero(np.isin(labels, chosen) & (indices < SHEET_COLUMNS))
    sheet = store.read(directory, [int(n) for n in shown])
    called = [manifest.phrases.get(name, (name,))[0] for name in sheet.class_names]
    contact_sheet(sheet.images, sheet.labels, called, directory / "contact_sheet.png", columns=SHEET_COLUMNS)
    files.write(directory / "README.md", card(manifest))


def card(manifest: Manifest) -> str:
    """The text of README.md, in the form of a data-set card."""
    counts = manifest.requests.images_a_class()
    height, width = manifest.image_size
    came_from, how, licence = _imported(manifest) if "sources" in manifest.config else _drawn(manifest)
    names = ", ".join(
        f"{name} ({'; '.join([*manifest.phrases.get(name, ()), str(counts[label])])})"
        for label, name in enumerate(manifest.class_names)
    )
    return f"""---
task_categories:
- image-classification
tags:
- synthetic
- jaxcil
---

# {manifest.requests.total} synthetic images of {len(manifest.class_names)} classes

PNG images of {height} x {width} pixels, {came_from}

![Some images of each class](contact_sheet.png)

Classes, with the number of images: {names}.

{how} `manifest.json` has the whole config (SHA-256 {manifest.config_hash}), each shard's `.json` file its
checksum and the versions and the device that made it.

To read the set:

    import tensorflow_datasets as tfds
    source = tfds.builder_from_directory("THIS_DIRECTORY").as_data_source(split="train")

{licence}
"""


def _drawn(manifest: Manifest) -> tuple[str, str, str]:
    """Of a set that `generate` made: where the images came from, how they were made, their licence."""
    config = manifest.config
    phrases = manifest.phrases.get(manifest.class_names[0], ())
    turns = len(config["templates"]) * max(1, len(phrases))
    examples = "\n".join(f"- {conditions.prompt_of(manifest, 0, n)}" for n in range(min(turns, EXAMPLES)))
    return (
        "drawn by a text-to-image diffusion model from the names of their\n"
        "classes alone. No real image is among them, and nobody has looked at each one: a label is the class that was\n"
        "asked for.",
        f"Prompts of the first class, taken in turn:\n\n{examples}\n\n"
        f"{_guidance(config)}, {len(config['plan']['keep'])} calls of the network an image, seed\n{config['seed']}.",
        "The licence of the images follows from that of the model that drew them.",
    )


def _imported(manifest: Manifest) -> tuple[str, str, str]:
    """The same of a set that `import_images` made."""
    config = manifest.config
    sources = "\n".join(f"- `{name}` {checksum}" for name, checksum in config["sources"].items())
    brought = "cut to the central square and resized" if config["pixels"]["resize"] else "in their own size"
    return (
        "made by another tool and imported by `jaxcil import-images`. What\n"
        "made them, and from what, is not known here: a label is the folder or the archive an image lay in.",
        f"Sources, with SHA-256 (of a folder, that of its list of checksums and names):\n\n{sources}\n\n"
        f"Images were taken {brought};\nwhat was transparent is {config['pixels']['behind_alpha']}.",
        "The licence of the images is that of their source.",
    )


def contact_sheet(
    images: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    path: str | os.PathLike,
    columns: int = 10,
) -> None:
    """Writes a PNG with a row a class, the class names at its left.

    Args:
      images: uint8 [N, H, W, 3].
      labels: [N], positions in class_names; a class without images has no row.
      class_names: by label.
      path: of the PNG.
      columns: images a row; the first of each class.
    """
    rows = [(label, np.flatnonzero(labels == label)[:columns]) for label in np.unique(labels).tolist()]
    height, width = _cell(images.shape[1:3])
    font = ImageFont.load_default(size=13)
    texts = [prompts.readable(class_names[int(label)]) for label, _ in rows]
    margin = int(max(font.getlength(text) for text in texts)) + 4 * GAP
    sheet = Image.new("RGB", (margin + columns * (width + GAP), len(rows) * (height + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    small = height < images.shape[1]
    how = Image.Resampling.LANCZOS if small else Image.Resampling.NEAREST
    for row, ((_, shown), text) in enumerate(zip(rows, texts)):
        top = row * (height + GAP)
        draw.text((margin - 2 * GAP, top + height / 2), text, fill="black", font=font, anchor="rm")
        for column, number in enumerate(shown):
            cell = Image.fromarray(images[number]).resize((width, height), how)
            sheet.paste(cell, (margin + column * (width + GAP), top))
    files.write(path, png(np.asarray(sheet)))


def _guidance(config: dict[str, Any]) -> str:
    """How the images were guided, in words."""
    scales = config["guidance_scale"]
    said = (
        f"Guidance scales {', '.join(f'{scale:g}' for scale in scales)} in turn"
        if isinstance(scales, list)
        else f"Guidance scale {scales:g}"
    )
    negative = config.get("negative_prompt")
    return f"{said}, away from {negative!r}" if negative else said


def _cell(size: tuple[int, ...]) -> tuple[int, int]:
    """Height and width in which images of a size are shown."""
    height, width = size
    side = max(height, width)
    if side <= CELL:
        return height * (CELL // side), width * (CELL // side)
    return max(1, round(height * CELL / side)), max(1, round(width * CELL / side))
