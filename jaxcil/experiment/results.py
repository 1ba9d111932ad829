"""What a finished run leaves for others to read: results.json, tables, pictures and a page."""

import importlib.metadata
import io
import pathlib
import platform
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxcil.evaluation import metrics
from jaxcil.evaluation.reports import results as reported
from jaxcil.evaluation.reports.confusion import confusion_name
from jaxcil.evaluation.reports.finished_runs import SCHEMA
from jaxcil.experiment.auxiliary import AuxiliaryImages
from jaxcil.experiment.benchmark import Benchmark
from jaxcil.experiment.lanes import Lane
from jaxcil.experiment.pool import ImagePool
from jaxcil.experiment.reading import Measurements
from jaxcil.experiment.variants import VARIANTS
from jaxcil.parallel import mesh
from jaxcil.synthesis.dataset.contact_sheet import SHEET_COLUMNS, contact_sheet
from jaxcil.training.learner import whole
from jaxcil.workdir import files, record

PACKAGES = ("jaxcil", "jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn")
Measured = Mapping[
    Lane, Mapping[str, Mapping[int, tuple[Measurements, int]]]
]  # reading -> seed -> and its place


def results(
    config: dict[str, Any], benchmark: Benchmark, seeds: tuple[int, ...], measured: Measured
) -> dict[str, Any]:
    """The content of results.json, schema 2.

    Args:
      config: of the run, as config.json has it.
      benchmark: the real images.
      seeds: in the order of the config.
      measured: of every lane, reading and seed, the measurements of the seed's group and its place in them.
    """
    sizes, scenario = test_images(benchmark), benchmark.scenario
    runs = [
        {
            "learner": lane.learner,
            "reading": name,
            "variant": lane.variant,
            "seed": seed,
            **_entry(*of_reading[seed], sizes),
        }
        for lane, readings in measured.items()
        for name, of_reading in readings.items()
        for seed in seeds
    ]
    return {
        "schema": SCHEMA,
        "config": config,
        "versions": {
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in PACKAGES},
        },
        "device": mesh.device_kind(),
        "class_order": list(scenario.class_order),
        "class_names": list(scenario.class_names),
        "class_order_hash": scenario.class_order_hash,
        "task_sizes": list(scenario.task_sizes),
        "test_images": sizes.tolist(),
        "conventions": {"average": "images", "forgetting": "up_to_last"},
        "runs": runs,
        "summary": reported.summarise(runs),
    }


def test_images(benchmark: Benchmark) -> np.ndarray:
    """Number of test images of each task."""
    tasks = benchmark.scenario.task_of_class[benchmark.test.labels]
    return np.bincount(tasks, minlength=benchmark.scenario.num_tasks)


def write_confusion(workdir: pathlib.Path, seeds: tuple[int, ...], measured: Measured) -> None:
    """Writes confusion.npz: matrices after the last task, [seeds, C, C], true classes in rows, by lane and reading."""
    matrices = {
        confusion_name(lane.variant, lane.learner, name): np.stack(
            [of_reading[seed][0].confusion[of_reading[seed][1]] for seed in seeds]
        )
        for lane, readings in measured.items()
        for name, of_reading in readings.items()
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **matrices)  # type: ignore[arg-type]
    files.write(workdir / "confusion.npz", buffer.getvalue())


def write_auxiliary(
    workdir: pathlib.Path, lanes: list[Lane], pool: ImagePool, auxiliary: AuxiliaryImages
) -> None:
    """Writes which auxiliary images the variants were trained on: counts in auxiliary.json, some in auxiliary.png."""
    names = (*pool.benchmark.scenario.class_names, *auxiliary.other_classes)
    real, counts, shown = len(pool.labels.real), {}, np.zeros(0, np.int64)
    for variant in dict.fromkeys(lane.variant for lane in lanes):
        rows = np.concatenate([whole(task.auxiliary) for task in pool.tasks(VARIANTS[variant])])
        if not VARIANTS[variant].needs:
            continue
        rows = np.unique(rows) - real
        shown = np.union1d(shown, rows)
        of_class = np.bincount(auxiliary.labels[rows], minlength=len(names))
        counts[variant] = {name: int(count) for name, count in zip(names, of_class) if count}
    source = pathlib.PurePath(auxiliary.source)
    if source.is_relative_to(workdir):  # a set drawn here, wherever here is
        source = source.relative_to(workdir)
    record.write_checked_json(workdir / "auxiliary.json", {"source": str(source), "variants": counts})
    present = np.unique(auxiliary.labels[shown])
    rows = np.concatenate([shown[auxiliary.labels[shown] == label][:SHEET_COLUMNS] for label in present])
    contact_sheet(
        auxiliary.images[rows],
        np.searchsorted(present, auxiliary.labels[rows]),
        [names[label] for label in present],
        workdir / "auxiliary.png",
        columns=SHEET_COLUMNS,
    )


def _entry(measured: Measurements, number: int, sizes: np.ndarray) -> dict[str, Any]:
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
