"""iCaRL, WA and BiC on CIFAR-100 by PyCIL's recipe: ten equal tasks, 2,000 exemplars in all.

jaxcil run --config=configs/icarl_cifar100.py --workdir=runs/icarl_cifar100

ResNet-32; 200 epochs first, 170 in later tasks. One toolbox's average and last accuracy (survey of Zhou et al., table
II): iCaRL 64.4 and 49.5, WA 67.1 and 52.3, BiC 65.1 and 50.8; replay 59.3 and 41.0.

SDDR on top, with a set of images of the 100 classes: --config.synthetic.path=SET
--config.variants=plain,sddr,real_past. Half of the classes first, and five, ten or 25 steps:
--config.scenario.first_classes=50 --config.scenario.classes_per_task=10, 5 or 2. Pixels are scaled to [-1, 1] in place
of the mean and deviation of CIFAR-100.
"""

from ml_collections import ConfigDict

from jaxcil.experiment.settings import defaults


def get_config() -> ConfigDict:
    config = defaults()
    config.dataset = "cifar100"
    config.seeds = (0, 1, 2)
    config.variants = ("plain",)
    config.scenario.update(first_classes=10, classes_per_task=10, class_order="pycil")
    config.learners = ("icarl", "wa", "bic", "replay")
    config.memory.total = 2000
    config.training.update(network="resnet32", epochs=200, schedule="step", milestones=(60, 120, 170))
    config.training.augmentation.update(crop=4, flip=True, brightness=63 / 255)
    return config.lock()
