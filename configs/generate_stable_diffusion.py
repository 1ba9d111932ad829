"""A labelled set of photographs' classes, by Stable Diffusion 1.5 from the Hugging Face hub.

    jaxcil generate --config=configs/generate_stable_diffusion.py --workdir=runs/cifar10

Not run with the released weights, which were not at hand. On a CPU an image of 512 x 512 takes minutes, so draw on a
GPU or a TPU. `jaxcil plan-pod` with this config and --config.model=sd15 reports what it takes on a pod.
"""

from ml_collections import ConfigDict

from jaxcil.diffusion.hub import DEFAULT_MODEL
from jaxcil.synthesis.drawing.settings import defaults


def get_config() -> ConfigDict:
    config = defaults()
    config.model = DEFAULT_MODEL
    config.class_names = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )
    config.templates = (
        "a {photo|picture} of a {}",
        "a good photo of a {}",
        "a close-up photo of a {}",
        "a photo of the {}",
    )
    config.images_per_class = 5000
    config.image_size = 32
    config.shard_size = 500
    return config.lock()
