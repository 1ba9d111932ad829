"""From a config to a finished run: the driver of `jaxcil run`.

A workdir holds

    config.json                  the full config; going on with another is refused
    synthetic/                   the images of the classes to come, unless the config names a data set
    extractors/EXTRACTOR/        the newest training state of all seeds
    heads/EXTRACTOR-HEAD.json    accuracy matrices of all seeds
    results.json timing.json report.html accuracy.png
    tensorboard/                 curves of the trainings; they carry times, and nothing reads them

Each is written whole or not at all, and what is there is not done again. So a run that was killed goes on where
it was when the same command is given again, to the same results.
"""

import dataclasses
import functools
import importlib.metadata
import json
import pathlib
import platform
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcil import convolution, files, heads, keys
from jaxcil.data import augment, datasets
from jaxcil.errors import InputError, unknown_name
from jaxcil.evaluation import metrics, plots, report
from jaxcil.extractors.resnet_cifar import ResNetCIFAR
from jaxcil.learners.fpcil import FPCIL, ExtractorState, Images
from jaxcil.parallel import mesh
from jaxcil.progress import Progress
from jaxcil.run_settings import GROUPS_CLASSES, HEADS, NETWORKS, check
from jaxcil.scenario import Scenario, check_images, make_scenario
from jaxcil.synthesis import filters
from jaxcil.synthesis.generator import generate_by_name
from jaxcil.training import loop
from jaxcil.training.checkpoint import Checkpoints
from jaxcil.training.optimizer import SGD
from jaxcil.training.state import Task
from jaxcil.workdir import Timing, remember_config, remember_data

HELD_OUT_SHARE = 0.1
SCHEMA = 1


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
    remember_data(workdir, real_train=benchmark.train, real_test=benchmark.test)
    future = None
    timing = Timing(workdir / "timing.json")
    if "future_proof" in config.extractors:
        with timing.of("synthesis"):
            future = synthetic_images(config, benchmark, workdir)
        remember_data(workdir, synthetic=future)
    learner = make_learner(config, benchmark, future)
    chunk_program = loop.program(learner.step)
    runs = []
    for name in config.extractors:
        with timing.of(f"extractor {name}"):
            states = _train_extractor(config, learner, chunk_program, benchmark, name, workdir)
        with timing.of(f"heads on {name}"):
            runs += _evaluate_heads(config, learner, states, benchmark, name, workdir)
    results = _results(config, benchmark.scenario, runs)
    if future is not None and config.synthetic.get("filter"):
        results["synthetic_filter"] = filters.summary(config.synthetic.path, config.synthetic.filter)
    files.write_json(workdir / "results.json", results)
    sizes = _test_images(benchmark).tolist()
    columns = min(3, len(config.heads))
    plots.accuracy_curves(results, workdir / "accuracy.png", columns=columns, test_images=sizes)
    report.write_report(workdir, results, test_images=sizes)
    return results


def load_benchmark(config: Any) -> Benchmark:
    """The real images of a run, with labels that are positions in the class order."""
    train = datasets.load(config.dataset, "train", config.image_size, config.data_dir)
    if config.evaluate_on == "held_out":  # to choose settings by, without a look at the test images
        train, test = datasets.hold_out(train, HELD_OUT_SHARE)
    else:
        test = datasets.load(config.dataset, "test", config.image_size, config.data_dir)
    if train.class_names != test.class_names:
        raise InputError(
            f"{config.dataset} has other classes for training ({', '.join(train.class_names)}) than for testing "
            f"({', '.join(test.class_names)}); give both splits the same class folders"
        )
    if train.images.shape[1:] != test.images.shape[1:]:
        raise InputError(
            f"training images of {config.dataset} are {_size(train)}, test images {_size(test)}; set image_size"
        )
    order = config.scenario.class_order
    if "," in order:
        order = [_position(name.strip(), train.class_names) for name in order.split(",")]
    scenario = make_scenario(
        train.class_names, config.scenario.first_classes, config.scenario.classes_a_task, class_order=order
    )
    for split, data in (("train", train), ("test", test)):
        check_images(data.labels, data.class_names, split=split)
    as_images = (
        Images(jnp.asarray(data.images), jnp.asarray(scenario.to_contiguous(data.labels)))
        for data in (train, test)
    )
    return Benchmark(scenario, *as_images)


