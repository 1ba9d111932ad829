"""A sheet with some images of each class of a data set, for people to look at."""

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxcil.data.encoding import png
from jaxcil.synthesis.dataset import prompts
from jaxcil.workdir import files

# Side in pixels: small images are enlarged by a whole factor up to it, large ones reduced to it.
CELL = 64
GAP = 2
# A sheet shows at most this many images per class, and this many classes.
SHEET_COLUMNS, SHEET_ROWS = 10, 50


def contact_sheet(
    images: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    path: str | os.PathLike,
    columns: int = 10,
) -> None:
    """Writes a PNG with one row per class, class names on the left.

    Args:
      images: uint8 [N, H, W, 3].
      labels: [N], positions in class_names; a class without images has no row.
      class_names: by label.
      path: of the PNG.
      columns: images per row, the first of each class.
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


def _cell(size: tuple[int, ...]) -> tuple[int, int]:
    """Height and width at which images of a size are shown."""
    height, width = size
    side = max(height, width)
    if side <= CELL:
        return height * (CELL // side), width * (CELL // side)
    return max(1, round(height * CELL / side)), max(1, round(width * CELL / side))
