"""Heads: pure classifiers on features. `init`, `update` with one task's features, `scores`."""

from jaxcil.heads.fecam import fecam as fecam
from jaxcil.heads.fetril import fetril as fetril
from jaxcil.heads.ncm import ncm as ncm
