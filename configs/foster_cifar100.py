"""FOSTER on CIFAR-100: 50 classes first, 5 per task (Wang et al., ECCV 2022).

jaxcil run --config=configs/foster_cifar100.py --workdir=runs/foster_cifar100

ResNet-32; 200 epochs first, 170 of boosting and 130 of compression in later tasks, AutoAugment and Cutout. Average
incremental accuracy that the authors report: 68.0; 70.1 with 10 classes per task, 72.9 with ten equal tasks, 2,000
exemplars in all and nine betas (--config.memory.total=2000).

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
    config.scenario.update(first_classes=50, classes_per_task=5, class_order="pycil")
    config.learners = ("foster",)
    config.learner_options.foster.beta_boosting = (0.94,)
    config.training.update(network="resnet32", epochs=200)
    config.training.augmentation.update(
        crop=4, flip=True, brightness=63 / 255, policy="autoaugment", cutout=16
    )
    return config.lock()
