"""What a set of synthetic digits is worth.

jaxcil generate --config=configs/generate_digits.py --workdir=runs/digits
jaxcil evaluate-synthetic --config=configs/evaluate_digits.py --config.synthetic=runs/digits --workdir=runs/worth
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.synthetic = config_dict.placeholder(str)  # a folder that `jaxcil generate` wrote
    config.dataset = "digits"
    config.data_dir = config_dict.placeholder(str)
    config.seen = "generator"  # the split that the generator was trained on
    config.judge = dict(
        blocks=1, steps=600, batch_size=64, learning_rate=0.1, weight_decay=5e-4, shift=1, seed=0
    )
    return config.lock()
