"""Which sampler is best at a number of denoiser calls: ER-SDE of all orders and its peers.

    jaxcil compare-samplers --config=configs/compare_samplers.py --workdir=runs/samplers

It took 38 minutes on two shared CPU cores (digits 19, mixtures 16.5, all else 2.5), and 28 more, at low
priority, for the digits at 50 calls. Corrected order 3 against the published one, by 10 and 20 calls: 20 and
63 percent nearer on the Gaussian, 29 percent and no difference on the mixture, 2 percent and none on the digits; on the
ring 0.0003 farther by 10 calls, none by 20.
"""

from ml_collections import ConfigDict

from jaxcil.evaluation.samplers.settings import comparison_defaults


def get_config() -> ConfigDict:
    return comparison_defaults()
