"""Which images of a set of synthetic digits a classifier of real digits recognises.

jaxcil generate --config=configs/generate_digits.py --workdir=runs/digits
jaxcil filter runs/digits --config=configs/filter_digits.py --name=recognised
jaxcil run --config=quickstart --config.synthetic.path=runs/digits --config.synthetic.filter=recognised --workdir=RUN

The first keeps 600 of 600 images that were drawn at guidance 2, and 130 of 300 at guidance 0.4 with 8 calls.
The four fifths of each class that look most like it: --config.keep=top --config.share=0.8 --name=best
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.keep = "recognised"  # or "top": the share of each class with the highest score
    config.share = config_dict.placeholder(float)
    config.score = "probability"  # of the own label; or "margin", to the next class
    config.dataset = "digits"  # real images; or a folder that holds SPLIT/CLASS/*.png
    config.split = "train"
    config.data_dir = config_dict.placeholder(str)
    config.image_size = config_dict.placeholder(int)
    config.extractor = config_dict.placeholder(
        str
    )  # RUN/extractors/NAME of a `jaxcil run`; None trains one by judge
    config.head = "linear"  # the trained network's own; or a head on the features: ncm, fetril, fecam
    config.judge = dict(
        blocks=1, steps=600, batch_size=64, learning_rate=0.1, weight_decay=5e-4, shift=1, seed=0
    )
    return config.lock()
