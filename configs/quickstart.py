"""FPCIL on handwritten digits, 2 classes first and 2 per task, with the embedded generator.

jaxcil run --config=configs/quickstart.py --workdir=runs/quickstart
"""

from ml_collections import ConfigDict

from jaxcil.experiment.settings import defaults


def get_config() -> ConfigDict:
    config = defaults()
    config.training.update(steps=300, batch_size=64)
    config.training.augmentation.update(crop=1, border="edge")
    return config.lock()
