"""Text states of prompts, encoded once: a data set has far fewer prompts than images."""

import collections
from collections.abc import Callable

import numpy as np
from jax.typing import ArrayLike

# Prompts a call of the encoder, always, so that a state does not depend on what was asked for beside it.
BATCH = 8
# Prompts kept, those asked for last; 240 MB in float32 for CLIP ViT-L.
KEPT = 1024


class TextStates:
    """Encodes each prompt once, until KEPT others were asked for."""

    def __init__(self, encode: Callable[[np.ndarray], ArrayLike]):
        """Nothing is encoded yet.

        Args:
          encode: token ids [BATCH, L] to states [BATCH, L, D].
        """
        self._encode = encode
        self._states: collections.OrderedDict[bytes, np.ndarray] = collections.OrderedDict()

    def of(self, ids: np.ndarray) -> np.ndarray:
        """States [B, L, D] of token ids [B, L]."""
        rows = {row.tobytes(): row for row in ids}
        new = [row for name, row in rows.items() if name not in self._states]
        for start in range(0, len(new), BATCH):
            some = new[start : start + BATCH]
            states = np.asarray(self._encode(np.stack([*some, *[some[-1]] * (BATCH - len(some))])))
            self._states |= {row.tobytes(): state for row, state in zip(some, states)}
        for name in rows:
            self._states.move_to_end(name)
        stacked = np.stack([self._states[row.tobytes()] for row in ids])
        while len(self._states) > KEPT:
            self._states.popitem(last=False)
        return stacked
