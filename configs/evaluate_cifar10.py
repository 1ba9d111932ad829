"""What synthetic images of CIFAR-10's classes are worth.

jaxcil import-images IMAGES --workdir=runs/set --image_size=32
jaxcil evaluate-synthetic --config=configs/evaluate_cifar10.py --config.dataset=CIFAR10 --config.synthetic=runs/set \
    --workdir=runs/worth

CIFAR10 holds train/CLASS/*.png and test/CLASS/*.png, IMAGES a folder or an archive a class. The judges are ResNet-8s,
which two CPU cores train in some ten minutes each, on 15,000 images; they are no state of the art. With 15,000 images
of Stable Diffusion 1.4 (CIFAKE) beside 15,000 real training and 5,000 test images: 65 % of the synthetic ones
recognised, 69 % of the test images by the judge of real ones; Fréchet distance 0.92, that of real test images 0.011.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.synthetic = config_dict.placeholder(str)  # a set that `generate` or `import-images` wrote
    config.filter = config_dict.placeholder(str)  # of `jaxcil filter`: evaluates what it keeps
    config.dataset = config_dict.placeholder(str)
    config.data_dir = config_dict.placeholder(str)
    config.image_size = 32
    config.seen = "train"  # what copies are looked for in
    config.extractor = config_dict.placeholder(
        str
    )  # RUN/extractors/NAME; None takes the classifier of real images
    config.near = 8.0  # grey levels, root mean square: images this close are near-duplicates
    config.judge = dict(
        blocks=1, steps=1600, batch_size=128, learning_rate=0.1, weight_decay=5e-4, shift=4, seed=0
    )
    return config.lock()