def synthetic_images(config: Any, benchmark: Benchmark, workdir: pathlib.Path) -> Images:
    """Synthetic images with contiguous labels, joined to the real classes by name; made if there are none."""
    scenario = benchmark.scenario
    if not _future_classes(scenario):
        raise InputError(
            f"the first task has all {scenario.num_classes} classes, so future_proof has none to come; "
            "make first_classes smaller"
        )
    settings = config.synthetic.to_dict()
    path, filter_name = settings.pop("path"), settings.pop("filter", None)
    if path is None and filter_name is not None:
        raise InputError(
            "synthetic.filter is of a data set that exists; give its folder as synthetic.path, or leave the filter out"
        )
    height, width = benchmark.train.images.shape[1:3]
    if path is None and height != width:
        raise InputError(
            f"images are drawn square, but those of {config.dataset} are {height} x {width}; set image_size"
        )
    directory = workdir / "synthetic" if path is None else pathlib.Path(path)
    if path is None:
        names = tuple(scenario.class_names[label] for label in _future_classes(scenario))
        generate_by_name(directory, names, image_size=height, **settings)
    images, labels, names = filters.read(directory, filter_name)
    positions = np.array([_position(name, scenario.class_names) for name in names], np.int32)
    missing = {scenario.class_names[label] for label in _future_classes(scenario)} - set(names)
    if missing:
        raise InputError(
            f"{directory} has no images of {', '.join(sorted(missing))}, which come after the first task; "
            f"it has {', '.join(names)}"
        )
    return Images(jnp.asarray(images), jnp.asarray(positions[labels]))


def make_learner(config: Any, benchmark: Benchmark, future: Images | None) -> FPCIL:
    """The learner of a run, still without future images; its resident data set is real images, then synthetic."""
    data = benchmark.train
    if future is not None:
        if future.images.shape[1:] != data.images.shape[1:]:
            raise InputError(
                f"synthetic images are {_size(future)}, those of {config.dataset} {_size(data)}; "
                "make them of the same size"
            )
        data = Images(*(jnp.concatenate(pair) for pair in zip(data, future)))
    settings = config.extractor
    return FPCIL(
        data=data,
        future_rows=jnp.full(_room_for_future(config, benchmark, future), -1, jnp.int32),
        head=heads.ncm(),
        optimizer=SGD(settings.learning_rate, settings.weight_decay),
        num_classes=benchmark.scenario.num_classes,
        network=ResNetCIFAR(blocks=NETWORKS[settings.network], convolution=convolution.conv_general_dilated),
        steps=settings.steps,
        shift=settings.shift,
    )


def _train_extractor(
    config: Any,
    learner: FPCIL,
    chunk_program: Any,
    benchmark: Benchmark,
    name: str,
    workdir: pathlib.Path,
) -> ExtractorState:
    """Trained extractors of all seeds, stacked."""
    settings = config.extractor
    task, learner = _first_task(learner, benchmark, name)
    run_keys = jnp.stack([keys.root_key(seed) for seed in config.seeds])
    with (
        Checkpoints(workdir / "extractors" / name) as checkpoints,
        Progress(f"extractor {name}", settings.steps, "step", scalars=workdir / "tensorboard") as progress,
    ):
        return loop.train(
            chunk_program,
            loop.begin(_begin, learner, task, run_keys),
            learner.data,
            np.asarray(learner.training_rows(task)),
            run_keys,
            steps=settings.steps,
            batch_size=settings.batch_size,
            chunk=settings.chunk,
            checkpoints=checkpoints,
            tell=lambda told: progress.reach(told.done, told.note, told.means),
        )


def _begin(learner: FPCIL, task: Task, run_keys: jax.Array) -> ExtractorState:
    """Training states of all seeds."""
    example = jnp.zeros((1, *learner.data.images.shape[1:]))
    return jax.vmap(lambda key: learner.begin(learner.init(key, example), task, key))(run_keys)


@jax.jit
def _features(learner: FPCIL, states: ExtractorState, images: jax.Array) -> jax.Array:
    """Features [seeds, N, D] of uint8 images."""
    return jax.vmap(lambda variables: learner.features(variables, augment.to_float(images)))(states.variables)


@functools.cache
def _head_program(method: str, images_a_class: int) -> tuple[Any, Any, Any]:
    """A head with its two compiled functions over seeds, shared by all extractors."""
    head = HEADS[method](**({"images_a_class": images_a_class} if method in GROUPS_CLASSES else {}))
    update = jax.jit(jax.vmap(head.update, in_axes=(0, 0, None, 0)))
    predict = jax.jit(jax.vmap(lambda state, features: head.scores(state, features).argmax(-1)))
    return head, update, predict


def _first_task(learner: FPCIL, benchmark: Benchmark, name: str) -> tuple[Task, FPCIL]:
    """Task 0, and the learner with the future rows of one extractor."""
    scenario = benchmark.scenario
    labels = np.asarray(learner.data.labels)
    synthetic = np.arange(len(labels)) >= len(benchmark.train.labels)
    future = ~scenario.new(0)[labels]
    rows = {
        "plain": np.zeros(0, np.int32),
        "future_proof": np.flatnonzero(synthetic & future),
        "real_future": np.flatnonzero(~synthetic & future),
    }[name]
    seen = jnp.asarray(scenario.new(0))
    task = Task(0, jnp.asarray(np.flatnonzero(~synthetic & ~future), jnp.int32), seen, seen)
    padded = jnp.asarray(_padded(rows, len(learner.future_rows)))
    return task, dataclasses.replace(learner, future_rows=padded)


