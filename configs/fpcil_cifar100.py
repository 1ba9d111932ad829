"""FPCIL on CIFAR-100: ten equal tasks, with images of Stable Diffusion (Jodelet et al., arXiv:2404.03200).

jaxcil generate --config=configs/generate_stable_diffusion.py --workdir=runs/set --config.class_list=cifar100 \
    --config.model=CompVis/stable-diffusion-v1-4 --config.image_size=32
jaxcil run --config=configs/fpcil_cifar100.py --config.synthetic.path=runs/set --workdir=runs/fpcil_cifar100

The paper's own recipe of the joint training is not public: this is FeCAM's, with the colours and the blur that helped
on CIFAR-10. Steps are those of 200 epochs over the real images of the first task, in every variant.
"""

from ml_collections import ConfigDict

from jaxcil.experiment.settings import defaults


def get_config() -> ConfigDict:
    config = defaults()
    config.dataset = "cifar100"
    config.scenario.update(first_classes=10, classes_per_task=10)
    config.seeds = (0, 1, 2)
    config.variants = ("plain", "future_proof", "real_future", "shuffled_labels", "known_classes")
    config.heads = ("ncm", "fetril", "fecam", "acil")
    config.training.update(network="resnet18", epochs=200)
    config.training.augmentation.update(
        crop=4, flip=True, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, grayscale=0.2, blur=1.0
    )
    return config.lock()
