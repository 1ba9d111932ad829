"""What synthetic images of CIFAR-10's classes are worth.

jaxcil import-images IMAGES --workdir=runs/set --image_size=32
jaxcil evaluate-synthetic --config=configs/evaluate_cifar10.py --config.dataset=CIFAR10 --config.synthetic=runs/set \
    --workdir=runs/worth

CIFAR10 holds train/CLASS/*.png and test/CLASS/*.png, IMAGES a folder or an archive per class. The judges are
ResNet-8s, which two CPU cores train in about ten minutes each, on 15,000 images; they are no state of the art. With
15,000 images of Stable Diffusion 1.4 (CIFAKE), 15,000 real training and 5,000 test images: 65 % of the synthetic ones
recognised, 69 % of the test images by the judge of real ones; Fréchet distance 0.92, that of real test images 0.011.
"""

from ml_collections import ConfigDict

from jaxcil.evaluation.worth.settings import worth_defaults


def get_config() -> ConfigDict:
    config = worth_defaults()
    config.image_size = 32
    config.judge.update(steps=1600, batch_size=128, crop=4)
    return config
