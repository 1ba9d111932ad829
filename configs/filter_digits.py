"""Which images of a set of synthetic digits a classifier of real digits recognises.

jaxcil generate --config=configs/generate_digits.py --workdir=runs/digits
jaxcil filter runs/digits --config=configs/filter_digits.py --name=recognised
jaxcil run --config=quickstart --config.synthetic.path=runs/digits --config.synthetic.filter=recognised --workdir=RUN

It keeps 600 of 600 images that were drawn at guidance 2, and 130 of 300 at guidance 0.4 with 8 denoiser calls.
The four fifths of each class that look most like it: --config.keep=top --config.fraction=0.8 --name=best
"""

from ml_collections import ConfigDict

from jaxcil.evaluation.worth.settings import filter_defaults


def get_config() -> ConfigDict:
    return filter_defaults()
