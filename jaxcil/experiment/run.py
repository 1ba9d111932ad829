"""From a config to a finished run: the driver of `jaxcil run`.

A workdir holds

    config.json                  the full config; going on with another is refused
    synthetic/                   the images of the classes to come, unless the config names a data set
    extractors/EXTRACTOR/        the newest training state of all seeds, while they train
    extractors/EXTRACTOR.safetensors  what is frozen of them
    heads/EXTRACTOR-HEAD/        the newest states of a head, while it is at its tasks
    heads/EXTRACTOR-HEAD.json    what was measured of all seeds
    results.json results.csv confusion.npz timing.json report.html accuracy.png
    tensorboard/                 curves of the trainings; they carry times, and nothing reads them

Each is written whole or not at all, and what is there is not done again. So a run that was killed goes on where
it was when the same command is given again, to the same results.
"""

import functools
import importlib.metadata
import io
import json
import pathlib
import platform
import shutil
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxcil import keys
from jaxcil.data.augmentation import augmentation
from jaxcil.evaluation import metrics
from jaxcil.evaluation.reports import curves, report
from jaxcil.evaluation.reports import results as result_writers
from jaxcil.evaluation.reports.finished_runs import SCHEMA
from jaxcil.experiment import benchmark as real_images
from jaxcil.experiment import reading
from jaxcil.experiment.auxiliary import AUXILIARY, auxiliary
from jaxcil.experiment.benchmark import Benchmark, Split, load_benchmark
from jaxcil.experiment.lanes import make_learner, train_extractor
from jaxcil.experiment.settings import check
from jaxcil.extractors.saved import Frozen
from jaxcil.heads.by_name import make_head
from jaxcil.learners.fpcil import FPCIL
from jaxcil.parallel import mesh
from jaxcil.synthesis.dataset import filters
from jaxcil.training import loop
from jaxcil.training.checkpoint import Checkpoints
from jaxcil.workdir import files
from jaxcil.workdir.record import Timing, pin_config, pin_data

STREAMED_SAMPLE = 64  # images of a streamed set that its checksum is over


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
    augmentation.Augmentation(**config.extractor.augmentation).check_shape(benchmark.shape)
    mesh.training_mesh(
        len(config.seeds), batch_size=config.extractor.batch_size
    )  # refuses what does not divide
    pin_config(config, workdir)
    pin_data(workdir, real_train=_seen(benchmark.train), real_test=_seen(benchmark.test))
    extra = None
    timing = Timing(workdir / "timing.json")
    if set(AUXILIARY) & set(config.extractors):
        with timing.of("synthesis"):
            extra = auxiliary(config, benchmark.scenario, benchmark.shape, workdir)
        pin_data(workdir, synthetic=extra[:2])
    learner = make_learner(config, benchmark, extra)
    chunk_program = loop.program(learner.step)
    programs = {
        name: reading.compile_head(
            make_head(name, benchmark.train.labels, **config.head_options.get(name, {}))
        )
        for name in config.heads
    }
    featurise = jax.jit(lambda variables, images: learner.features(variables, augmentation.to_float(images)))
    runs = []
    for name in config.extractors:
        with timing.of(f"extractor {name}"):
            extractors = train_extractor(config, learner, chunk_program, benchmark, extra, name, workdir)
        with timing.of(f"heads on {name}"):
            runs += _evaluate_heads(
                config, learner, featurise, extractors, programs, benchmark, name, workdir
            )
    results = _results(config, benchmark, runs)
    if extra is not None and config.synthetic.get("filter"):
        results["synthetic_filter"] = filters.summary(config.synthetic.path, config.synthetic.filter)
    _write_confusion(config, workdir)
    curves.accuracy_curves(results, workdir / "accuracy.png", columns=min(3, len(config.heads)))
    report.write_report(workdir, results)
    # the last one says that all is there
    result_writers.write_results(workdir, results, ("csv", "tensorboard", "json"))
    return results


