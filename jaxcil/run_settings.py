"""What a run's config may name, and what it must not say."""

from typing import Any

from jaxcil import heads
from jaxcil.errors import InputError, unknown_name

HEADS = {"ncm": heads.ncm, "fetril": heads.fetril, "fecam": heads.fecam}
GROUPS_CLASSES = ("fetril", "fecam")  # heads that need a bound on the images of one class
EXTRACTORS = ("plain", "future_proof", "real_future")
NETWORKS = {"resnet8": 1, "resnet14": 2, "resnet20": 3, "resnet32": 5}  # residual blocks a stage
EVALUATE_ON = ("test", "held_out")


def check(config: Any) -> None:
    """Refuses names that do not exist and numbers that make no sense.

    Args:
      config: a ConfigDict with the fields of configs/quickstart.py.
    """
    for kind, names, known in (
        ("head", config.heads, HEADS),
        ("extractor", config.extractors, EXTRACTORS),
        ("network", (config.extractor.network,), NETWORKS),
        ("split to evaluate on", (config.evaluate_on,), EVALUATE_ON),
    ):
        for name in names:
            if name not in known:
                raise unknown_name(kind, name, known)
        if not names:
            raise InputError(f"the config names no {kind}; there are: {', '.join(known)}")
        if len(set(names)) < len(names):
            raise InputError(f"the config names a {kind} twice: {', '.join(names)}")
    if not config.seeds or len(set(config.seeds)) < len(config.seeds):
        raise InputError(f"seeds must be at least one number, none twice; got {config.seeds}")
    for seed in config.seeds:
        if not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise InputError(f"a seed is a whole number from 0 to 2^32 - 1, got {seed!r}")
    check_counts(config.extractor, "extractor", "steps", "batch_size", "chunk")
    if config.extractor.shift < 0:
        raise InputError(f"extractor.shift must not be negative, got {config.extractor.shift}")
    if config.image_size is not None and config.image_size < 1:
        raise InputError(f"image_size must be at least 1, got {config.image_size}")


def check_counts(settings: Any, group: str, *fields: str) -> None:
    """Refuses numbers below 1.

    Args:
      settings: the part of a config that has the fields.
      group: its name, for the message.
      *fields: that must be at least 1.
    """
    for field in fields:
        if settings[field] < 1:
            raise InputError(f"{group}.{field} must be at least 1, got {settings[field]}")
