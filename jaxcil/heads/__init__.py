"""Heads: pure classifiers on features. `init`, `update` with one task's features, `scores`.

Call `update` and `scores` under `jax.jit`: outside it, heads with loops compile them at every call.

`scores_are_logits` says of a head that the softmax of its scores is its probability of the classes seen, so that a
calibration error can be measured; distances, cosines, decision values and regressions have no such scale.
"""

from jaxcil.heads.acil import acil as acil
from jaxcil.heads.ds_al import ds_al as ds_al
from jaxcil.heads.fecam import fecam as fecam
from jaxcil.heads.fetril import fetril as fetril
from jaxcil.heads.linear import linear as linear
from jaxcil.heads.ncm import ncm as ncm
from jaxcil.heads.ranpac import ranpac as ranpac
from jaxcil.heads.slda import slda as slda