def _evaluate_heads(
    config: Any,
    learner: FPCIL,
    featurise: Callable[..., jax.Array],
    extractors: list[Frozen],
    programs: dict[str, reading.HeadProgram],
    benchmark: Benchmark,
    name: str,
    workdir: pathlib.Path,
) -> list[dict[str, Any]]:
    """One entry of `runs` for every head and seed; features are computed once for all heads."""
    folder = files.writable_directory(workdir / "heads")
    features: list[reading.FrozenFeatures] = []
    first_scores: list[np.ndarray] = []
    entries = []
    run_keys = [keys.root_key(seed) for seed in config.seeds]
    for method in config.heads:
        path = folder / f"{name}-{method}.json"
        if not path.exists():
            if not features:
                features = [_features(featurise, one.network, benchmark) for one in extractors]
                first_scores = [
                    _first_scores(learner, one.classifier, seen.test, benchmark)
                    for one, seen in zip(extractors, features)
                ]
            with Checkpoints(folder / f"{name}-{method}") as checkpoints:
                measured = reading.learn_tasks(
                    programs[method],
                    features,
                    benchmark.train.labels,
                    benchmark.test.labels,
                    benchmark.scenario,
                    run_keys,
                    checkpoints,
                    first_scores,
                )
            files.write_json(path, reading.to_json(measured))
        shutil.rmtree(folder / f"{name}-{method}", ignore_errors=True)  # gigabytes, for large buffers
        measured = reading.from_json(files.read_json(path))
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


def _features(
    featurise: Callable[..., jax.Array], variables: Any, benchmark: Benchmark
) -> reading.FrozenFeatures:
    variables = mesh.place(variables, mesh.everywhere(mesh.generation_mesh()))
    train, test = (
        real_images.features(functools.partial(featurise, variables), split, benchmark.shape[0])
        for split in (benchmark.train, benchmark.test)
    )
    return reading.FrozenFeatures(train, test)


def _first_scores(learner: FPCIL, classifier: Any, test: jax.Array, benchmark: Benchmark) -> np.ndarray:
    """How the first training's own classifier scores the first task's test images, [m, c]."""
    first = benchmark.scenario.task_sizes[0]
    return np.asarray(learner.classifier.logits(classifier, test[benchmark.test.labels < first])[:, :first])


def _entry(measured: reading.Measured, number: int, sizes: np.ndarray) -> dict[str, Any]:
    """What results.json says of one run."""
    matrix, error = measured.accuracy_matrix[number], measured.calibration_error[number, -1]
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
        "top_5_accuracy": measured.top_5_accuracy[number].tolist(),
        "last_calibration_error": None if np.isnan(error) else float(error),
    }


def _test_images(benchmark: Benchmark) -> np.ndarray:
    """Number of test images of each task."""
    tasks = benchmark.scenario.task_of_class[benchmark.test.labels]
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


def _write_confusion(config: Any, workdir: pathlib.Path) -> None:
    """Confusion matrices after the last task, [seeds, C, C] with true classes in rows, by extractor and head."""
    buffer = io.BytesIO()
    names = [f"{extractor}-{head}" for extractor in config.extractors for head in config.heads]
    read = {name: reading.from_json(files.read_json(workdir / "heads" / f"{name}.json")) for name in names}
    np.savez_compressed(buffer, **{name: measured.confusion for name, measured in read.items()})  # type: ignore[arg-type]
    files.write(workdir / "confusion.npz", buffer.getvalue())


def _seen(split: Split) -> tuple[np.ndarray, ...]:
    """What tells a split from another: its labels and images; of images that are streamed, some."""
    if split.images is not None:
        return split.images, split.labels
    rows = np.linspace(0, len(split.labels) - 1, STREAMED_SAMPLE, dtype=np.int64)
    return split.labels, *(np.frombuffer(split.records.read(int(row)), np.uint8) for row in rows)  # type: ignore[union-attr]
