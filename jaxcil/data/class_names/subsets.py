"""ImageNet-Subset, which is two data sets: two choices of 100 of the 1,000 classes, with 9 in common.

Results on one say nothing about the other, so neither goes by the name of ImageNet-100 alone. Both keep the order of
the sorted WordNet ids; papers that permute it ("seed-1993") do so within their own 100.
"""

from collections.abc import Sequence

import numpy as np


def imagenet100_lucir(ids: Sequence[str]) -> list[str]:
    """The classes of LUCIR (Hou et al., CVPR 2019), PyCIL, FeTrIL and FOSTER.

    Args:
      ids: the 1,000 WordNet ids, sorted.

    Returns:
      The 100 that numpy's legacy generator chooses without replacement under the seed 1993, sorted.
    """
    return sorted(np.random.RandomState(1993).choice(np.asarray(ids), 100, replace=False).tolist())


def imagenet100_podnet(ids: Sequence[str]) -> list[str]:
    """The classes of PODNet (Douillard et al., ECCV 2020), DER and DyTox: the first 100 of the sorted WordNet ids."""
    return list(ids[:100])


SUBSETS = {"imagenet100_lucir": imagenet100_lucir, "imagenet100_podnet": imagenet100_podnet}
