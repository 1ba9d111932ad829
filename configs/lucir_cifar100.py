"""The first training of LUCIR on CIFAR-100, then frozen: 50 classes first, 5 per task (Hou et al., CVPR 2019).

jaxcil run --config=configs/lucir_cifar100.py --workdir=runs/lucir_cifar100

ResNet-32 with 1x1 shortcuts and without the last ReLU, under a cosine classifier; 160 epochs, the rate divided by ten
at 80 and 120. Features have both signs, so FeCAM goes without its Tukey transform. Pixels are scaled to [-1, 1] in
place of the mean and deviation of CIFAR-100.
"""

from ml_collections import ConfigDict

from jaxcil.experiment.settings import defaults


def get_config() -> ConfigDict:
    config = defaults()
    config.dataset = "cifar100"
    config.scenario.update(first_classes=50, classes_per_task=5, class_order="lucir")
    config.seeds = (0, 1, 2)
    config.variants = ("plain",)
    config.heads = ("ncm", "fetril", "fecam", "acil")
    config.head_options.fecam.beta = 1.0
    config.training.update(network="resnet32_lucir", classifier="cosine", epochs=160)
    config.training.update(schedule="step", milestones=(80, 120))
    config.training.augmentation.update(crop=4, flip=True)
    return config.lock()
