"""A labelled set of synthetic handwritten digits, by the embedded generator.

    jaxcil generate --config=configs/generate_digits.py --workdir=runs/digits

1,000 images in 35 seconds on two CPU cores. Another model and other names:

    --config.model=FOLDER --config.class_names=cat,dog --config.templates="a photo of a {}"

Known names, all their synonyms, and several guidance scales in turn:

    --config.class_list=imagenet1k --config.synonyms=all --config.templates="a {photo|picture} of a {}"
    --config.guidance_scale=1.5,2,3 --config.negative_prompt="blurry, cropped"
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    config = ConfigDict()
    # or a folder that holds a Stable Diffusion 1.x or 2.x of diffusers, or OWNER/MODEL on the hub
    config.model = "digits"
    config.revision = config_dict.placeholder(str)  # of OWNER/MODEL: a branch, a tag or a commit
    config.variant = config_dict.placeholder(str)  # the tag in the names of its weights, as fp16
    # of the networks, float32 or bfloat16; None: float32 on a CPU, bfloat16 elsewhere
    config.dtype = config_dict.placeholder(str)
    config.class_names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    # instead of these names cifar10, cifar100, imagenet1k, a file (a class a line) or tfds:BUILDER
    config.class_list = config_dict.placeholder(str)
    config.synonyms = "first"  # of the list's names for a class; or "all", in turn
    config.licence = config_dict.placeholder(str)  # for the card; None: as the model's own card says
    config.templates = ("a handwritten digit {}", "the digit {}", "a scan of the number {}", "{}")
    config.images_per_class = 100
    config.image_size = config_dict.placeholder(int)  # side of the stored images; None keeps the model's own
    config.negative_prompt = ""
    config.guidance_scale = (2.0,)  # several are taken in turn
    config.order = 3
    config.calls = 20
    # a plan.json of `jaxcil calibrate-sampler`, in place of these two
    config.plan = config_dict.placeholder(str)
    config.seed = 0
    config.batch_size = 100
    config.shard_size = 200
    config.format = "png"  # of the stored images; or jpeg, or webp, which older TensorFlow cannot read
    config.quality = config_dict.placeholder(int)  # of jpeg (None: 95) or webp (None: without loss)
    # "0/4": the first of four processes on hosts that do not see each other's locks
    config.share = config_dict.placeholder(str)
    return config.lock()