def _evaluate_heads(
    config: Any,
    learner: FPCIL,
    states: ExtractorState,
    benchmark: Benchmark,
    name: str,
    workdir: pathlib.Path,
) -> list[dict[str, Any]]:
    """One entry of `runs` for every head and seed; features are computed once for all heads."""
    folder = files.writable_directory(workdir / "heads")
    features = None
    entries = []
    for method in config.heads:
        path = folder / f"{name}-{method}.json"
        if not path.exists():
            if features is None:
                train, test = benchmark.train.images, benchmark.test.images
                features = _features(learner, states, train), _features(learner, states, test)
            matrices = accuracy_matrices(method, *features, benchmark, config.seeds)
            files.write_json(path, matrices)
        sizes = _test_images(benchmark)
        for seed, rows in zip(config.seeds, files.read_json(path)):
            matrix = np.array([[np.nan if value is None else value for value in row] for row in rows])
            entries.append(
                {
                    "method": method,
                    "extractor": name,
                    "seed": seed,
                    "accuracy_matrix": rows,
                    "average_incremental_accuracy": metrics.average_incremental_accuracy(matrix, sizes),
                    "last_accuracy": metrics.last_accuracy(matrix, sizes),
                    "forgetting": metrics.forgetting(matrix),
                }
            )
    return entries


def _test_images(benchmark: Benchmark) -> np.ndarray:
    """Number of test images of each task."""
    tasks = benchmark.scenario.task_of_class[np.asarray(benchmark.test.labels)]
    return np.bincount(tasks, minlength=benchmark.scenario.num_tasks)


def accuracy_matrices(
    method: str, train: jax.Array, test: jax.Array, benchmark: Benchmark, seeds: tuple[int, ...]
) -> list[list[list[float | None]]]:
    """Accuracy [seeds][T][T] of a head that sees one task after the other; None above the diagonal.

    Args:
      method: name of the head.
      train: features [seeds, N, D] of the real training images.
      test: features [seeds, M, D] of the test images.
      benchmark: labels and tasks.
      seeds: one a run.
    """
    scenario = benchmark.scenario
    labels, test_labels = np.asarray(benchmark.train.labels), np.asarray(benchmark.test.labels)
    task_rows = [np.flatnonzero(scenario.new(task)[labels]) for task in range(scenario.num_tasks)]
    room = max(len(rows) for rows in task_rows)  # every task is padded to it, so that update compiles once
    head, update, predict = _head_program(method, int(np.bincount(labels).max()))
    run_keys = jnp.stack([keys.purpose_key(keys.root_key(seed), method) for seed in seeds])
    states = jax.vmap(lambda key: head.init(scenario.num_classes, train.shape[-1], key))(run_keys)
    matrices: list[list[list[float | None]]] = [[] for _ in seeds]
    for task, rows in enumerate(task_rows):
        padded = _padded(rows, room)
        task_labels = jnp.asarray(np.where(padded < 0, -1, labels[padded]))
        task_keys = jax.vmap(lambda key, task=task: keys.fold(key, task))(run_keys)
        states = update(states, train[:, padded], task_labels, task_keys)
        for matrix, predictions in zip(matrices, np.asarray(predict(states, test))):
            row = metrics.task_accuracies(
                predictions, test_labels, scenario.task_of_class, scenario.num_tasks
            )
            matrix.append([float(value) if t <= task else None for t, value in enumerate(row)])
    return matrices


def _results(config: Any, scenario: Scenario, runs: list[dict[str, Any]]) -> dict[str, Any]:
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
        "conventions": {"average": "images", "forgetting": "up_to_last"},
        "runs": runs,
        "summary": report.summarise(runs),
    }


def _future_classes(scenario: Scenario) -> range:
    return range(scenario.task_sizes[0], scenario.num_classes)


def _room_for_future(config: Any, benchmark: Benchmark, future: Images | None) -> int:
    """The longest list of future rows of any extractor; the others are padded to it."""
    first = benchmark.scenario.task_sizes[0]
    counts = [1]
    if "real_future" in config.extractors:
        counts.append(int((benchmark.train.labels >= first).sum()))
    if future is not None:
        counts.append(int((future.labels >= first).sum()))
    return max(counts)


def _position(name: str, class_names: tuple[str, ...]) -> int:
    if name not in class_names:
        raise unknown_name("class name", name, class_names)
    return class_names.index(name)


def _padded(rows: np.ndarray, length: int) -> np.ndarray:
    return np.pad(rows, (0, length - len(rows)), constant_values=-1).astype(np.int32)


def _size(data: Images | datasets.ImageSet) -> str:
    return " x ".join(str(side) for side in data.images.shape[1:3])
