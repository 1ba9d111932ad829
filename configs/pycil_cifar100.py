"""PyCIL's methods on a small benchmark of real images: 20 classes of CIFAR-100, 10 first and 2 per task, a ResNet-8.

jaxcil run --config=configs/pycil_cifar100.py --workdir=runs/pycil_cifar100

Recipes as PyCIL's code has them but for their length: 20 epochs for the first task, 15 for later ones. FOSTER and
PODNet begin with a cosine schedule, and PODNet with a network of its own:

jaxcil run --config=configs/pycil_cifar100.py --config.learners=foster, --config.training.schedule=cosine \
    --config.training.milestones=, --config.later_training.schedule=cosine --config.later_training.milestones=, \
    --config.later_training.weight_decay=5e-4 --config.learner_options.foster.compression_epochs=10 \
    --workdir=runs/pycil_foster
jaxcil run --config=configs/pycil_cifar100.py --config.learners=podnet, --config.training.network=resnet8_lucir \
    --config.training.schedule=cosine --config.training.milestones=, --config.later_training.schedule=cosine \
    --config.later_training.milestones=, --config.later_training.weight_decay=5e-4 \
    --config.learner_options.podnet.preset=pycil --config.learner_options.podnet.balanced_epochs=3 \
    --workdir=runs/pycil_podnet

Pixels are scaled to [-1, 1] in place of the mean and deviation of CIFAR-100, and the last short batch of an epoch is
left out.
"""

from ml_collections import ConfigDict

from jaxcil.experiment.settings import defaults

CLASSES = (
    "road,palm_tree,snake,bicycle,cloud,table,train,rabbit,shrew,skyscraper,"
    "lamp,tractor,bear,tulip,otter,bottle,crab,squirrel,lion,kangaroo"
)  # the first 20 of the seed-1993 order of CIFAR-100


def get_config() -> ConfigDict:
    config = defaults()
    config.dataset = "cifar100"
    config.classes = config.scenario.class_order = CLASSES
    config.scenario.update(first_classes=10, classes_per_task=2)
    config.seeds = (0, 1, 2)
    config.variants = ("plain",)
    config.learners = ("finetune", "replay", "lwf", "icarl", "wa", "bic", "der", "joint")
    config.learner_options.der.form = "pycil"
    config.training.update(network="resnet8", epochs=20, schedule="step", milestones=(10, 15))
    config.training.augmentation.update(crop=4, flip=True, brightness=63 / 255)
    config.later_training.update(epochs=15, schedule="step", milestones=(7, 11))
    return config.lock()
