"""FPCIL on photographs: CIFAR-10, 2 classes first and 2 per task, with images of Stable Diffusion 1.4.

jaxcil import-images IMAGES --workdir=runs/set --image_size=32
jaxcil run --config=configs/fpcil_cifar10.py --config.dataset=CIFAR10 --config.synthetic.path=runs/set \
    --workdir=runs/fpcil_cifar10

IMAGES is a folder or an archive per class (CIFAKE's, say), CIFAR10 holds train/CLASS/*.png and test/CLASS/*.png or
is `cifar10`. A ResNet-8 and 1,600 steps of 64 images: what two CPU cores train in one to two minutes a network. The
settings were chosen on a held-out tenth of the training images (--config.evaluate_on=held_out), with another seed and
class order than are to be reported.
"""

from ml_collections import ConfigDict

from jaxcil.experiment.settings import defaults
from jaxcil.heads.by_name import HEADS


def get_config() -> ConfigDict:
    config = defaults()
    config.dataset = "cifar10"
    config.seeds = (0, 1, 2)
    config.variants = ("plain", "future_proof", "real_future")
    config.heads = tuple(HEADS)
    config.head_options.acil.buffer_size = config.head_options.ds_al.buffer_size = 2048
    config.head_options.ranpac.projection_size = 1000
    config.training.update(network="resnet8", steps=1600, batch_size=64, warmup=160, nesterov=True)
    # synthetic images are more saturated and sharper than photographs
    config.training.augmentation.update(
        crop=4, flip=True, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, grayscale=0.2, blur=1.0
    )
    return config.lock()
