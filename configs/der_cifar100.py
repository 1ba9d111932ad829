"""DER on CIFAR-100 by its authors' recipe: ten equal tasks, 2,000 exemplars in all (Yan et al., CVPR 2021).

jaxcil run --config=configs/der_cifar100.py --workdir=runs/der_cifar100

A ResNet-18 with a 3x3 stem for every task; 170 epochs, the first 10 of them a warm-up, and 30 of the output layer
alone. Average and last accuracy in the authors' repository, without pruning: 75.4 and 65.2; five tasks 76.8, half of
the classes first and ten steps 72.8.

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
    config.scenario.update(first_classes=10, classes_per_task=10, class_order="podnet-1")
    config.learners = ("der",)
    config.memory.total = 2000
    config.training.update(network="resnet18", epochs=170, warmup=10, schedule="step", milestones=(110, 130))
    config.training.augmentation.update(crop=4, flip=True, brightness=63 / 255)
    return config.lock()
