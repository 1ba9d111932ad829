"""A labelled set of synthetic handwritten digits, by the embedded generator.

    jaxcil generate --config=configs/generate_digits.py --workdir=runs/digits

1,000 images in 35 seconds on two CPU cores. Another model and other names:

    --config.model=FOLDER --config.class_names=cat,dog --config.templates="a photo of a {}"
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.model = "digits"  # or a folder that holds a Stable Diffusion 1.x or 2.x of diffusers
    config.class_names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    config.templates = ("a handwritten digit {}", "the digit {}", "a scan of the number {}", "{}")
    config.images_a_class = 100
    config.image_size = config_dict.placeholder(int)  # side of the stored images; None keeps the model's own
    config.guidance_scale = 2.0
    config.order = 3
    config.calls = 20
    config.plan = config_dict.placeholder(
        str
    )  # a plan.json of `jaxcil calibrate-sampler`, in place of these two
    config.seed = 0
    config.batch_size = 100
    config.shard_size = 200
    return config.lock()
