"""The class orders of published results, by name.

Two papers that both say "seed 1993" may use different orders: LUCIR permutes 0 .. C - 1 under that seed, while iCaRL's
loader first shuffles the 500 images of every class of CIFAR-100 and takes the order from what is left of the stream.

    label-order (fetril)          0 .. C - 1; FeTrIL's example configuration (Petit et al., WACV 2023), which permutes
                                  as seed-N does where it is given a seed
    seed-N                        numpy's legacy permutation under that seed
    seed-1993 (lucir, pycil,      LUCIR (Hou et al., CVPR 2019), PyCIL, FeCAM, FOSTER; and PODNet on ImageNet-Subset and
    fecam)                        ImageNet, where an id is a place among the sorted WordNet ids of the set at hand
    podnet-1 (icarl)              CIFAR-100, iCaRL (Rebuffi et al., CVPR 2017), and the first of PODNet's three
    podnet-2, podnet-3            CIFAR-100, the others that PODNet (Douillard et al., ECCV 2020) and DER average over;
                                  their seeds are not known, so they are in podnet_orders.json
"""

import pathlib

import numpy as np

from jaxcil.errors import InputError, unknown_name
from jaxcil.workdir import files

SAME = {
    "fetril": "label-order",
    "lucir": "seed-1993",
    "pycil": "seed-1993",
    "fecam": "seed-1993",
    "icarl": "podnet-1",
}
OF_CIFAR100 = ("podnet-1", "podnet-2", "podnet-3")
NAMES = ("seed-N", "label-order", *OF_CIFAR100, *SAME)


def named_order(name: str, num_classes: int) -> tuple[int, ...]:
    """Original class ids by position.

    Args:
      name: one of NAMES, with a number below 2^32 in place of N.
      num_classes: C; those of CIFAR-100 are for 100 classes alone.

    Raises:
      InputError: for an unknown name, or the order of another number of classes.
    """
    kind = SAME.get(name, name)
    if kind == "label-order":
        return tuple(range(num_classes))
    if kind in OF_CIFAR100:
        if num_classes != 100:
            raise InputError(
                f"the class order {name!r} is one of the 100 classes of CIFAR-100, but there are {num_classes} classes "
                "here. Take seed-1993 (on ImageNet the order of LUCIR and of PODNet alike), or label-order."
            )
        return _icarl() if kind == "podnet-1" else tuple(_listed()[kind])
    prefix, _, seed = kind.partition("-")
    if prefix == "seed" and seed.isdecimal() and int(seed) < 2**32:
        return tuple(np.random.RandomState(int(seed)).permutation(num_classes).tolist())
    raise InputError(f"{unknown_name('class order', name, NAMES)} N is a number below 2^32.")


def _icarl() -> tuple[int, ...]:
    stream = np.random.RandomState(1993)
    for _ in range(100):
        stream.shuffle(np.arange(500))
    order = np.arange(100)
    stream.shuffle(order)
    return tuple(order.tolist())


def _listed() -> dict[str, list[int]]:
    return files.read_json(pathlib.Path(__file__).with_name("podnet_orders.json"))
