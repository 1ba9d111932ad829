"""Requests to images: what a batch is drawn from, and its pixels as they are stored.

Image (class, index) has its own key and prompt, so it starts from the same noise in any batch, on any number
of devices and after any restart.
"""

import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from jax import Array
from PIL import Image

from jaxcil import keys
from jaxcil.errors import InputError
from jaxcil.synthesis.dataset import conditions, numbering
from jaxcil.synthesis.dataset.manifest import Manifest

# (token ids [B, L], keys [B], guidance scales [B]) -> images [B, H, W, 3] float32 in [-1, 1], for one B.
Draw = Callable[[np.ndarray, Array, np.ndarray], Array]


def batch_drawer(
    manifest: Manifest, draw: Draw, tokenize: Callable[[list[str]], np.ndarray], batch: int
) -> Callable[[Sequence[int]], Array]:
    """A function from request numbers, at most `batch`, to their images; it does not wait for the devices.

    Args:
      manifest: of the data set.
      draw: called with `batch` images, always: the last one again fills up what is missing.
      tokenize: prompts to ids [B, L].
      batch: B.

    Returns:
      images [B, H, W, 3] in [-1, 1], in the order of the requests, of which there may be fewer.
    """
    make_keys = jax.jit(functools.partial(keys.image_keys, keys.root_key(manifest.config["seed"])))

    def drawn(numbers: Sequence[int]) -> Array:
        full = [*numbers, *[numbers[-1]] * (batch - len(numbers))]
        labels, indices = numbering.located(manifest.requests, full)
        places = list(zip(labels.tolist(), indices.tolist()))
        ids = tokenize([conditions.prompt_of(manifest, label, index) for label, index in places])
        scales = np.array(
            [conditions.scale_of(manifest, label, index) for label, index in places], np.float32
        )
        return draw(ids, make_keys(labels.astype(np.uint32), indices.astype(np.uint32)), scales)

    return drawn


def stored(manifest: Manifest, numbers: Sequence[int], drawn: Array) -> Iterator[np.ndarray]:
    """Images uint8 [H, W, 3] of the size of the data set; waits for the devices.

    Args:
      manifest: of the data set.
      numbers: requests of the first images; those behind them filled up the batch, and go.
      drawn: [B, H, W, 3] in [-1, 1].

    Raises:
      InputError: an image is not finite.
    """
    height, width = manifest.image_size
    for number, image in zip(numbers, np.asarray(drawn)):
        if not np.isfinite(image).all():  # uint8 has no word for it: seen now or never
            raise InputError(
                f"the model drew no number (NaN or infinity) in image {manifest.name_of(number)} (request {number}). "
                "Load it in float32, or take a smaller guidance scale."
            )
        pixels = np.round((np.clip(image, -1, 1) / 2 + 0.5) * 255).astype(np.uint8)
        if pixels.shape[:2] != (height, width):
            resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
            pixels = np.asarray(resized)
        yield pixels
