"""FPCIL on handwritten digits, 2 classes first and 2 a task, with the embedded generator.

jaxcil run --config=configs/quickstart.py --workdir=runs/quickstart
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.dataset = "digits"  # or a folder that holds train/CLASS/*.png and test/CLASS/*.png
    config.data_dir = config_dict.placeholder(str)
    config.image_size = config_dict.placeholder(int)
    config.evaluate_on = "test"
    config.scenario = dict(first_classes=2, classes_a_task=2, class_order="seed-1993")
    config.seeds = (0, 1, 2, 3, 4)
    config.extractors = ("plain", "future_proof", "real_future")
    config.heads = ("ncm", "fetril", "fecam")
    config.extractor = dict(
        network="resnet8", steps=300, batch_size=64, learning_rate=0.1, weight_decay=5e-4, shift=1, chunk=100
    )
    config.synthetic = dict(
        path=config_dict.placeholder(str),  # a data set of `jaxcil generate`; None makes one
        filter=config_dict.placeholder(str),  # of that data set: only images that it keeps
        model="digits",
        templates=("a handwritten digit {}", "the digit {}", "a scan of the number {}", "{}"),
        images_a_class=200,
        guidance_scale=2.0,
        order=3,
        calls=20,
        seed=0,
        batch_size=100,
        shard_size=200,
    )
    return config.lock()
