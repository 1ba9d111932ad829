"""PODNet on ImageNet (Douillard et al., ECCV 2020).

jaxcil run --config=configs/podnet_imagenet.py --workdir=runs/podnet_imagenet

ResNet-18; 90 epochs a task on a cosine from 0.05 and 20 on the exemplars at 0.01, batches of 64. Weight decay 1e-4 on
all of ImageNet.

ImageNet-Subset of LUCIR (that of PODNet and DER: --config.classes=imagenet100_podnet), 50 classes first, 5 per task;
all of ImageNet: --config.classes=none --config.scenario.first_classes=500 --config.scenario.classes_per_task=50 with
--config.memory.per_class=20. Images are streamed; exemplars depend on the seed, so each seed has a workdir. SDDR too:
--config.synthetic.path=SET --config.variants=plain,sddr --config.stream=whole --config.image_size=256 with
--config.training.augmentation.random_resized_crop=True.
"""

from ml_collections import ConfigDict

from jaxcil.experiment.settings import defaults


def get_config() -> ConfigDict:
    config = defaults()
    config.dataset = "imagenet2012"
    config.classes = "imagenet100_lucir"
    config.image_size, config.stream = 224, "random"
    config.seeds = (0,)
    config.variants = ("plain",)
    config.scenario.update(first_classes=50, classes_per_task=5, class_order="lucir")
    config.learners = ("podnet",)
    config.learner_options.podnet.update(flat=10.0, spatial=8.0, balanced_learning_rate=0.01)
    config.learner_options.podnet.update(epochs=90, learning_rate=0.05, batch_size=64)
    config.training.update(network="resnet18_lucir", epochs=90, learning_rate=0.05, batch_size=64)
    config.training.augmentation.update(flip=True, brightness=63 / 255)
    return config.lock()
