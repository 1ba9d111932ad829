"""PODNet on CIFAR-100: 50 classes first, 5 per task (Douillard et al., ECCV 2020).

jaxcil run --config=configs/podnet_cifar100.py --workdir=runs/podnet_cifar100

The authors' ResNet-32; 160 epochs a task on a cosine and 20 more on the exemplars, 20 of each class. The authors'
average incremental accuracy over their three class orders (podnet-1 to podnet-3): 64.0 (nme) and 63.2 (cnn); with 10
classes per task 64.5 and 64.8. The setting for the network's own output: --config.learner_options.podnet.preset=cnn.

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
    config.scenario.update(first_classes=50, classes_per_task=5, class_order="podnet-1")
    config.learners = ("podnet",)
    config.training.update(network="resnet32_podnet", epochs=160)
    config.training.augmentation.update(crop=4, flip=True, brightness=63 / 255)
    return config.lock()
