"""LUCIR on ImageNet (Hou et al., CVPR 2019), with the balanced training of its ImageNet script.

jaxcil run --config=configs/lucir_imagenet.py --workdir=runs/lucir_imagenet

ResNet-18; 90 epochs a task, the rate divided by ten at 30 and 60, weight decay 1e-4.

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
    config.learners = ("lucir",)
    config.learner_options.lucir.update(less_forget=10.0, balanced=True, epochs=90, milestones=(30, 60))
    config.learner_options.lucir.weight_decay = 1e-4
    config.training.update(network="resnet18_lucir", epochs=90, schedule="step", milestones=(30, 60))
    config.training.weight_decay = 1e-4
    config.training.augmentation.flip = True
    return config.lock()
