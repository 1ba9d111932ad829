"""SDDR on photographs: CIFAR-10, five tasks of two classes, with images of Stable Diffusion 1.4 of the past classes.

jaxcil import-images IMAGES --workdir=runs/set --image_size=32
jaxcil run --config=configs/sddr_cifar10.py --config.dataset=CIFAR10 --config.synthetic.path=runs/set \
    --workdir=runs/sddr_cifar10

IMAGES is a folder or an archive per class (CIFAKE's, say), CIFAR10 holds train/CLASS/*.png and test/CLASS/*.png or
is `cifar10`. In every task a ResNet-8 takes 400 steps of 64 real images; in later ones 32 synthetic images of past
classes come on top, so that plain and sddr have equal steps and equally many real images in each. 20 exemplars of each
class are kept. PODNet adds 20 epochs on them; DER, in PyCIL's form, has a network per task. The upper bound, real_past,
has real images in the place of the synthetic ones.
"""

from ml_collections import ConfigDict

from jaxcil.experiment.settings import defaults


def get_config() -> ConfigDict:
    config = defaults()
    config.dataset = "cifar10"
    config.seeds = (0, 1, 2)
    config.variants = ("plain", "sddr", "real_past")
    config.learners = ("replay", "icarl", "lucir", "podnet", "wa", "der")
    config.learner_options.der.form = "pycil"
    config.training.update(network="resnet8_lucir", steps=400, batch_size=64)
    config.training.augmentation.update(crop=4, flip=True)
    config.later_training.update(steps=400, batch_size=64)
    return config.lock()
