"""FeCAM's recipe on CIFAR-100: 50 classes first, 5 per task (Goswami et al., arXiv:2309.14062).

jaxcil run --config=configs/fecam_cifar100.py --workdir=runs/fecam_cifar100

ResNet-18 with a 3x3 stem under a cosine classifier, 200 epochs, class order seed-1993. The authors' average incremental
accuracy: 70.8 with FeCAM, as a third party tabulates it (10 steps). Pixels are scaled to [-1, 1] in place of the
authors' mean and deviation of CIFAR-100. Ten equal tasks: --config.scenario.first_classes=10
--config.scenario.classes_per_task=10.
"""

from ml_collections import ConfigDict

from jaxcil.experiment.settings import defaults


def get_config() -> ConfigDict:
    config = defaults()
    config.dataset = "cifar100"
    config.scenario.update(first_classes=50, classes_per_task=5, class_order="fecam")
    config.seeds = (0, 1, 2)
    config.variants = ("plain",)
    config.heads = ("ncm", "fetril", "fecam", "acil")
    config.head_options.fecam.first_task = "classifier"  # as the authors' code scores the first task
    config.training.update(network="resnet18", classifier="cosine", epochs=200)
    config.training.augmentation.update(crop=4, flip=True, brightness=63 / 255, policy="autoaugment")
    return config.lock()
