"""From a config to a finished run: the driver of `jaxcil run`.

A workdir holds

    config.json                  the full config; going on with another is refused
    synthetic/                   the images of the classes to come, unless the config names a data set
    extractors/EXTRACTOR/        the newest training state of all seeds, while they train
    extractors/EXTRACTOR.safetensors  what is frozen of them
    heads/EXTRACTOR-HEAD/        the newest states of a head, while it is at its tasks
    heads/EXTRACTOR-HEAD.json    what was measured of all seeds
    results.json results.csv timing.json report.html accuracy.png
    tensorboard/                 curves of the trainings; they carry times, and nothing reads them

Each is written whole or not at all, and what is there is not done again. So a run that was killed goes on where
it was when the same command is given again, to the same results.
"""

import dataclasses
import importlib.metadata
import json
import pathlib
import platform
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcil import convolution, files, heads, incremental, keys, recipe, saved_extractor
from jaxcil.data import augment, datasets
from jaxcil.data.batches import Part
from jaxcil.errors import InputError, unknown_name
from jaxcil.evaluation import metrics, plots, report, result_writers
from jaxcil.evaluation.classifier import in_batches
from jaxcil.evaluation.finished_runs import SCHEMA
from jaxcil.future_images import AUXILIARY, Auxiliary, auxiliary, select
from jaxcil.learners.fpcil import FPCIL, ExtractorState, Images
from jaxcil.parallel import mesh
from jaxcil.progress import Progress
from jaxcil.run_settings import check, make_head
from jaxcil.scenario import Scenario, check_images, make_scenario
from jaxcil.synthesis import filters
from jaxcil.training import loop
from jaxcil.training.checkpoint import Checkpoints
from jaxcil.training.state import Task
from jaxcil.workdir import Timing, remember_config, remember_data

HELD_OUT_SHARE = 0.1


class Benchmark(NamedTuple):
    """Real images with contiguous labels, and how their classes come."""

    scenario: Scenario
    train: Images
    test: Images


def run(config: Any, workdir: str | pathlib.Path) -> dict[str, Any]:
    """Does what of a run is not done yet, and gives its results.

    Args:
      config: a ConfigDict with the fields of configs/quickstart.py.
      workdir: made if absent.

    Returns:
      What results.json holds.

    Raises:
      InputError: anything in the config that cannot be done, before the first compilation.
    """
    workdir = files.writable_directory(workdir)
    check(config)
    benchmark = load_benchmark(config)
    remember_config(config, workdir)
    remember_data(workdir, real_train=benchmark.train[:2], real_test=benchmark.test[:2])
    extra = None
    timing = Timing(workdir / "timing.json")
    if set(AUXILIARY) & set(config.extractors):
        with timing.of("synthesis"):
            extra = auxiliary(config, benchmark.scenario, _side(benchmark), workdir)
        remember_data(workdir, synthetic=extra[:2])
    learner = make_learner(config, benchmark, extra)
    chunk_program = loop.program(learner.step)
    train_labels = np.asarray(benchmark.train.labels)
    programs = {
        name: incremental.compile_head(make_head(config, name, train_labels)) for name in config.heads
    }
    featurise = jax.jit(lambda variables, images: learner.features(variables, augment.to_float(images)))
    runs = []
    for name in config.extractors:
        with timing.of(f"extractor {name}"):
            states = _train_extractor(config, learner, chunk_program, benchmark, extra, name, workdir)
        with timing.of(f"heads on {name}"):
            runs += _evaluate_heads(config, featurise, states, programs, benchmark, name, workdir)
    results = _results(config, benchmark, runs)
    if extra is not None and config.synthetic.get("filter"):
        results["synthetic_filter"] = filters.summary(config.synthetic.path, config.synthetic.filter)
    plots.accuracy_curves(results, workdir / "accuracy.png", columns=min(3, len(config.heads)))
    report.write_report(workdir, results)
    result_writers.write_results(
        workdir, results, ("csv", "tensorboard", "json")
    )  # the last says that all is there
    return results


def load_benchmark(config: Any) -> Benchmark:
    """The real images of a run, with labels that are positions in the class order."""
    source = (config.image_size, config.data_dir, config.classes)
    train = datasets.load(config.dataset, "train", *source)
    if config.evaluate_on == "held_out":  # to choose settings by, without a look at the test images
        train, test = datasets.hold_out(train, HELD_OUT_SHARE)
    else:
        test = datasets.load(config.dataset, "test", *source)
    if train.class_names != test.class_names:
        raise InputError(
            f"{config.dataset} has other classes for training ({', '.join(train.class_names)}) than for testing "
            f"({', '.join(test.class_names)}); give both splits the same class folders"
        )
    if train.images.shape[1:] != test.images.shape[1:]:
        raise InputError(
            f"training images of {config.dataset} are {_size(train)}, test images {_size(test)}; set image_size"
        )
    scenario = scenario_of(config, train.class_names)
    for split, data in (("train", train), ("test", test)):
        check_images(data.labels, data.class_names, split=split)
    as_images = (
        Images(jnp.asarray(data.images), jnp.asarray(scenario.to_contiguous(data.labels)))
        for data in (train, test)
    )
    return Benchmark(scenario, *as_images)


