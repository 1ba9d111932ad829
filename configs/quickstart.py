"""FPCIL, and iCaRL with and without SDDR, on handwritten digits: 2 classes first and 2 per task, embedded generator.

jaxcil run --config=configs/quickstart.py --workdir=runs/quickstart
"""

from ml_collections import ConfigDict

from jaxcil.experiment.settings import defaults


def get_config() -> ConfigDict:
    config = defaults()
    config.seeds = (0, 1, 2)
    config.variants = ("plain", "future_proof", "real_future", "sddr")
    config.learners = ("frozen", "icarl")
    config.lanes = ("plain/frozen", "future_proof/frozen", "real_future/frozen", "plain/icarl", "sddr/icarl")
    config.training.update(steps=300, batch_size=64, checkpoint_every=60)
    config.training.augmentation.update(crop=1, border="edge")
    config.later_training.steps = 60
    config.memory.per_class = 2
    return config.lock()
