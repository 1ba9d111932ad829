"""The first training of a run: one extractor of FPCIL's family for all seeds, with checkpoints."""

import dataclasses
import pathlib
import shutil
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxcil import convolution, heads, keys
from jaxcil.data.augmentation import augmentation
from jaxcil.data.batches import Part
from jaxcil.errors import InputError
from jaxcil.experiment import benchmark as real_images
from jaxcil.experiment import recipe
from jaxcil.experiment.auxiliary import AUXILIARY, Auxiliary, select
from jaxcil.experiment.benchmark import Benchmark
from jaxcil.extractors import saved
from jaxcil.extractors.by_name import make_network
from jaxcil.extractors.saved import Frozen
from jaxcil.learners.fpcil import FPCIL, ExtractorState, Images
from jaxcil.parallel import mesh as meshes
from jaxcil.training import loop
from jaxcil.training.checkpoint import Checkpoints
from jaxcil.training.learner import Task
from jaxcil.workdir.progress import Progress


def make_learner(config: Any, benchmark: Benchmark, extra: Auxiliary | None) -> FPCIL:
    """The learner of a run, still without future images; its resident data set is real images, then auxiliary ones.

    Where real images are streamed, a single black image stands in for all: what is trained on comes otherwise.
    """
    labels = jnp.asarray(benchmark.train.labels)
    if benchmark.train.images is None:
        data = Images(jnp.zeros((1, *benchmark.shape, 3), jnp.uint8), labels)
    else:
        data = Images(jnp.asarray(benchmark.train.images), labels)
    if extra is not None:
        if extra.images.shape[1:3] != benchmark.shape:
            sizes = [" x ".join(map(str, shape)) for shape in (extra.images.shape[1:3], benchmark.shape)]
            raise InputError(
                f"synthetic images are {sizes[0]}, those of {config.dataset} {sizes[1]}; make them of the same size"
            )
        if benchmark.train.images is not None:
            data = data._replace(images=jnp.concatenate([data.images, jnp.asarray(extra.images)]))
        synthetic = jnp.arange(len(labels) + len(extra.labels)) >= len(labels)
        data = Images(data.images, jnp.concatenate([labels, jnp.asarray(extra.labels)]), synthetic)
    first = int((benchmark.train.labels < benchmark.scenario.task_sizes[0]).sum())
    chosen = [select(name, benchmark.scenario, benchmark.train.labels, extra) for name in config.extractors]
    room = max(
        1, *(len(selection.rows) for selection in chosen)
    )  # shorter lists of future rows are padded to it
    return FPCIL(
        data=data,
        future_rows=jnp.full(room, -1, jnp.int32),
        head=heads.ncm(),
        num_classes=benchmark.scenario.num_classes,
        other_classes=0 if extra is None else len(extra.other_classes),
        synthetic_weight=config.future_proof.loss_weight,
        synthetic_augmentation=None if config.future_proof.augment_alike else augmentation.Augmentation(),
        network=make_network(
            config.extractor.network, config.extractor.dtype, convolution.conv_general_dilated
        ),
        **recipe.training(config.extractor, first_task_images=first),
    )


def train_extractor(
    config: Any,
    learner: FPCIL,
    chunk_program: Callable[..., Any],
    benchmark: Benchmark,
    extra: Auxiliary | None,
    name: str,
    workdir: pathlib.Path,
) -> list[Frozen]:
    """The frozen extractor of every seed; what was trained before is read.

    Args:
      config: of the run.
      learner: from `make_learner`.
      chunk_program: of the learner's step, the same for all extractors.
      benchmark: the real images.
      extra: the auxiliary images, if any extractor needs them.
      name: of the extractor.
      workdir: of the run; states are kept in extractors/NAME, the end in extractors/NAME.safetensors.
    """
    settings, folder = config.extractor, workdir / "extractors" / name
    frozen = saved.load(folder)
    if frozen is None:
        task, learner = _first_task(learner, benchmark, extra, name)
        parts = _parts(config, learner, task, name)
        run_keys = jnp.stack([keys.root_key(seed) for seed in config.seeds])
        data: Any = learner.data
        mesh = meshes.training_mesh(
            len(run_keys), batch_size=settings.batch_size, resident=data.images.nbytes
        )
        if benchmark.train.images is None:
            labels = np.asarray(learner.data.labels[len(benchmark.train.labels) :])
            shown = extra and extra._replace(labels=labels)  # shuffled, for one control
            places = meshes.places_here(mesh, settings.batch_size)
            data = real_images.streamed(benchmark, shown, parts, learner.steps, config.stream, places)
        with (
            Checkpoints(folder) as checkpoints,
            Progress(
                f"extractor {name}",
                learner.steps,
                "step",
                checkpoints.done,
                scalars=workdir / "tensorboard",
            ) as progress,
        ):
            states = loop.train(
                chunk_program,
                loop.begin(_begin, learner, task, run_keys),
                data,
                parts,
                run_keys,
                steps=learner.steps,
                batch_size=settings.batch_size,
                chunk=settings.chunk,
                mesh=mesh,
                checkpoints=checkpoints,
                tell=lambda told: progress.reach(told.done, told.note, told.means),
            )
        saved.save(folder, Frozen(*learner.frozen(states)))
        # as a later call would have it: on one device, whatever devices it was trained on
        frozen = cast(Frozen, saved.load(folder))
    shutil.rmtree(folder, ignore_errors=True)
    return [jax.tree.map(lambda leaf, n=n: leaf[n], frozen) for n in range(len(config.seeds))]


def _first_task(
    learner: FPCIL, benchmark: Benchmark, extra: Auxiliary | None, name: str
) -> tuple[Task, FPCIL]:
    """Task 0, and the learner with the future rows and the labels of one extractor."""
    scenario, real = benchmark.scenario, benchmark.train.labels
    chosen = select(name, scenario, real, extra)
    seen = jnp.asarray(scenario.new(0))
    task = Task(0, jnp.asarray(np.flatnonzero(scenario.new(0)[real]), jnp.int32), seen, seen)
    padded = np.pad(chosen.rows, (0, len(learner.future_rows) - len(chosen.rows)), constant_values=-1)
    data = learner.data._replace(labels=jnp.asarray(chosen.labels))
    return task, dataclasses.replace(learner, data=data, future_rows=jnp.asarray(padded))


def _parts(config: Any, learner: FPCIL, task: Task, name: str) -> list[Part]:
    """What each batch is made of: one part of all rows, or real first and auxiliary rows in a fixed proportion.

    The bound takes its real images as they come, whatever share auxiliary ones have.
    """
    first, others = np.asarray(task.rows), np.asarray(learner.future_rows)
    size, share = config.extractor.batch_size, config.future_proof.share
    if (
        name in AUXILIARY and share is None and config.stream is not None
    ):  # real and auxiliary rows come from different places
        share = (others >= 0).sum() / (len(first) + (others >= 0).sum())
    if share is None or name not in AUXILIARY:
        return [Part(np.concatenate([first, others]), size)]
    other = min(max(1, round(share * size)), size - 1)
    return [Part(first, size - other), Part(others, other)]


def _begin(learner: FPCIL, task: Task, run_keys: jax.Array) -> ExtractorState:
    """Training states of all seeds."""
    example = jnp.zeros((1, *learner.data.images.shape[1:]))
    return jax.vmap(lambda key: learner.begin(learner.init(key, example), task, key))(run_keys)
