"""A labelled set of photographs' classes, by Stable Diffusion 1.5 from the Hugging Face hub.

    jaxcil generate --config=configs/generate_stable_diffusion.py --workdir=runs/cifar10

Not run with the released weights, which were not at hand; on a CPU an image of 512 x 512 takes minutes, so draw on a
GPU or a TPU. `jaxcil plan-pod` with this config and --config.model=sd15 says what it takes of a pod.
"""

from ml_collections import ConfigDict, config_dict

from jaxcil.diffusion.hub import DEFAULT_MODEL


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.model = DEFAULT_MODEL  # or a folder, or another OWNER/MODEL on the hub
    config.revision = config_dict.placeholder(str)  # of OWNER/MODEL: a branch, a tag or a commit
    config.variant = config_dict.placeholder(str)  # the tag in the names of its weights, as fp16
    # of the networks, float32 or bfloat16; None: float32 on a CPU, bfloat16 elsewhere
    config.dtype = config_dict.placeholder(str)
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
    # instead of these names cifar10, cifar100, imagenet1k, a file (a class a line) or tfds:BUILDER
    config.class_list = config_dict.placeholder(str)
    config.synonyms = "first"  # of the list's names for a class; or "all", in turn
    config.licence = config_dict.placeholder(str)  # for the card; None: as the model's own card says
    config.templates = (
        "a {photo|picture} of a {}",
        "a good photo of a {}",
        "a close-up photo of a {}",
        "a photo of the {}",
    )
    config.images_per_class = 5000
    config.image_size = 32  # side of the stored images; None keeps the model's own
    config.negative_prompt = ""
    config.guidance_scale = (2.0,)  # several are taken in turn
    config.order = 3
    config.calls = 20
    # a plan.json of `jaxcil calibrate-sampler`, in place of these two
    config.plan = config_dict.placeholder(str)
    config.seed = 0
    config.batch_size = 8
    config.shard_size = 500
    config.format = "png"  # of the stored images; or jpeg, or webp, which older TensorFlow cannot read
    config.quality = config_dict.placeholder(int)  # of jpeg (None: 95) or webp (None: without loss)
    # "0/4": the first of four processes on hosts that do not see each other's locks
    config.share = config_dict.placeholder(str)
    return config.lock()