def scenario_of(config: Any, class_names: tuple[str, ...]) -> Scenario:
    """The tasks of a run."""
    settings = config.scenario
    order = settings.class_order
    if "," in order:
        names = [name.strip() for name in order.split(",")]
        for name in names:
            if name not in class_names:
                raise unknown_name("class name", name, class_names)
        order = [class_names.index(name) for name in names]
    return make_scenario(
        class_names,
        settings.first_classes,
        settings.classes_a_task,
        class_order=order,
        task_sizes=tuple(settings.task_sizes) or None,
    )


def make_learner(config: Any, benchmark: Benchmark, extra: Auxiliary | None) -> FPCIL:
    """The learner of a run, still without future images; its resident data set is real images, then auxiliary ones."""
    data = benchmark.train
    if extra is not None:
        if extra.images.shape[1:] != data.images.shape[1:]:
            raise InputError(
                f"synthetic images are {_size(extra)}, those of {config.dataset} {_size(data)}; "
                "make them of the same size"
            )
        synthetic = jnp.arange(len(data.labels) + len(extra.labels)) >= len(data.labels)
        data = Images(
            jnp.concatenate([data.images, jnp.asarray(extra.images)]),
            jnp.concatenate([data.labels, jnp.asarray(extra.labels)]),
            synthetic,
        )
    first = int((np.asarray(benchmark.train.labels) < benchmark.scenario.task_sizes[0]).sum())
    settings = recipe.training(config.extractor, first_task_images=first)
    return FPCIL(
        data=data,
        future_rows=jnp.full(_room_for_future(config, benchmark, extra), -1, jnp.int32),
        head=heads.ncm(),
        num_classes=benchmark.scenario.num_classes,
        other_classes=0 if extra is None else len(extra.other_classes),
        synthetic_weight=config.future_proof.loss_weight,
        synthetic_augmentation=None if config.future_proof.augment_alike else augment.Augmentation(),
        network=recipe.network(config.extractor, convolution.conv_general_dilated),
        **settings,
    )


def _train_extractor(
    config: Any,
    learner: FPCIL,
    chunk_program: Any,
    benchmark: Benchmark,
    extra: Auxiliary | None,
    name: str,
    workdir: pathlib.Path,
) -> list[Any]:
    """Variables of the trained extractor of every seed."""
    settings, folder = config.extractor, workdir / "extractors" / name
    variables = saved_extractor.load(folder)
    if variables is not None:
        return _of_seeds(variables, len(config.seeds))
    task, learner, labels = _first_task(learner, benchmark, extra, name)
    learner = dataclasses.replace(learner, data=learner.data._replace(labels=labels))
    run_keys = jnp.stack([keys.root_key(seed) for seed in config.seeds])
    with (
        Checkpoints(folder) as checkpoints,
        Progress(f"extractor {name}", learner.steps, "step", scalars=workdir / "tensorboard") as progress,
    ):
        states = loop.train(
            chunk_program,
            loop.begin(_begin, learner, task, run_keys),
            learner.data,
            _parts(config, learner, task, name),
            run_keys,
            steps=learner.steps,
            batch_size=settings.batch_size,
            chunk=settings.chunk,
            checkpoints=checkpoints,
            tell=lambda told: progress.reach(told.done, told.note, told.means),
        )
    variables, _ = learner.frozen(states)
    saved_extractor.save(folder, variables)
    return _of_seeds(variables, len(config.seeds))


def _of_seeds(stacked: Any, seeds: int) -> list[Any]:
    return [jax.tree.map(lambda leaf, n=n: leaf[n], stacked) for n in range(seeds)]


def _parts(config: Any, learner: FPCIL, task: Task, name: str) -> list[Part]:
    """What each batch is made of: one part of all rows, or real first and auxiliary rows in a fixed proportion."""
    first, others = np.asarray(task.rows), np.asarray(learner.future_rows)
    size, share = config.extractor.batch_size, config.future_proof.share
    if share is None or name not in AUXILIARY:
        return [Part(np.concatenate([first, others]), size)]
    other = round(share * size)
    return [Part(first, size - other), Part(others, other)]


def _begin(learner: FPCIL, task: Task, run_keys: jax.Array) -> ExtractorState:
    """Training states of all seeds."""
    example = jnp.zeros((1, *learner.data.images.shape[1:]))
    return jax.vmap(lambda key: learner.begin(learner.init(key, example), task, key))(run_keys)


