"""What a set of synthetic digits is worth.

jaxcil generate --config=configs/generate_digits.py --workdir=runs/digits
jaxcil evaluate-synthetic --config=configs/evaluate_digits.py --config.synthetic=runs/digits --workdir=runs/worth

A minute on two CPU cores. Of 1,000 digits at guidance 2: 100 % recognised, 97 % of real test digits by a classifier
trained on them; Fréchet distance 0.41, that of real test digits 0.13.
"""

from ml_collections import ConfigDict

from jaxcil.evaluation.worth.settings import worth_defaults


def get_config() -> ConfigDict:
    config = worth_defaults()
    config.update(dataset="digits", generator_split="generator")
    return config
