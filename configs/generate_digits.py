"""A labelled set of synthetic handwritten digits, by the embedded generator.

    jaxcil generate --config=configs/generate_digits.py --workdir=runs/digits

Another model and other names: --config.model=FOLDER --config.class_names=cat,dog
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.model = "digits"  # or a folder that holds a Stable Diffusion 1.x or 2.x of diffusers
    config.class_names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    config.templates = ("a handwritten digit {}", "the digit {}", "a scan of the number {}", "{}")
    config.images_a_class = 100
    config.guidance_scale = 2.0
    config.order = 3
    config.calls = 20
    config.seed = 0
    config.batch_size = 100
    config.shard_size = 200
    return config.lock()