def _first_task(
    learner: FPCIL, benchmark: Benchmark, extra: Auxiliary | None, name: str
) -> tuple[Task, FPCIL, jax.Array]:
    """Task 0, the learner with the future rows of one extractor, and the labels that it sees."""
    scenario = benchmark.scenario
    real = np.asarray(benchmark.train.labels)
    chosen = select(name, scenario, real, extra)
    seen = jnp.asarray(scenario.new(0))
    task = Task(0, jnp.asarray(np.flatnonzero(scenario.new(0)[real]), jnp.int32), seen, seen)
    padded = np.pad(chosen.rows, (0, len(learner.future_rows) - len(chosen.rows)), constant_values=-1)
    return task, dataclasses.replace(learner, future_rows=jnp.asarray(padded)), jnp.asarray(chosen.labels)


def _evaluate_heads(
    config: Any,
    featurise: Callable[..., jax.Array],
    states: list[Any],
    programs: dict[str, incremental.HeadProgram],
    benchmark: Benchmark,
    name: str,
    workdir: pathlib.Path,
) -> list[dict[str, Any]]:
    """One entry of `runs` for every head and seed; features are computed once for all heads."""
    folder = files.writable_directory(workdir / "heads")
    features: list[incremental.FrozenFeatures] = []
    entries = []
    train_labels, test_labels = np.asarray(benchmark.train.labels), np.asarray(benchmark.test.labels)
    run_keys = [keys.root_key(seed) for seed in config.seeds]
    for method in config.heads:
        path = folder / f"{name}-{method}.json"
        if not path.exists():
            features = features or [
                incremental.FrozenFeatures(
                    *(
                        jnp.asarray(
                            in_batches(
                                lambda images, v=variables: featurise(v, images), np.asarray(data.images)
                            )
                        )
                        for data in (benchmark.train, benchmark.test)
                    )
                )
                for variables in states
            ]
            with Checkpoints(folder / f"{name}-{method}") as checkpoints:
                measured = incremental.learn_tasks(
                    programs[method],
                    features,
                    train_labels,
                    test_labels,
                    benchmark.scenario,
                    run_keys,
                    checkpoints,
                )
            files.write_json(path, incremental.to_json(measured))
        measured = incremental.from_json(files.read_json(path))
        entries += [
            {
                "method": method,
                "extractor": name,
                "seed": seed,
                **_entry(measured, number, _test_images(benchmark)),
            }
            for number, seed in enumerate(config.seeds)
        ]
    return entries


def _entry(measured: incremental.Measured, number: int, sizes: np.ndarray) -> dict[str, Any]:
    """What results.json says of one run."""
    matrix = measured.accuracy_matrix[number]
    return {
        "accuracy_matrix": [
            [value if t <= task else None for t, value in enumerate(row)]
            for task, row in enumerate(matrix.tolist())
        ],
        "average_incremental_accuracy": metrics.average_incremental_accuracy(matrix, sizes),
        "last_accuracy": metrics.last_accuracy(matrix, sizes),
        "forgetting": metrics.forgetting(matrix),
        "backward_transfer": metrics.backward_transfer(matrix),
        "average_incremental_top_5_accuracy": float(measured.top_5_accuracy[number].mean()),
        "last_top_5_accuracy": float(measured.top_5_accuracy[number, -1]),
        "last_calibration_error": float(measured.calibration_error[number, -1]),
    }


def _test_images(benchmark: Benchmark) -> np.ndarray:
    """Number of test images of each task."""
    tasks = benchmark.scenario.task_of_class[np.asarray(benchmark.test.labels)]
    return np.bincount(tasks, minlength=benchmark.scenario.num_tasks)


def _results(config: Any, benchmark: Benchmark, runs: list[dict[str, Any]]) -> dict[str, Any]:
    scenario = benchmark.scenario
    packages = ("jaxcil", "jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn")
    return {
        "schema": SCHEMA,
        "config": json.loads(config.to_json()),
        "versions": {
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in packages},
        },
        "device": mesh.device_kind(),
        "class_order": list(scenario.class_order),
        "class_names": list(scenario.class_names),
        "class_order_hash": scenario.class_order_hash,
        "task_sizes": list(scenario.task_sizes),
        "test_images": _test_images(benchmark).tolist(),
        "conventions": {"average": "images", "forgetting": "up_to_last"},
        "runs": runs,
        "summary": report.summarise(runs),
    }


def _room_for_future(config: Any, benchmark: Benchmark, extra: Auxiliary | None) -> int:
    """The longest list of future rows of any extractor; the others are padded to it."""
    real = np.asarray(benchmark.train.labels)
    return max(1, *(len(select(name, benchmark.scenario, real, extra).rows) for name in config.extractors))


def _side(benchmark: Benchmark) -> int | None:
    height, width = benchmark.train.images.shape[1:3]
    return height if height == width else None


def _size(data: Images | Auxiliary | datasets.ImageSet) -> str:
    return " x ".join(str(side) for side in data.images.shape[1:3])
