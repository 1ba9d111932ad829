"""A run that trains in seconds, for tests of learners; the fixture `small_run` gives one to all tests of a process.

Three tasks of two classes each, eight images of 8 x 8 pixels per class, and auxiliary images after them.
"""

import functools

import flax.linen as nn
import jax
import numpy as np

from jaxcil import convolution, keys
from jaxcil.data.augmentation.augmentation import Augmentation
from jaxcil.data.scenario import make_scenario
from jaxcil.experiment.auxiliary import AuxiliaryImages
from jaxcil.experiment.benchmark import Benchmark, Split
from jaxcil.experiment.fields import LaterTrainingSettings, MemorySettings
from jaxcil.experiment.pool import ImagePool
from jaxcil.experiment.variants import VARIANTS
from jaxcil.extractors.output_layer import Linear
from jaxcil.heads import ncm
from jaxcil.training import tasks
from jaxcil.training.learner import Setup
from jaxcil.training.optimizer import sgd

CLASSES, PER_CLASS, SIDE = 6, 8, 8
TASK_SIZES = (2, 2, 2)


class OneConvolution(nn.Module):
    """The least network that has what an extractor has: a trained convolution, batch statistics and a sown map."""

    @nn.compact
    def __call__(self, images, train=False):
        convolve = nn.Conv(
            6, (3, 3), (2, 2), use_bias=False, conv_general_dilated=convolution.conv_general_dilated
        )
        maps = nn.relu(nn.BatchNorm(not train, momentum=0.9)(convolve(images)))
        self.sow("intermediates", "stage_1", maps)
        return maps.mean((1, 2))


class Kept:
    """A store in memory, of all states that were saved; resumes from the newest."""

    def __init__(self, saved=()):
        self.saved = list(saved)  # (number, tree, cursor)

    def save(self, number, tree, cursor=None):
        self.saved.append((number, jax.tree.map(np.asarray, tree), cursor))

    def resume(self, like):
        if not self.saved:
            return None
        number, tree, cursor = self.saved[-1]
        expected = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), like(cursor))
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) == expected
        return number, tree, cursor


class SmallRun:
    """Settings, images and compiled programs."""

    classes = CLASSES

    def __init__(self):
        self.programs = {}

    def setup(self, **changes):
        """What a maker of learners takes."""
        setup = Setup(
            num_classes=CLASSES,
            other_classes=0,
            task_sizes=TASK_SIZES,
            image_shape=(SIDE, SIDE),
            images_per_class=PER_CLASS,
            network=OneConvolution(),
            output_layer=Linear(),
            optimizer=sgd(0.05, 5e-4),
            steps=3,
            batch_size=7,  # four devices do not divide it, so that a run trains on one
            augmentation=Augmentation(),
            label_smoothing=None,
            average_decay=None,
            heads={"ncm": ncm()},
            later_training=LaterTrainingSettings(steps=2, learning_rate=0.05),
            memory=MemorySettings(per_class=3),
        )
        return setup._replace(**changes)

    def store(self, saved=()):
        """A store in memory."""
        return Kept(saved)

    def pool(self, auxiliary=()):
        """The images, with auxiliary ones of these labels."""
        return image_pool(auxiliary)

    def tasks(self, auxiliary=(), variant="future_proof"):
        """The tasks as a variant sees them; by default the first one has the auxiliary rows of classes to come."""
        return self.pool(auxiliary).tasks(VARIANTS[variant])

    def states(self, learner, seeds=(0,)):
        """Before the first task."""
        return tasks.initial_states(learner, [keys.root_key(seed) for seed in seeds], (SIDE, SIDE))

    def learn(
        self,
        learner,
        auxiliary=(),
        *,
        seeds=(0,),
        count=3,
        surroundings=None,
        variant="future_proof",
        **options,
    ):
        """The states of all runs after some tasks, and what was measured.

        Args:
          learner: of any kind.
          auxiliary: labels of auxiliary images.
          seeds: of the runs.
          count: of tasks.
          surroundings: None: one that shares its programs.
          variant: whose tasks.
          options: of `tasks.learn`.
        """
        return tasks.learn(
            learner,
            self.states(learner, seeds),
            self.tasks(auxiliary, variant)[:count],
            self.pool(auxiliary),
            [keys.root_key(seed) for seed in seeds],
            surroundings or tasks.Surroundings(chunk=2, programs=self.programs),
            **options,
        )


def noise(seed, labels):
    """Images uint8 [N, H, W, 3], somewhat brighter for every further label."""
    pixels = np.random.default_rng(seed).integers(0, 200, (len(labels), SIDE, SIDE, 3))
    return (pixels + 10 * labels[:, None, None, None]).astype(np.uint8)


@functools.cache
def image_pool(auxiliary):
    names = [f"class {n}" for n in range(CLASSES)]
    scenario = make_scenario(names, class_order="label-order", task_sizes=TASK_SIZES)
    labels = np.tile(np.arange(CLASSES, dtype=np.int32), PER_CLASS)
    train, test = Split(labels, noise(0, labels)), Split(labels, noise(1, labels))
    others = np.array(auxiliary, np.int32)
    added = AuxiliaryImages(noise(2, np.zeros_like(others)), others, (), "noise")
    return ImagePool(Benchmark(scenario, train, test, (SIDE, SIDE)), added)
