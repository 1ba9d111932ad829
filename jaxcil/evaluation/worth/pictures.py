"""A sheet of synthetic images, each above the nearest real image that their generator saw, as PNG."""

import io
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxcil.data.encoding import png
from jaxcil.evaluation.worth.nearest import flat, nearest
from jaxcil.evaluation.worth.worth import Sets
from jaxcil.workdir import files

SHOWN, GAP = 20, 2  # pairs per row of the sheet, and white pixels around each image


def nearest_sheet(
    sets: Sets, results: Mapping[str, Any], path: str | os.PathLike | io.BytesIO, zoom: int = 4
) -> None:
    """Draws synthetic images above the nearest image seen: 20 spread over the classes, then the 20 closest pairs.

    Args:
      sets: that were compared.
      results: what worth.json holds.
      path: a PNG file, written whole or not at all; or a buffer.
      zoom: side of a pixel.
    """
    synthetic, seen = sets.synthetic, sets.seen
    spread = np.linspace(0, len(synthetic.labels) - 1, SHOWN).round().astype(int)
    order = np.argsort(synthetic.labels, kind="stable")[spread]
    _, number = nearest(flat(synthetic.images[order]), flat(seen.images))
    closest = results["all"]["copies"]["closest"]
    rows = [
        synthetic.images[order],
        seen.images[number],
        *(
            data.images[[pair[name] for pair in closest]]
            for name, data in (("synthetic", synthetic), ("seen", seen))
        ),
    ]
    strips = []
    for images in rows:
        white = np.full((SHOWN, *images.shape[1:]), 255, np.uint8)
        white[: len(images)] = images
        large = white.repeat(zoom, axis=1).repeat(zoom, axis=2)
        framed = np.pad(large, ((0, 0), (GAP, GAP), (GAP, GAP), (0, 0)), constant_values=255)
        strips.append(np.concatenate(list(framed), axis=1))
    between = np.full((zoom * 4, *strips[0].shape[1:]), 255, np.uint8)
    sheet = png(np.concatenate([*strips[:2], between, *strips[2:]], axis=0))
    if isinstance(path, io.BytesIO):
        path.write(sheet)
    else:
        files.write(path, sheet)
