"""Requests to images: the inputs of a batch, the embeddings of its prompts, and its pixels as they are stored.

Image (class, index) has its own key and prompt, so it starts from the same noise in any batch, on any number
of devices and after any restart.
"""

import collections
import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from PIL import Image

from jaxcil import keys
from jaxcil.errors import InputError
from jaxcil.synthesis.dataset import numbering, prompts
from jaxcil.synthesis.dataset.manifest import Manifest

# Prompts per call of the encoder, always, so that an embedding does not depend on the others of the call.
PROMPTS = 8
# Maximum number of embeddings kept, those used last; 240 MB in float32 for CLIP ViT-L.
KEPT = 1024

# (token ids [B, L], keys [B], guidance scales [B]) -> images [B, H, W, 3] float32 in [-1, 1], for one B.
Draw = Callable[[np.ndarray, Array, np.ndarray], Array]


def batch_drawer(
    manifest: Manifest, draw: Draw, tokenize: Callable[[list[str]], np.ndarray], batch: int
) -> Callable[[Sequence[int]], Array]:
    """A function from at most `batch` request numbers to their images; it does not wait for the devices.

    Args:
      manifest: of the data set.
      draw: always called with `batch` images; the last one is repeated if there are fewer.
      tokenize: prompts to ids [B, L].
      batch: B.

    Returns:
      Images [B, H, W, 3] in [-1, 1], in the order of the requests; those after the last request are repetitions.
    """
    make_keys = jax.jit(functools.partial(keys.image_keys, keys.root_key(manifest.config["seed"])))

    def drawn(numbers: Sequence[int]) -> Array:
        full = [*numbers, *[numbers[-1]] * (batch - len(numbers))]
        labels, indices = numbering.located(manifest.requests, full)
        places = list(zip(labels.tolist(), indices.tolist()))
        ids = tokenize([prompts.prompt_of(manifest, label, index) for label, index in places])
        scales = np.array([prompts.scale_of(manifest, label, index) for label, index in places], np.float32)
        return draw(ids, make_keys(labels.astype(np.uint32), indices.astype(np.uint32)), scales)

    return drawn


def stored(manifest: Manifest, numbers: Sequence[int], drawn: Array) -> Iterator[np.ndarray]:
    """Images uint8 [H, W, 3] of the data set's size; waits for the devices.

    Args:
      manifest: of the data set.
      numbers: requests of the first images; the others are repetitions.
      drawn: [B, H, W, 3] in [-1, 1].

    Raises:
      InputError: an image is not finite.
    """
    height, width = manifest.image_size
    for number, image in zip(numbers, np.asarray(drawn)):
        if not np.isfinite(image).all():  # uint8 has no value for it, so a file cannot show it
            raise InputError(
                f"the model drew NaN or infinity in image {manifest.name_of(number)} (request {number}). "
                "Load it in float32, or use a smaller guidance scale."
            )
        pixels = np.round((np.clip(image, -1, 1) / 2 + 0.5) * 255).astype(np.uint8)
        if pixels.shape[:2] != (height, width):
            resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
            pixels = np.asarray(resized)
        yield pixels


class PromptEmbeddings:
    """The text states of prompts, each encoded once: a data set has far fewer prompts than images."""

    def __init__(self, encode: Callable[[np.ndarray], ArrayLike]):
        """Nothing is encoded yet.

        Args:
          encode: token ids [PROMPTS, L] to states [PROMPTS, L, D].
        """
        self._encode = encode
        self._states: collections.OrderedDict[bytes, np.ndarray] = collections.OrderedDict()

    def of(self, ids: np.ndarray) -> np.ndarray:
        """States [B, L, D] of token ids [B, L]."""
        rows = {row.tobytes(): row for row in ids}
        new = [row for name, row in rows.items() if name not in self._states]
        for start in range(0, len(new), PROMPTS):
            some = new[start : start + PROMPTS]
            states = np.asarray(self._encode(np.stack([*some, *[some[-1]] * (PROMPTS - len(some))])))
            self._states |= {row.tobytes(): state for row, state in zip(some, states)}
        for name in rows:
            self._states.move_to_end(name)
        stacked = np.stack([self._states[row.tobytes()] for row in ids])
        while len(self._states) > KEPT:
            self._states.popitem(last=False)
        return stacked
