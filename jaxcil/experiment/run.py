"""From settings to a finished run: the driver of `jaxcil run`.

A workdir holds

    config.json                  the full config
    seeds.json                   which seeds were trained next to each other
    real_train.json ...          checksums of the data
    synthetic/                   the images of the classes to come, unless the settings name a data set
    extractors/VARIANT/          the newest training states of all seeds, while they train
    extractors/VARIANT.safetensors  what is frozen of them
    heads/VARIANT-HEAD/          the newest states of a head, while it is at its tasks
    heads/VARIANT-HEAD.json      what was measured of all seeds
    learners/first-LEARNER.safetensors  states after the first task, which several variants share
    learners/VARIANT-LEARNER/    what was measured, and the final state, of a learner that keeps training
    results.json results.csv confusion.npz auxiliary.json auxiliary.png timing.json report.html accuracy.png
    tensorboard/                 curves of the trainings; they carry times, and nothing reads them

Each is written whole or not at all, with a checksum if a later call reads it, and what is there is not done again. So a
run that was killed resumes when the same command is given again, to the same results; and a run may grow (`growth`).
Seeds that it grew by have files of their own, such as extractors/VARIANT.seeds-5-6.safetensors.
"""

import contextlib
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jaxcil.evaluation.reports import curves, page
from jaxcil.evaluation.reports import results as reported
from jaxcil.experiment import auxiliary, growth, lanes, measuring, results
from jaxcil.experiment.auxiliary import AuxiliaryImages
from jaxcil.experiment.benchmark import content, load_benchmark
from jaxcil.experiment.fields import Settings
from jaxcil.experiment.lanes import Lane, Workplace
from jaxcil.experiment.pool import ImagePool
from jaxcil.experiment.settings import lanes as named_lanes
from jaxcil.experiment.settings import resolve, without_effect
from jaxcil.extractors.saved import suffix
from jaxcil.parallel import mesh
from jaxcil.synthesis.dataset import filters
from jaxcil.training import loop
from jaxcil.training.tasks import Surroundings
from jaxcil.workdir import files, interruption
from jaxcil.workdir import settings as fields
from jaxcil.workdir.progress import Progress
from jaxcil.workdir.record import TENSORBOARD, Timing, pin_data


def run(
    settings: Any, workdir: str | pathlib.Path, learners: Mapping[str, Callable[..., Any]] | None = None
) -> dict[str, Any]:
    """Completes a run, skipping what is done, and returns its results.

    Args:
      settings: `experiment.fields.Settings`, or a config of them.
      workdir: made if absent.
      learners: makers of learners from outside, by the names under which `settings.learners` lists them: functions of a
        `training.learner.Setup` and of what `learner_options` has for the name.

    Returns:
      The content of results.json.

    Raises:
      InputError: anything in the settings that cannot be done, before the first compilation.
    """
    outside = dict(learners or {})
    settings = resolve(settings, tuple(outside))
    benchmark = load_benchmark(settings)
    mesh.check_batch(len(settings.seeds), settings.training.batch_size)
    workdir = files.writable_directory(workdir)
    growth.pin(settings, workdir)
    pin_data(workdir, real_train=content(benchmark.train), real_test=content(benchmark.test))
    for sentence in without_effect(settings):
        print(f"jaxcil: {sentence}", file=sys.stderr, flush=True)
    timing = Timing(workdir / "timing.json")
    extra: AuxiliaryImages | None = None
    if auxiliary.needed(settings):
        with timing.of("synthesis"):
            extra = auxiliary.load_auxiliary(settings, benchmark.scenario, benchmark.shape, workdir)
    future, past = settings.auxiliary.future, settings.auxiliary.past
    pool = ImagePool(benchmark, extra, settings.stream, future.images_per_class, past.images_per_class)
    surroundings = Surroundings(chunk=settings.training.checkpoint_every, pause=interruption.check)
    place = Workplace(settings, pool, lanes.makers(outside), surroundings, timing, workdir)
    learners_of = {
        lane: lanes.make(lane, place) for lane in (Lane(*named) for named in named_lanes(settings))
    }
    groups = growth.grow(settings, workdir)
    if extra is not None:
        _pin_auxiliary(workdir, extra, benchmark.scenario.task_sizes[0])
    measured: dict[Lane, dict[str, dict[int, Any]]] = {}
    for lane, learner in learners_of.items():
        readings = measured.setdefault(lane, {})
        for number, seeds in enumerate(groups):
            surroundings.watch = _watch(workdir, f"{lane.label}{suffix(groups, number)}")
            for name, of_group in measuring.measured(
                lane, learner, seeds, suffix(groups, number), place
            ).items():
                of_reading = readings.setdefault(name, {})
                of_reading |= {seed: (of_group, index) for index, seed in enumerate(seeds)}
    return _finished(settings, workdir, benchmark, pool, extra, measured)


def _finished(
    settings: Settings,
    workdir: pathlib.Path,
    benchmark: Any,
    pool: ImagePool,
    extra: AuxiliaryImages | None,
    measured: dict[Lane, dict[str, dict[int, Any]]],
) -> dict[str, Any]:
    """Writes what a run leaves for others."""
    value = results.results(fields.as_dict(settings), benchmark, settings.seeds, measured)
    if extra is not None:
        if settings.synthetic.filter is not None:
            value["synthetic_filter"] = filters.summary(settings.synthetic.path, settings.synthetic.filter)  # type: ignore[arg-type]
        results.write_auxiliary(workdir, list(measured), pool, extra)
    results.write_confusion(workdir, settings.seeds, measured)
    curves.accuracy_curves(value, workdir / "accuracy.png", columns=min(3, len(settings.heads)))
    page.write_run_page(workdir, value)
    reported.write_results(workdir, value)  # last: results.json says that all is there
    return value


def _watch(workdir: pathlib.Path, label: str) -> Callable[[str, int, int], Any]:
    """Progress bars and curves of the trainings of a lane."""

    @contextlib.contextmanager
    def watch(name: str, total: int, done: int) -> Iterator[Callable[[loop.Report], None]]:
        scalars = workdir / TENSORBOARD
        with Progress(f"{name} {label}", total, "step", done, scalars=scalars) as progress:
            yield lambda report: progress.reach(report.done, report.note, report.means)

    return watch


def _pin_auxiliary(workdir: pathlib.Path, extra: AuxiliaryImages, first: int) -> None:
    """Pins images of classes to come and of first classes apart: a variant that a run grows by may need the others."""
    for name, taken in (
        ("auxiliary_future", extra.labels >= first),
        ("auxiliary_known", extra.labels < first),
    ):
        if taken.any():
            pin_data(workdir, added=True, **{name: (extra.images[taken], extra.labels[taken])})
