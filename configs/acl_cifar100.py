"""ACIL and DS-AL's recipe on CIFAR-100: 50 classes first, 2 per task (Zhuang et al., 2205.14922 and 2403.17503).

jaxcil run --config=configs/acl_cifar100.py --workdir=runs/acl_cifar100

ResNet-32, 300 epochs of batches of 256 with 10 of warm-up, TrivialAugmentWide, classes in the order of their labels.
The authors' average incremental accuracy over 25 steps: ACIL 71.05, DS-AL 71.28. Differs: they keep the epoch that is
best on the test images and scale pixels by their mean and standard deviation; here the last epoch is frozen, and pixels
lie in [-1, 1].
"""

from ml_collections import ConfigDict

from jaxcil.experiment.settings import defaults


def get_config() -> ConfigDict:
    config = defaults()
    config.dataset = "cifar100"
    config.scenario.update(first_classes=50, classes_per_task=2, class_order="label-order")
    config.seeds = (0, 1, 2)
    config.variants = ("plain",)
    config.heads = ("ncm", "fetril", "fecam", "acil", "ds_al")
    config.training.update(network="resnet32", epochs=300, warmup=10, batch_size=256, learning_rate=0.5)
    config.training.augmentation.update(crop=4, flip=True, policy="trivial_augment_bilinear")
    return config.lock()
