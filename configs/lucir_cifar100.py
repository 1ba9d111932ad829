"""LUCIR on CIFAR-100: 50 classes first, 5 per task (Hou et al., CVPR 2019).

jaxcil run --config=configs/lucir_cifar100.py --workdir=runs/lucir_cifar100

ResNet-32 with 1x1 shortcuts and without the last ReLU; 160 epochs a task, the rate divided by ten at 80 and 120; 20
exemplars of each class. Published average incremental accuracy, by third parties: 60.1 to 61.2 (cnn), 60.1 to 60.8
(nme); with 10 classes per task 63.4 to 64.0 and 63.1 to 63.6. The first training frozen, for heads on its features
(signed, so FeCAM goes without its Tukey transform): --config.learners=frozen, --config.training.classifier=cosine
--config.head_options.fecam.beta=1.0.

SDDR on top, with a set of images of the 100 classes: --config.synthetic.path=SET
--config.variants=plain,sddr,real_past. Five or 25 steps: --config.scenario.classes_per_task=10, or 2; ten equal tasks:
--config.scenario.first_classes=10 --config.scenario.classes_per_task=10. Pixels are scaled to [-1, 1] in place of the
mean and deviation of CIFAR-100.
"""

from ml_collections import ConfigDict

from jaxcil.experiment.settings import defaults


def get_config() -> ConfigDict:
    config = defaults()
    config.dataset = "cifar100"
    config.seeds = (0, 1, 2)
    config.variants = ("plain",)
    config.scenario.update(first_classes=50, classes_per_task=5, class_order="lucir")
    config.learners = ("lucir",)
    config.training.update(network="resnet32_lucir", epochs=160, schedule="step", milestones=(80, 120))
    config.training.augmentation.update(crop=4, flip=True)
    return config.lock()
