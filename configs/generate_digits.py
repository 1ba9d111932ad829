"""A labelled set of synthetic handwritten digits, by the embedded generator.

    jaxcil generate --config=configs/generate_digits.py --workdir=runs/digits

1,000 images in 35 seconds on two CPU cores. Another model and other names:

    --config.model=FOLDER --config.class_names=cat,dog --config.templates="a photo of a {}"

Known names, all their synonyms, and several guidance scales in turn:

    --config.class_list=imagenet1k --config.synonyms=all --config.templates="a {photo|picture} of a {}"
    --config.guidance_scale=1.5,2,3 --config.negative_prompt="blurry, cropped"
"""

from ml_collections import ConfigDict

from jaxcil.synthesis.drawing.settings import defaults


def get_config() -> ConfigDict:
    config = defaults()
    config.model = "digits"
    config.class_names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    config.templates = ("a handwritten digit {}", "the digit {}", "a scan of the number {}", "{}")
    config.batch_size = 100
    config.shard_size = 200
    return config.lock()
